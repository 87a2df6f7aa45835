//! The machine, the store, and the wire between them and the model of etcd, which a random list of
//! moves plays with.

use std::collections::BTreeMap;
use std::time::Duration;

use dcs_watch::event::Event;
use dcs_watch::machine::{Input, Machine, Output, State, StreamStatus, Timing, step};
use dcs_watch::store::Store;
use dcs_watch::{Lsn, Namespace, ScopeId};
use proptest::prelude::*;

use crate::etcd_model::{Etcd, KEYS, VALUES, revision};

pub(crate) const TIMING: Timing = Timing {
    progress_every: Duration::from_secs(2),
    silence_after: Duration::from_secs(7),
    relist_every: Duration::from_secs(120),
};

/// What happens to etcd, to the wire, or to the time.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    Put(usize, usize),
    Delete(Vec<usize>),
    /// The stream delivers up to so many events, all of them so many times.
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
    /// The wire loses an event, which no etcd does.
    Lose,
    /// Requests are answered, or fail.
    Serve {
        fail: bool,
    },
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
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
pub(crate) struct Rig {
    pub(crate) etcd: Etcd,
    pub(crate) machine: Machine,
    pub(crate) store: Store,
    pub(crate) now: Duration,
    /// The request that etcd has not answered yet.
    pub(crate) request: Option<Output>,
    /// The open stream: events not delivered yet.
    pub(crate) wire: Option<Vec<Event>>,
    /// An event was lost, and no list has been taken since.
    pub(crate) lost: bool,
    /// As the machine reported it last.
    pub(crate) fresh: bool,
    pub(crate) lineage: u64,
    /// The positions as known to a reader of [`Applied`](dcs_watch::store::Applied) alone.
    pub(crate) positions: BTreeMap<ScopeId, Option<Lsn>>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let mut rig = Self {
            etcd: Etcd::new(1),
            machine: Machine::default(),
            store: Store::new(Namespace::default()),
            now: Duration::from_secs(1),
            request: None,
            wire: None,
            lost: false,
            fresh: false,
            lineage: 0,
            positions: BTreeMap::new(),
        };
        rig.feed(Input::Start);
        rig
    }

    pub(crate) fn feed(&mut self, input: Input) {
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
                    self.request = Some(request);
                }
            }
        }
        if gap {
            self.feed(Input::Gap);
        }
    }

    fn serve(&mut self, fail: bool) {
        let Some(request) = self.request.take() else {
            return;
        };
        if fail {
            self.feed(Input::Failed {
                error: "it broke".into(),
            });
            return;
        }
        let header = self.etcd.header();
        match request {
            Output::Connect { .. } => self.feed(Input::Connected),
            Output::List { .. } => {
                self.lost = false;
                self.serve_page(&[]);
            }
            Output::NextPage { revision, after } => {
                if revision != self.etcd.revision {
                    // The model keeps no old versions: as if compacted under the list.
                    self.feed(Input::Failed {
                        error: "compacted".into(),
                    });
                    return;
                }
                self.serve_page(&after);
            }
            Output::Open { from } => {
                if from < self.etcd.compacted {
                    self.feed(Input::Canceled {
                        compact_revision: self.etcd.compacted,
                        reason: String::new(),
                    });
                    return;
                }
                self.wire = Some(self.etcd.since(from));
                self.feed(Input::Opened { header });
            }
            _ => {}
        }
    }

    /// A page of three keys, after this one.
    fn serve_page(&mut self, after: &[u8]) {
        let header = self.etcd.header();
        let keys = self.etcd.keys.values();
        let mut records: Vec<_> = keys
            .filter(|record| record.key.as_slice() > after)
            .cloned()
            .collect();
        let more = records.len() > 3;
        records.truncate(3);
        self.feed(Input::Page {
            header,
            records,
            more,
        });
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
                self.feed(Input::Events {
                    header,
                    events: events.clone(),
                });
            }
        }
    }

    pub(crate) fn play(&mut self, one: Move) {
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
            Move::Answer { ordered } => self.answer(ordered),
            Move::Break => self.break_wire(),
            Move::Compact => self.etcd.compacted = self.etcd.revision,
            Move::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                self.feed(Input::Tick);
            }
            Move::Wipe { same_id } => {
                // No header shows a new history of the same id that is at once as long as the old
                // one. An event that does not fit shows it, or the next periodic list.
                self.lost |= same_id;
                self.etcd = Etcd::new(self.etcd.cluster_id + u64::from(!same_id));
                self.break_wire();
            }
            Move::Lose => self.lose(),
            Move::Serve { fail } => self.serve(fail),
        }
    }

    /// Ordered progress comes after the events; requested progress may overtake them.
    fn answer(&mut self, ordered: bool) {
        let Some(wire) = &self.wire else { return };
        if !ordered || wire.is_empty() {
            let header = self.etcd.header();
            self.feed(Input::Progress { header, ordered });
        }
    }

    fn break_wire(&mut self) {
        if self.wire.take().is_some() {
            self.feed(Input::Failed {
                error: "it broke".into(),
            });
        }
    }

    fn lose(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        if !wire.is_empty() {
            wire.remove(0);
            self.lost = true;
        }
    }

    /// Answers all requests and delivers all events, until the machine watches again.
    pub(crate) fn catch_up(&mut self) {
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
