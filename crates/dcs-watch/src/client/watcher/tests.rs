//! Which subscribers are woken by which events: the publisher alone, without an etcd.

use tokio::sync::watch;

use super::*;
use crate::event::Record;
use crate::key::{Namespace, ScopeId};
use crate::value::Lsn;
use crate::view::ScopeView;

const MEMBER: &str = r#"{"conn_url":"postgres://h:1/x","state":"running","role":"replica"}"#;

fn publisher() -> Publisher {
    let health = Health {
        freshness: Freshness::Unknown,
        lineage: 0,
        endpoint: String::new(),
        cluster_id: None,
        revision: 0,
        keys: 0,
        last_error: None,
    };
    let counters = Counters::new(Instant::now());
    Publisher::new(Views::new(Namespace::default(), health, counters))
}

fn record(key: &str, value: &str, revision: i64, version: i64) -> Record {
    Record {
        key: format!("/service/{key}").into_bytes(),
        value: value.into(),
        mod_revision: revision,
        create_revision: revision + 1 - version,
        version,
        lease: 0,
    }
}

fn put(key: &str, value: &str, revision: i64, version: i64) -> Event {
    Event::Put(record(key, value, revision, version))
}

fn delete(key: &str, revision: i64) -> Event {
    Event::Delete(record(key, "", revision, 0))
}

fn report(publisher: &mut Publisher, status: &StreamStatus, lineage: u64) {
    let known = Known {
        lineage,
        cluster_id: Some(7),
        ..Known::default()
    };
    publisher.status(status, "http://e:1", &known);
}

struct Subscriber(watch::Receiver<Arc<ScopeView>>);

impl Subscriber {
    fn of(publisher: &Publisher, scope: &str) -> Self {
        Self(publisher.views.scope(&ScopeId::new(scope)))
    }

    /// Whether the subscriber was woken since its last read, and the view.
    fn read(&mut self) -> (bool, Arc<ScopeView>) {
        let woken = self.0.has_changed().unwrap();
        (woken, self.0.borrow_and_update().clone())
    }

    fn woken(&mut self) -> bool {
        self.read().0
    }
}

#[test]
fn only_the_scope_that_changed_is_woken() {
    let mut publisher = publisher();
    let mut one = Subscriber::of(&publisher, "wk1");
    let mut two = Subscriber::of(&publisher, "wk2");
    publisher.event(put("wk1/leader", "pg1", 1, 1));
    let (woken, view) = one.read();
    assert!(woken);
    assert_eq!(view.leader.as_ref().unwrap().value, "pg1");
    assert!(!two.woken());
    assert_eq!(
        publisher.views.counters().published.load(Ordering::Relaxed),
        1
    );
}

#[test]
fn heartbeats_and_positions_wake_no_subscriber() {
    let mut publisher = publisher();
    publisher.event(put("wk1/members/pg1", MEMBER, 1, 1));
    let mut one = Subscriber::of(&publisher, "wk1");
    let mut scopes = publisher.views.scopes();
    let mut health = publisher.views.health();
    scopes.mark_unchanged();
    health.mark_unchanged();
    for version in 2..20 {
        let beat = MEMBER.replace(
            '}',
            &format!(",\"xlog_location\":{version},\"replay_lsn\":7}}"),
        );
        publisher.event(put("wk1/members/pg1", &beat, version, version));
        publisher.event(put("wk1/status", &beat, version + 100, version - 1));
        publisher.event(put("wk1/history", &beat, version + 200, version - 1));
    }
    assert!(!one.woken());
    assert!(!scopes.has_changed().unwrap() && !health.has_changed().unwrap());
    publisher.event(put(
        "wk1/members/pg1",
        &MEMBER.replace("running", "stopped"),
        300,
        20,
    ));
    assert!(one.woken());
}

#[test]
fn a_position_wakes_no_subscriber_and_is_seen_by_every_reader() {
    let mut publisher = publisher();
    publisher.event(put("wk1/leader", "pg1", 1, 1));
    let mut one = Subscriber::of(&publisher, "wk1");
    let mut two = Subscriber::of(&publisher, "wk1");
    let mut other = Subscriber::of(&publisher, "other");
    let held = Arc::clone(&one.0.borrow_and_update());
    let woken = |subscriber: &Subscriber| subscriber.0.has_changed().unwrap();
    let seen = |subscriber: &Subscriber| subscriber.0.borrow().last_position.map(|lsn| lsn.0);
    for version in 1..20 {
        let status = format!(r#"{{"optime":{},"slots":{{"pg2":1}}}}"#, version * 100);
        publisher.event(put("wk1/status", &status, version + 1, version));
        let position = u64::try_from(version * 100).unwrap();
        for subscriber in [&one, &two, &Subscriber::of(&publisher, "wk1")] {
            assert!(!woken(subscriber));
            assert_eq!(seen(subscriber), Some(position));
        }
    }
    assert_eq!(
        held.last_position, None,
        "a view that was read does not change"
    );
    assert_eq!(seen(&other), None);
    let counters = publisher.views.counters();
    assert_eq!(counters.published.load(Ordering::Relaxed), 0);
    assert!(!publisher.views.scopes().has_changed().unwrap());
    // Any other change brings the newest position along.
    publisher.event(put("wk1/leader", "pg2", 30, 2));
    for subscriber in [&mut one, &mut two] {
        let (woken, view) = subscriber.read();
        assert!(woken);
        assert_eq!(view.last_position, Some(Lsn(1900)));
    }
    // A malformed position is a problem like any other malformed value, until a good one comes.
    for (revision, status, position) in [
        (31, "{broken", None),
        (32, r#"{"optime":2000}"#, Some(Lsn(2000))),
    ] {
        publisher.event(put("wk1/status", status, revision, revision - 11));
        let (woken, view) = one.read();
        assert!(woken);
        assert_eq!(view.last_position, position);
        assert_eq!(view.problems.is_empty(), position.is_some());
    }
    publisher.event(delete("wk1/status", 33));
    assert!(!woken(&one));
    assert_eq!(seen(&one), None);
    assert!(!other.woken());
}

#[test]
fn a_position_that_a_list_brings_wakes_no_subscriber() {
    let mut publisher = publisher();
    publisher.event(put("wk1/leader", "pg1", 1, 1));
    publisher.event(put("wk1/status", r#"{"optime":1}"#, 2, 1));
    let one = Subscriber::of(&publisher, "wk1");
    publisher.event(Event::Init);
    publisher.event(Event::InitPut(record("wk1/leader", "pg1", 1, 1)));
    publisher.event(Event::InitPut(record(
        "wk1/status",
        r#"{"optime":5}"#,
        9,
        4,
    )));
    assert_eq!(one.0.borrow().last_position, Some(Lsn(1)), "half a list");
    publisher.event(Event::InitDone { revision: 10 });
    assert!(!one.0.has_changed().unwrap());
    assert_eq!(one.0.borrow().last_position, Some(Lsn(5)));
}

#[test]
fn a_list_without_changes_wakes_no_subscriber() {
    let mut publisher = publisher();
    publisher.event(put("wk1/leader", "pg1", 1, 1));
    publisher.event(put("wk1/members/pg1", MEMBER, 2, 1));
    let mut one = Subscriber::of(&publisher, "wk1");
    publisher.event(Event::Init);
    publisher.event(Event::InitPut(record("wk1/leader", "pg1", 1, 1)));
    publisher.event(Event::InitPut(record("wk1/members/pg1", MEMBER, 9, 4)));
    publisher.event(Event::InitDone { revision: 10 });
    report(
        &mut publisher,
        &StreamStatus::Listed {
            revision: 10,
            keys: 2,
        },
        0,
    );
    assert!(!one.woken());
}

#[test]
fn all_subscribers_are_woken_when_the_views_go_stale_and_fresh_again() {
    let mut publisher = publisher();
    publisher.event(put("wk1/leader", "pg1", 1, 1));
    let mut all = [
        Subscriber::of(&publisher, "wk1"),
        Subscriber::of(&publisher, "other"),
    ];
    let stale = StreamStatus::Stale {
        reason: "silence".into(),
    };
    for (status, freshness) in [
        (StreamStatus::Fresh, Freshness::Fresh),
        (
            stale,
            Freshness::Stale {
                reason: "silence".into(),
            },
        ),
        (StreamStatus::Fresh, Freshness::Fresh),
    ] {
        report(&mut publisher, &status, 0);
        for subscriber in &mut all {
            let (woken, view) = subscriber.read();
            assert!(woken && view.freshness == freshness, "{status:?} {view:?}");
        }
        assert_eq!(publisher.views.health().borrow().freshness, freshness);
        report(&mut publisher, &status, 0);
        assert!(all.iter_mut().all(|subscriber| !subscriber.woken()), "once");
    }
}

#[test]
fn a_new_lineage_reaches_every_view_together_with_its_list() {
    let mut publisher = publisher();
    publisher.event(put("wk1/leader", "pg1", 50, 1));
    let mut all = [
        Subscriber::of(&publisher, "wk1"),
        Subscriber::of(&publisher, "other"),
    ];
    report(
        &mut publisher,
        &StreamStatus::Lineage {
            lineage: 1,
            reason: String::new(),
        },
        1,
    );
    assert!(
        all.iter_mut().all(|subscriber| !subscriber.woken()),
        "not with the old content"
    );
    publisher.event(Event::Init);
    publisher.event(Event::InitPut(record("wk1/leader", "pg1", 2, 1)));
    publisher.event(Event::InitDone { revision: 3 });
    report(
        &mut publisher,
        &StreamStatus::Listed {
            revision: 3,
            keys: 1,
        },
        1,
    );
    for subscriber in &mut all {
        let (woken, view) = subscriber.read();
        assert!(woken && view.lineage == 1, "{view:?}");
    }
    let health = publisher.views.health().borrow().clone();
    assert_eq!(
        (health.lineage, health.cluster_id, health.revision),
        (1, Some(7), 3)
    );
}

#[test]
fn a_missing_event_is_reported_back() {
    let mut publisher = publisher();
    assert_eq!(
        publisher.event(put("wk1/leader", "pg1", 1, 1)),
        Reply::Continue
    );
    assert_eq!(publisher.event(put("wk1/leader", "pg1", 5, 3)), Reply::Gap);
}

#[test]
fn an_error_is_part_of_the_health_until_the_watch_is_open() {
    let mut publisher = publisher();
    report(
        &mut publisher,
        &StreamStatus::Broken {
            error: "refused".into(),
        },
        0,
    );
    let health = publisher.views.health();
    assert_eq!(health.borrow().last_error.as_deref(), Some("refused"));
    assert_eq!(health.borrow().endpoint, "http://e:1");
    report(&mut publisher, &StreamStatus::Resumed { after: 3 }, 0);
    assert_eq!(health.borrow().last_error, None);
}

#[test]
fn the_set_of_scopes_changes_when_a_scope_comes_or_goes() {
    let mut publisher = publisher();
    let mut scopes = publisher.views.scopes();
    publisher.event(put("wk1/leader", "pg1", 1, 1));
    assert!(scopes.has_changed().unwrap());
    assert_eq!(scopes.borrow_and_update().len(), 1);
    publisher.event(put("wk1/sync", "{}", 2, 1));
    assert!(!scopes.has_changed().unwrap());
}

#[test]
fn channels_without_a_subscriber_are_dropped_with_the_next_list() {
    let mut publisher = publisher();
    let kept = Subscriber::of(&publisher, "kept");
    drop(Subscriber::of(&publisher, "dropped"));
    publisher.event(Event::Init);
    publisher.event(Event::InitDone { revision: 1 });
    assert_eq!(publisher.views.lock().channels(), [&ScopeId::new("kept")]);
    drop(kept);
}
