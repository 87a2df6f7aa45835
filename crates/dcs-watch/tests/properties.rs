//! Whatever happens to events on their way, the view is what a new list would give.
//!
//! A model of etcd makes a random history; the machine and the store follow it through breaks,
//! compactions, repeated deliveries, members that lag, wiped clusters and suspended processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use dcs_watch::event::{Event, Record};
use dcs_watch::machine::{Header, Input, Machine, Output, State, StreamStatus, Timing, step};
use dcs_watch::store::Store;
use dcs_watch::{Lsn, Namespace, ScopeId, ScopeView};
use proptest::prelude::*;

const TIMING: Timing = Timing {
    progress_every: Duration::from_secs(2),
    silence_after: Duration::from_secs(7),
    relist_every: Duration::from_secs(120),
};

const KEYS: [&str; 14] = [
    "a/leader",
    "a/members/m1",
    "a/members/m2",
    "a/sync",
    "a/failover",
    "a/config",
    "a/status",
    "a/optime/leader",
    "b/leader",
    "b/members/m1",
    "b/status",
    "c/0/leader",
    "c/1/leader",
    "b/members/",
];

const VALUES: [&str; 12] = [
    "m1",
    "m2",
    "",
    "{}",
    "null",
    r#"{"conn_url":"postgres://h:1/x","role":"replica","xlog_location":1}"#,
    r#"{"conn_url":"postgres://h:1/x","role":"replica","xlog_location":2}"#,
    r#"{"leader":"m1","sync_standby":"m2","member":"m2","pause":true}"#,
    "{broken",
    r#"{"optime":67108864,"slots":{"m2":67108864}}"#,
    r#"{"optime":67108960}"#,
    "67109000",
];

/// An etcd that remembers everything until it is compacted.
#[derive(Debug, Clone)]
struct Etcd {
    cluster_id: u64,
    revision: i64,
    compacted: i64,
    keys: BTreeMap<Vec<u8>, Record>,
    history: Vec<Event>,
}

impl Etcd {
    fn new(cluster_id: u64) -> Self {
        Self {
            cluster_id,
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    fn header(&self) -> Header {
        Header {
            cluster_id: self.cluster_id,
            member_id: 1,
            revision: self.revision,
            raft_term: 2,
        }
    }

    fn put(&mut self, key: usize, value: usize) {
        self.revision += 1;
        let key = format!("/service/{}", KEYS[key]).into_bytes();
        let old = self.keys.get(&key);
        let record = Record {
            value: VALUES[value].into(),
            mod_revision: self.revision,
            create_revision: old.map_or(self.revision, |old| old.create_revision),
            version: old.map_or(1, |old| old.version + 1),
            lease: 0,
            key: key.clone(),
        };
        self.keys.insert(key, record.clone());
        self.history.push(Event::Put(record));
    }

    /// One revision for several deletes, as when a lease ends.
    fn delete(&mut self, keys: &[usize]) {
        let revision = self.revision + 1;
        for key in keys {
            let key = format!("/service/{}", KEYS[*key]).into_bytes();
            if self.keys.remove(&key).is_some() {
                self.revision = revision;
                let record = Record {
                    key,
                    mod_revision: revision,
                    ..Record::default()
                };
                self.history.push(Event::Delete(record));
            }
        }
    }

    fn since(&self, from: i64) -> Vec<Event> {
        self.history
            .iter()
            .filter(|event| revision(event) >= from)
            .cloned()
            .collect()
    }

    fn views(&self) -> BTreeMap<ScopeId, ScopeView> {
        let mut store = Store::new(Namespace::default());
        store.apply(Event::Init);
        for record in self.keys.values() {
            store.apply(Event::InitPut(record.clone()));
        }
        store.apply(Event::InitDone {
            revision: self.revision,
        });
        views(&store)
    }
}

fn revision(event: &Event) -> i64 {
    match event {
        Event::Put(record) | Event::Delete(record) => record.mod_revision,
        _ => 0,
    }
}

fn views(store: &Store) -> BTreeMap<ScopeId, ScopeView> {
    ["a", "b", "c/0", "c/1"]
        .into_iter()
        .map(|name| {
            let id: ScopeId = name.parse().unwrap();
            let mut view = store.view(&id);
            // Freshness and lineage are of the stream, not of what etcd holds.
            view.freshness = dcs_watch::Freshness::Fresh;
            view.lineage = 0;
            (id, view)
        })
        .collect()
}

#[derive(Debug, Clone)]
enum Move {
    Put(usize, usize),
    Delete(Vec<usize>),
    /// Let the stream deliver up to so many events, the first of them that often.
    Deliver(usize, usize),
    Answer {
        ordered: bool,
    },
    Break,
    Compact,
    Wait(u64),
    /// etcd is replaced with an empty one, of the same id or not.
    Wipe {
        same_id: bool,
    },
    /// The wire loses an event, which must never happen, and does.
    Lose,
    /// Requests are answered, or fail.
    Serve {
        fail: bool,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => (0..KEYS.len(), 0..VALUES.len()).prop_map(|(key, value)| Move::Put(key, value)),
        3 => prop::collection::vec(0..KEYS.len(), 1..4).prop_map(Move::Delete),
        6 => (1..5_usize, 1..3_usize).prop_map(|(count, times)| Move::Deliver(count, times)),
        1 => any::<bool>().prop_map(|ordered| Move::Answer { ordered }),
        2 => Just(Move::Break),
        1 => Just(Move::Compact),
        2 => (1..9_000_u64).prop_map(Move::Wait),
        1 => any::<bool>().prop_map(|same_id| Move::Wipe { same_id }),
        1 => Just(Move::Lose),
        8 => prop::bool::weighted(0.2).prop_map(|fail| Move::Serve { fail }),
    ];
    prop::collection::vec(one, 1..120)
}

/// The machine, the store, and the wire between them and etcd.
struct Rig {
    etcd: Etcd,
    machine: Machine,
    store: Store,
    now: Duration,
    /// Requests on their way.
    asked: Option<Output>,
    /// The open stream: events not delivered yet.
    wire: Option<Vec<Event>>,
    lost: bool,
    fresh: bool,
    lineage: u64,
    /// The positions as known to a reader of [`Applied`](dcs_watch::store::Applied) alone.
    positions: BTreeMap<ScopeId, Option<Lsn>>,
}

impl Rig {
    fn new() -> Self {
        let mut rig = Self {
            etcd: Etcd::new(1),
            machine: Machine::default(),
            store: Store::new(Namespace::default()),
            now: Duration::from_secs(1),
            asked: None,
            wire: None,
            lost: false,
            fresh: false,
            lineage: 0,
            positions: BTreeMap::new(),
        };
        rig.give(Input::Start);
        rig
    }

    fn give(&mut self, input: Input) {
        let (machine, outputs) = step(self.machine.clone(), input, self.now, &TIMING);
        self.machine = machine;
        let mut gap = false;
        for output in outputs {
            match output {
                Output::Event(event) => {
                    let applied = self.store.apply(event);
                    for id in applied.changed {
                        let position = self.store.view(&id).last_position;
                        self.positions.insert(id, position);
                    }
                    self.positions.extend(applied.positions);
                    gap |= applied.gap;
                }
                Output::Status(StreamStatus::Fresh) => self.fresh = true,
                Output::Status(StreamStatus::Stale { .. }) => self.fresh = false,
                Output::Status(StreamStatus::Lineage { lineage, .. }) => self.lineage = lineage,
                Output::Status(_) | Output::AskProgress => {}
                request => {
                    self.wire = None;
                    self.asked = Some(request);
                }
            }
        }
        if gap {
            self.give(Input::Gap);
        }
    }

    fn serve(&mut self, fail: bool) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        if fail {
            self.give(Input::Failed {
                error: "it broke".into(),
            });
            return;
        }
        let header = self.etcd.header();
        match asked {
            Output::Connect { .. } => self.give(Input::Connected),
            Output::List { .. } => {
                self.lost = false;
                let records = self.etcd.keys.values().take(3).cloned().collect();
                let more = self.etcd.keys.len() > 3;
                self.give(Input::Page {
                    header,
                    records,
                    more,
                });
            }
            Output::NextPage { revision, after } => {
                if revision != self.etcd.revision {
                    // The model keeps no old versions: as if compacted under the list.
                    self.give(Input::Failed {
                        error: "compacted".into(),
                    });
                    return;
                }
                let all: Vec<_> = self
                    .etcd
                    .keys
                    .values()
                    .filter(|record| record.key > after)
                    .cloned()
                    .collect();
                let more = all.len() > 3;
                self.give(Input::Page {
                    header,
                    records: all.into_iter().take(3).collect(),
                    more,
                });
            }
            Output::Open { from } => {
                if from < self.etcd.compacted {
                    self.give(Input::Canceled {
                        compact_revision: self.etcd.compacted,
                        reason: String::new(),
                    });
                    return;
                }
                self.wire = Some(self.etcd.since(from));
                self.give(Input::Opened { header });
            }
            _ => {}
        }
    }

    fn deliver(&mut self, count: usize, times: usize) {
        let Some(wire) = &mut self.wire else { return };
        if wire.is_empty() {
            return;
        }
        // etcd never splits a revision.
        let mut count = count.min(wire.len());
        while count < wire.len() && revision(&wire[count]) == revision(&wire[count - 1]) {
            count += 1;
        }
        let events: Vec<_> = wire.drain(..count).collect();
        let header = self.etcd.header();
        for _ in 0..times {
            if self.wire.is_some() {
                self.give(Input::Events {
                    header,
                    events: events.clone(),
                });
            }
        }
    }

    fn play(&mut self, one: Move) {
        match one {
            Move::Put(key, value) => {
                self.etcd.put(key, value);
                if let Some(wire) = &mut self.wire {
                    wire.extend(self.etcd.history.last().cloned());
                }
            }
            Move::Delete(keys) => {
                let before = self.etcd.history.len();
                self.etcd.delete(&keys);
                if let Some(wire) = &mut self.wire {
                    wire.extend_from_slice(&self.etcd.history[before..]);
                }
            }
            Move::Deliver(count, times) => self.deliver(count, times),
            Move::Answer { ordered } => {
                if let Some(wire) = &self.wire {
                    // Ordered progress comes after the events; a requested one may overtake them.
                    if !ordered || wire.is_empty() {
                        let header = self.etcd.header();
                        self.give(Input::Progress { header, ordered });
                    }
                }
            }
            Move::Break => {
                if self.wire.take().is_some() {
                    self.give(Input::Failed {
                        error: "it broke".into(),
                    });
                }
            }
            Move::Compact => self.etcd.compacted = self.etcd.revision,
            Move::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                self.give(Input::Tick);
            }
            Move::Wipe { same_id } => {
                // No header shows a new history of the same id that is at once as long as the old
                // one. An event that does not fit shows it, or the next periodic list.
                self.lost |= same_id;
                self.etcd = Etcd::new(self.etcd.cluster_id + u64::from(!same_id));
                if self.wire.take().is_some() {
                    self.give(Input::Failed {
                        error: "it broke".into(),
                    });
                }
            }
            Move::Lose => {
                if let Some(wire) = &mut self.wire {
                    // The last event of its revision, or the model would resume in the middle.
                    if !wire.is_empty() {
                        wire.remove(0);
                        self.lost = true;
                    }
                }
            }
            Move::Serve { fail } => self.serve(fail),
        }
    }

    /// Lets everything arrive that is on its way.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.serve(false);
            self.deliver(usize::MAX, 1);
        }
        assert!(
            matches!(self.machine.state, State::Watching { .. }),
            "{:?}",
            self.machine.state
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_view_is_what_a_fresh_list_would_give(moves in moves()) {
        let mut rig = Rig::new();
        for one in moves {
            rig.play(one);
        }
        rig.settle();
        if rig.lost {
            // An event that never arrived is noticed with the next periodic list.
            rig.now += TIMING.relist_every;
            rig.give(Input::Tick);
            rig.settle();
        }
        prop_assert_eq!(views(&rig.store), rig.etcd.views());
        for (id, view) in views(&rig.store) {
            let reported = rig.positions.get(&id).copied().flatten();
            prop_assert_eq!(reported, view.last_position, "{}", id);
        }
    }

    /// While the stream stands and nothing is on its way, the view is already right: not only in
    /// the end.
    #[test]
    fn the_view_is_right_whenever_the_wire_is_empty(moves in moves()) {
        let mut rig = Rig::new();
        for one in moves {
            if matches!(one, Move::Wipe { same_id: true }) {
                continue;
            }
            rig.play(one);
            let quiet = rig.wire.as_ref().is_some_and(Vec::is_empty);
            if quiet && !rig.lost && matches!(rig.machine.state, State::Watching { .. }) {
                prop_assert_eq!(views(&rig.store), rig.etcd.views());
            }
        }
    }

    /// No view is fresh that has not been complete within the silence limit.
    #[test]
    fn fresh_means_complete_within_the_limit(moves in moves()) {
        let mut rig = Rig::new();
        // The moments at which the view was last what etcd held.
        let mut complete = Duration::ZERO;
        for one in moves {
            if matches!(one, Move::Wipe { .. } | Move::Lose | Move::Answer { .. }) {
                continue;
            }
            if views(&rig.store) == rig.etcd.views() {
                complete = rig.now;
            }
            // What the wire holds back is the wire's: as long as something comes, the limit runs
            // from the last that came.
            let came = matches!(one, Move::Deliver(..));
            rig.play(one);
            if came || views(&rig.store) == rig.etcd.views() {
                complete = rig.now;
            }
            if rig.machine.known.fresh {
                // Events on an open stream that etcd has sent and the wire holds back are the
                // wire's: the limit runs from the last that came.
                let heard = rig.machine.known.heard.unwrap();
                prop_assert!(rig.now <= heard + TIMING.silence_after);
                if rig.wire.is_none() {
                    prop_assert!(rig.now <= complete + TIMING.silence_after * 2);
                }
            }
        }
    }

    /// Another history is never taken for the same one when its revision or cluster differs.
    #[test]
    fn a_wiped_etcd_is_another_lineage(before in 2..20_usize, same_id: bool) {
        let mut rig = Rig::new();
        rig.settle();
        for value in 0..before {
            rig.play(Move::Put(0, value % 2));
        }
        rig.settle();
        prop_assert_eq!(rig.lineage, 0);
        rig.play(Move::Wipe { same_id });
        rig.settle();
        prop_assert_eq!(rig.lineage, 1);
        prop_assert_eq!(views(&rig.store), rig.etcd.views());
    }

    /// The store alone: any order, any repetition, the last word counts.
    #[test]
    fn the_order_of_delivery_does_not_matter(
        changes in prop::collection::vec((0..KEYS.len(), prop::option::of(0..VALUES.len())), 1..40),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
    ) {
        let mut etcd = Etcd::new(1);
        for (key, value) in changes {
            match value {
                Some(value) => etcd.put(key, value),
                None => etcd.delete(&[key]),
            }
        }
        let mut store = Store::new(Namespace::default());
        if !etcd.history.is_empty() {
            for index in order {
                store.apply(etcd.history[index.index(etcd.history.len())].clone());
            }
        }
        let mut last: Vec<_> = etcd.history.clone();
        last.reverse();
        for event in last {
            store.apply(event);
        }
        prop_assert_eq!(views(&store), etcd.views());
    }

    /// Any position is read, with any other fields beside it, and changes no view otherwise.
    #[test]
    fn a_position_is_read_and_is_no_news(
        optimes in prop::collection::vec(any::<u64>(), 1..20),
        slots in prop::collection::btree_map("[a-z\"\\\\{}]{0,8}", any::<u64>(), 0..4),
        old: bool,
    ) {
        let mut store = Store::new(Namespace::default());
        let key = if old { "optime/leader" } else { "status" };
        for (version, optime) in (1..).zip(optimes) {
            let value = if old {
                optime.to_string()
            } else {
                serde_json::json!({"slots": slots, "optime": optime, "x": [slots]}).to_string()
            };
            let applied = store.apply(Event::Put(Record {
                key: format!("/service/a/{key}").into_bytes(),
                value: value.into_bytes(),
                mod_revision: version,
                create_revision: 1,
                version,
                lease: 0,
            }));
            prop_assert!(applied.changed.is_empty() && applied.problems.is_empty() && !applied.gap);
            let expected = Some(Lsn(optime)).filter(|lsn| lsn.0 > 0);
            prop_assert_eq!(store.view(&ScopeId::new("a")).last_position, expected);
        }
    }

    #[test]
    fn a_log_position_survives_being_written_and_read(bytes: u64, other: u64) {
        let lsn = Lsn(bytes);
        prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        prop_assert_eq!(lsn.to_string().to_lowercase().parse(), Ok(lsn));
        prop_assert_eq!(format!("{:08X}/{:08X}", bytes >> 32, bytes & 0xFFFF_FFFF).parse(), Ok(lsn));
        prop_assert_eq!(lsn < Lsn(other), bytes < other);
    }

    #[test]
    fn no_text_makes_a_log_position_panic(text in "[0-9A-Fa-fx/é+ -]{0,24}") {
        if let Ok(lsn) = text.parse::<Lsn>() {
            let digits = |text: &str| text.split('/').map(|half| u64::from_str_radix(half, 16).unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(digits(&text), digits(&lsn.to_string()));
        }
    }

    /// Any bytes as key and value.
    #[test]
    fn any_value_under_any_key_is_folded_without_a_panic(
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::collection::vec(any::<u8>(), 0..80),
        text in "[{}\\[\\]\":,a-z0-9/@%.]{0,60}",
    ) {
        let mut store = Store::new(Namespace::default());
        for (revision, prefix) in (1..).zip(["", "/service/", "/service/a/", "/service/a/members/"]) {
            for value in [value.clone(), text.clone().into_bytes()] {
                let key = [prefix.as_bytes(), &key].concat();
                let record = Record { key, value, mod_revision: revision, version: 1, ..Record::default() };
                store.apply(Event::Put(record.clone()));
                store.apply(Event::Delete(Record { mod_revision: revision + 100, ..record }));
            }
        }
        for (revision, key) in (1000..).zip(KEYS) {
            let key = format!("/service/{key}").into_bytes();
            for value in [value.clone(), text.clone().into_bytes()] {
                store.apply(Event::Put(Record { key: key.clone(), value, mod_revision: revision, version: 1, ..Record::default() }));
            }
        }
    }
}
