//! The recorded streams of five Patroni versions tell one story, and the view tells it too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use dcs_watch::event::Event;
use dcs_watch::recording::{What, parse};
use dcs_watch::store::{Applied, Store};
use dcs_watch::{Lsn, Namespace, Role, ScopeId, ScopeView};

const VERSIONS: [&str; 5] = ["2.1.7", "3.0.4", "3.3.11", "4.0.11", "4.1.5"];

/// A view after each event that changed it, under the last note before it.
struct Story {
    version: &'static str,
    chapters: Vec<(String, ScopeView)>,
    quiet: usize,
    /// The leader's position and who led, each time the position changed.
    positions: Vec<(Lsn, String)>,
    last: ScopeView,
}

fn replay(version: &'static str) -> Story {
    let path = format!(
        "{}/../../testdata/patroni-keys/patroni-{version}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap();
    let wk1 = ScopeId::new("wk1");
    let mut store = Store::new(Namespace::default());
    let (mut note, mut chapters, mut quiet) = (String::new(), Vec::new(), 0);
    let mut positions = Vec::new();
    for line in text.lines() {
        match parse(line).unwrap().what {
            What::Note(text) => note = text,
            What::Event(event) => {
                let applied = store.apply(event.clone());
                for (scope, position) in &applied.positions {
                    assert_eq!(scope, &wk1);
                    let view = store.view(&wk1);
                    assert_eq!(view.last_position, *position);
                    assert_eq!(applied.news, [], "{version}: a position is no news");
                    positions.push((position.unwrap(), leader_of(&view)));
                }
                assert!(!applied.gap, "{version}: no event is missing: {event:?}");
                assert_eq!(
                    applied.notices,
                    [],
                    "{version}: Patroni writes nothing malformed"
                );
                assert_eq!(
                    store.apply(event),
                    Applied::default(),
                    "{version}: twice is once"
                );
                if applied.news.is_empty() {
                    quiet += 1;
                } else {
                    assert_eq!(applied.news, std::slice::from_ref(&wk1));
                    chapters.push((note.clone(), store.view(&wk1)));
                }
            }
        }
    }
    let last = store.view(&wk1);
    Story {
        version,
        chapters,
        quiet,
        positions,
        last,
    }
}

impl Story {
    /// What something was, one after the other, without repetitions.
    fn of<T: PartialEq>(&self, look: impl Fn(&ScopeView) -> T) -> Vec<T> {
        let mut all: Vec<T> = self.chapters.iter().map(|(_, view)| look(view)).collect();
        all.dedup();
        all
    }

    fn during<T: PartialEq>(&self, note: &str, look: impl Fn(&ScopeView) -> T) -> Vec<T> {
        let of_note = self.chapters.iter().filter(|(of, _)| of.contains(note));
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
fn leadership_goes_from_hand_to_hand() {
    for story in VERSIONS.map(replay) {
        assert_eq!(
            story.of(leader_of),
            ["-", "pg1", "-", "pg2", "-", "pg1", "-", "pg2", "-"],
            "{}",
            story.version
        );
        assert_eq!(
            story.during("planned switchover", leader_of),
            ["pg1", "-", "pg2"]
        );
        assert_eq!(story.during("restart of the leader", leader_of), ["pg2"]);
        assert_eq!(story.during("pause, resume", leader_of), ["pg2"]);
        assert_eq!(
            story
                .during("crash of the leader pg2", leader_of)
                .last()
                .unwrap(),
            "pg1"
        );
        assert!(
            story
                .during("clean stop", leader_of)
                .ends_with(&["-", "pg2", "-"].map(str::to_owned))
        );
    }
}

#[test]
fn a_switchover_is_asked_for_before_the_leader_goes() {
    for story in VERSIONS.map(replay) {
        let asked = story.during("planned switchover", |view| {
            let request = view.failover.as_ref().map(|request| {
                let request = request.value.clone();
                assert_eq!(request.scheduled_at, None);
                (request.leader.unwrap(), request.candidate.unwrap())
            });
            (leader_of(view), request)
        });
        let request = Some(("pg1".to_owned(), "pg2".to_owned()));
        assert_eq!(
            asked,
            [
                ("pg1".to_owned(), request.clone()),
                ("-".to_owned(), request.clone()),
                ("pg2".to_owned(), request),
                ("pg2".to_owned(), None),
            ],
            "{}",
            story.version
        );
        assert_eq!(story.last.failover, None);
    }
}

#[test]
fn the_synchronous_standby_follows_the_leader_and_is_never_the_tagged_one() {
    for story in VERSIONS.map(replay) {
        let pairs = story.of(|view| {
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
            story.version
        );
        assert_eq!(
            pairs
                .iter()
                .filter(|found| **found == pair("pg1", "pg2"))
                .count(),
            2,
            "before the switchover and after the crash"
        );
        assert!(story.chapters.iter().all(|(_, view)| {
            view.sync.as_ref().is_none_or(|sync| {
                !sync.value.standbys.contains(&"pg3".to_owned()) && sync.value.quorum == 0
            })
        }));
    }
}

#[test]
fn a_pause_is_seen_and_ends() {
    for story in VERSIONS.map(replay) {
        assert_eq!(
            story.of(ScopeView::is_paused),
            [false, true, false],
            "{}",
            story.version
        );
        assert!(
            story
                .during("pause, resume", ScopeView::is_paused)
                .contains(&true)
        );
        assert_eq!(
            story.during("pause, resume", |view| {
                view.config.as_ref().unwrap().value.synchronous_mode
            }),
            [true]
        );
    }
}

#[test]
fn a_crashed_leader_vanishes_and_comes_back_as_a_replica() {
    for story in VERSIONS.map(replay) {
        let here = |view: &ScopeView| view.members.contains_key("pg2");
        assert_eq!(
            story.during("crash of the leader pg2", here),
            [true, false],
            "{}",
            story.version
        );
        let roles = story.during("pg2 comes back", |view| {
            view.members.get("pg2").map(|pg2| pg2.value.role.clone())
        });
        assert_eq!(
            roles.last().unwrap(),
            &Some(Role::Replica),
            "{}",
            story.version
        );
    }
}

#[test]
fn every_version_has_its_own_words_for_the_same_roles() {
    for story in VERSIONS.map(replay) {
        let roles = story.of(|view| view.members.get("pg2").map(|pg2| pg2.value.role.clone()));
        for role in [
            Role::Uninitialized,
            Role::Replica,
            Role::Primary,
            Role::Demoted,
        ] {
            assert!(
                roles.contains(&Some(role.clone())),
                "{}: {role} in {roles:?}",
                story.version
            );
        }
        assert!(
            !roles
                .iter()
                .flatten()
                .any(|role| matches!(role, Role::Other(_))),
            "{roles:?}"
        );
        // Older ones go straight to master, or say so in passing.
        if story.version.starts_with('4') {
            assert!(
                roles.contains(&Some(Role::Promoted)),
                "{}: {roles:?}",
                story.version
            );
        }
    }
}

#[test]
fn members_have_addresses_tags_and_timelines() {
    for story in VERSIONS.map(replay) {
        let (_, view) = story
            .chapters
            .iter()
            .rfind(|(note, _)| note == "pause, resume")
            .unwrap();
        assert_eq!(view.members.len(), 3);
        let pg3 = &view.members["pg3"].value;
        assert!(pg3.nosync && pg3.noloadbalance && !pg3.nofailover);
        for member in view.members.values() {
            assert_eq!(member.value.address.as_ref().unwrap().host, "127.0.0.1");
            assert_eq!(member.value.version.as_deref(), Some(story.version));
            assert_eq!(member.value.timeline, Some(2));
        }
        assert_eq!(
            view.leader_address(),
            view.members["pg2"].value.address.as_ref()
        );
        assert!(view.leader_lease != 0 && view.initialized);
    }
}

#[test]
fn the_leaders_position_only_ever_rises_and_every_leader_writes_it() {
    for story in VERSIONS.map(replay) {
        let (version, positions) = (story.version, &story.positions);
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
            story.last.last_position,
            positions.last().map(|(lsn, _)| *lsn)
        );
    }
}

/// What a standby is measured against after a crash: the crashed leader's last word, for as long as
/// nobody leads.
#[test]
fn a_crashed_leader_leaves_its_position_behind() {
    for story in VERSIONS.map(replay) {
        let crash = story.during("crash of the leader pg2", |view| {
            (leader_of(view), view.last_position)
        });
        let at = crash.iter().position(|(leader, _)| leader == "-").unwrap();
        let (_, last) = crash[at];
        assert!(last.is_some(), "{}", story.version);
        let of_pg2 = story.positions.iter().filter(|(_, leader)| leader == "pg2");
        assert!(
            of_pg2.map(|(lsn, _)| Some(*lsn)).any(|lsn| lsn == last),
            "{}: {crash:?}",
            story.version
        );
    }
}

#[test]
fn nobody_leads_at_the_end() {
    for story in VERSIONS.map(replay) {
        assert_eq!(leader(&story.last), "-", "{}", story.version);
        assert_eq!(story.last.leader_member(), None);
        assert!(
            story
                .last
                .members
                .values()
                .all(|member| member.value.state == "stopped"),
            "{:?}",
            story.last.members
        );
        assert_eq!(story.last.problems, []);
    }
}

#[test]
fn much_of_what_patroni_writes_is_no_news() {
    for story in VERSIONS.map(replay) {
        assert!(
            story.quiet > 50,
            "{}: {} of {}",
            story.version,
            story.quiet,
            story.chapters.len()
        );
    }
}

#[test]
fn a_list_taken_at_the_end_says_the_same_as_the_stream() {
    for version in VERSIONS {
        let path = format!(
            "{}/../../testdata/patroni-keys/patroni-{version}.jsonl",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut keys = std::collections::BTreeMap::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            match parse(line).unwrap().what {
                What::Event(Event::Put(record)) => {
                    keys.insert(record.key.clone(), record);
                }
                What::Event(Event::Delete(record)) => {
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
