//! The recorded streams of five Patroni versions show the same failovers, and so do the views.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use dcs_watch::event::Event;
use dcs_watch::recording::{Entry, parse};
use dcs_watch::store::{Applied, Store};
use dcs_watch::{Lsn, Namespace, Role, ScopeId, ScopeView};

const VERSIONS: [&str; 5] = ["2.1.7", "3.0.4", "3.3.11", "4.0.11", "4.1.5"];

/// What the store made of a recording.
struct Replay {
    version: &'static str,
    /// The view after each event that changed it, with the last note before the event.
    views: Vec<(String, ScopeView)>,
    /// The number of events that changed no view.
    unchanged: usize,
    /// The leader's position and the leader, each time the position changed.
    positions: Vec<(Lsn, String)>,
    last: ScopeView,
}

fn replay(version: &'static str) -> Replay {
    let path = format!(
        "{}/../../testdata/patroni-keys/patroni-{version}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap();
    let wk1 = ScopeId::new("wk1");
    let mut store = Store::new(Namespace::default());
    let (mut note, mut views, mut unchanged) = (String::new(), Vec::new(), 0);
    let mut positions = Vec::new();
    for line in text.lines() {
        match parse(line).unwrap().entry {
            Entry::Note(text) => note = text,
            Entry::Event(event) => {
                let applied = store.apply(event.clone());
                for (scope, position) in &applied.positions {
                    assert_eq!(scope, &wk1);
                    let view = store.view(&wk1);
                    assert_eq!(view.last_position, *position);
                    assert_eq!(applied.changed, [], "{version}: a position changes no view");
                    positions.push((position.unwrap(), leader_of(&view)));
                }
                assert!(!applied.gap, "{version}: no event is missing: {event:?}");
                assert_eq!(
                    applied.problems,
                    [],
                    "{version}: Patroni writes nothing malformed"
                );
                assert_eq!(
                    store.apply(event),
                    Applied::default(),
                    "{version}: a repeated event changes nothing"
                );
                if applied.changed.is_empty() {
                    unchanged += 1;
                } else {
                    assert_eq!(applied.changed, std::slice::from_ref(&wk1));
                    views.push((note.clone(), store.view(&wk1)));
                }
            }
        }
    }
    let last = store.view(&wk1);
    Replay {
        version,
        views,
        unchanged,
        positions,
        last,
    }
}

impl Replay {
    /// What `look` returns for one view after the other, without repetitions.
    fn of<T: PartialEq>(&self, look: impl Fn(&ScopeView) -> T) -> Vec<T> {
        let mut all: Vec<T> = self.views.iter().map(|(_, view)| look(view)).collect();
        all.dedup();
        all
    }

    /// As [`of`](Self::of), for the views whose note contains the text.
    fn during<T: PartialEq>(&self, note: &str, look: impl Fn(&ScopeView) -> T) -> Vec<T> {
        let of_note = self.views.iter().filter(|(of, _)| of.contains(note));
        let mut all: Vec<T> = of_note.map(|(_, view)| look(view)).collect();
        assert!(!all.is_empty(), "{}: nothing under {note:?}", self.version);
        all.dedup();
        all
    }
}

fn leader(view: &ScopeView) -> &str {
    view.leader.as_ref().map_or("-", |leader| &leader.value)
}

fn leader_of(view: &ScopeView) -> String {
    leader(view).to_owned()
}

#[test]
fn the_leaders_follow_one_another_as_recorded() {
    for recording in VERSIONS.map(replay) {
        assert_eq!(
            recording.of(leader_of),
            ["-", "pg1", "-", "pg2", "-", "pg1", "-", "pg2", "-"],
            "{}",
            recording.version
        );
        assert_eq!(
            recording.during("planned switchover", leader_of),
            ["pg1", "-", "pg2"]
        );
        assert_eq!(
            recording.during("restart of the leader", leader_of),
            ["pg2"]
        );
        assert_eq!(recording.during("pause, resume", leader_of), ["pg2"]);
        assert_eq!(
            recording
                .during("crash of the leader pg2", leader_of)
                .last()
                .unwrap(),
            "pg1"
        );
        assert!(
            recording
                .during("clean stop", leader_of)
                .ends_with(&["-", "pg2", "-"].map(str::to_owned))
        );
    }
}

#[test]
fn a_switchover_is_requested_before_the_leader_key_goes() {
    for recording in VERSIONS.map(replay) {
        let requests = recording.during("planned switchover", |view| {
            let request = view.failover.as_ref().map(|request| {
                let request = request.value.clone();
                assert_eq!(request.scheduled_at, None);
                (request.leader.unwrap(), request.candidate.unwrap())
            });
            (leader_of(view), request)
        });
        let request = Some(("pg1".to_owned(), "pg2".to_owned()));
        assert_eq!(
            requests,
            [
                ("pg1".to_owned(), request.clone()),
                ("-".to_owned(), request.clone()),
                ("pg2".to_owned(), request),
                ("pg2".to_owned(), None),
            ],
            "{}",
            recording.version
        );
        assert_eq!(recording.last.failover, None);
    }
}

#[test]
fn the_synchronous_standby_follows_the_leader_and_is_never_the_tagged_one() {
    for recording in VERSIONS.map(replay) {
        let pairs = recording.of(|view| {
            view.sync
                .as_ref()
                .map(|sync| (sync.value.leader.clone(), sync.value.standbys.clone()))
        });
        let pair =
            |leader: &str, standby: &str| Some((Some(leader.to_owned()), vec![standby.to_owned()]));
        let at = |wanted| pairs.iter().position(|pair| *pair == wanted);
        let order = [at(pair("pg1", "pg2")), at(pair("pg2", "pg1"))];
        assert!(
            order[0].is_some() && order[0] < order[1],
            "{}: {pairs:?}",
            recording.version
        );
        assert_eq!(
            pairs
                .iter()
                .filter(|found| **found == pair("pg1", "pg2"))
                .count(),
            2,
            "before the switchover and after the crash"
        );
        assert!(recording.views.iter().all(|(_, view)| {
            view.sync.as_ref().is_none_or(|sync| {
                !sync.value.standbys.contains(&"pg3".to_owned()) && sync.value.quorum == 0
            })
        }));
    }
}

#[test]
fn a_pause_begins_and_ends() {
    for recording in VERSIONS.map(replay) {
        assert_eq!(
            recording.of(ScopeView::is_paused),
            [false, true, false],
            "{}",
            recording.version
        );
        assert!(
            recording
                .during("pause, resume", ScopeView::is_paused)
                .contains(&true)
        );
        assert_eq!(
            recording.during("pause, resume", |view| {
                view.config.as_ref().unwrap().value.synchronous_mode
            }),
            [true]
        );
    }
}

#[test]
fn a_crashed_leader_vanishes_and_comes_back_as_a_replica() {
    for recording in VERSIONS.map(replay) {
        let here = |view: &ScopeView| view.members.contains_key("pg2");
        assert_eq!(
            recording.during("crash of the leader pg2", here),
            [true, false],
            "{}",
            recording.version
        );
        let roles = recording.during("pg2 comes back", |view| {
            view.members.get("pg2").map(|pg2| pg2.value.role.clone())
        });
        assert_eq!(
            roles.last().unwrap(),
            &Some(Role::Replica),
            "{}",
            recording.version
        );
    }
}

#[test]
fn the_roles_of_every_version_are_known() {
    for recording in VERSIONS.map(replay) {
        let roles = recording.of(|view| view.members.get("pg2").map(|pg2| pg2.value.role.clone()));
        for role in [
            Role::Uninitialized,
            Role::Replica,
            Role::Primary,
            Role::Demoted,
        ] {
            assert!(
                roles.contains(&Some(role.clone())),
                "{}: {role} in {roles:?}",
                recording.version
            );
        }
        assert!(
            !roles
                .iter()
                .flatten()
                .any(|role| matches!(role, Role::Other(_))),
            "{roles:?}"
        );
        // Before 4.0 this step is left out, or is too short to be recorded.
        if recording.version.starts_with('4') {
            assert!(
                roles.contains(&Some(Role::Promoted)),
                "{}: {roles:?}",
                recording.version
            );
        }
    }
}

#[test]
fn members_have_addresses_tags_and_timelines() {
    for recording in VERSIONS.map(replay) {
        let (_, view) = recording
            .views
            .iter()
            .rfind(|(note, _)| note == "pause, resume")
            .unwrap();
        assert_eq!(view.members.len(), 3);
        let pg3 = &view.members["pg3"].value;
        assert!(pg3.nosync && pg3.noloadbalance && !pg3.nofailover);
        for member in view.members.values() {
            assert_eq!(member.value.address.as_ref().unwrap().host, "127.0.0.1");
            assert_eq!(member.value.version.as_deref(), Some(recording.version));
            assert_eq!(member.value.timeline, Some(2));
        }
        assert_eq!(
            view.leader_address(),
            view.members["pg2"].value.address.as_ref()
        );
        assert!(view.leader_lease != 0 && view.system.is_some());
    }
}

#[test]
fn the_leaders_position_only_ever_rises_and_every_leader_writes_it() {
    for recording in VERSIONS.map(replay) {
        let (version, positions) = (recording.version, &recording.positions);
        assert!(positions.len() > 5, "{version}: {positions:?}");
        assert!(
            positions.is_sorted_by_key(|(lsn, _)| lsn),
            "{version}: {positions:?}"
        );
        let mut leaders: Vec<_> = positions
            .iter()
            .map(|(_, leader)| leader.as_str())
            .collect();
        leaders.dedup();
        let mut order = leaders.iter();
        for name in ["pg1", "pg2", "pg1", "pg2"] {
            assert!(
                order.any(|leader| *leader == name),
                "{version}: {leaders:?}"
            );
        }
        assert_eq!(
            recording.last.last_position,
            positions.last().map(|(lsn, _)| *lsn)
        );
    }
}

/// After a crash standbys are compared with the last position of the crashed leader, until a new
/// member leads.
#[test]
fn the_position_of_a_crashed_leader_stays_until_a_new_one_leads() {
    for recording in VERSIONS.map(replay) {
        let crash = recording.during("crash of the leader pg2", |view| {
            (leader_of(view), view.last_position)
        });
        let at = crash.iter().position(|(leader, _)| leader == "-").unwrap();
        let (_, last) = crash[at];
        assert!(last.is_some(), "{}", recording.version);
        let of_pg2 = recording
            .positions
            .iter()
            .filter(|(_, leader)| leader == "pg2");
        assert!(
            of_pg2.map(|(lsn, _)| Some(*lsn)).any(|lsn| lsn == last),
            "{}: {crash:?}",
            recording.version
        );
    }
}

#[test]
fn no_member_leads_at_the_end() {
    for recording in VERSIONS.map(replay) {
        assert_eq!(leader(&recording.last), "-", "{}", recording.version);
        assert_eq!(recording.last.leader_member(), None);
        assert!(
            recording
                .last
                .members
                .values()
                .all(|member| member.value.state == "stopped"),
            "{:?}",
            recording.last.members
        );
        assert_eq!(recording.last.problems, []);
    }
}

#[test]
fn most_events_change_no_view() {
    for recording in VERSIONS.map(replay) {
        assert!(
            recording.unchanged > 50,
            "{}: {} of {}",
            recording.version,
            recording.unchanged,
            recording.views.len()
        );
    }
}

#[test]
fn a_list_at_the_end_gives_the_same_view_as_the_stream() {
    for version in VERSIONS {
        let path = format!(
            "{}/../../testdata/patroni-keys/patroni-{version}.jsonl",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut keys = std::collections::BTreeMap::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            match parse(line).unwrap().entry {
                Entry::Event(Event::Put(record)) => {
                    keys.insert(record.key.clone(), record);
                }
                Entry::Event(Event::Delete(record)) => {
                    keys.remove(&record.key);
                }
                _ => {}
            }
        }
        let mut store = Store::new(Namespace::default());
        store.apply(Event::Init);
        for record in keys.into_values() {
            store.apply(Event::InitPut(record));
        }
        store.apply(Event::InitDone { revision: 1000 });
        assert_eq!(
            store.view(&ScopeId::new("wk1")),
            replay(version).last,
            "{version}"
        );
    }
}
