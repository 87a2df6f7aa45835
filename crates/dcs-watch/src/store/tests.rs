//! The fold, event by event.

mod positions;

use super::content::MAX_UNSCOPED;
use super::*;
use crate::value::{Lsn, Role};

fn record(key: &str, value: &str, revision: i64, version: i64) -> Record {
    Record {
        key: format!("/service/{key}").into_bytes(),
        value: value.as_bytes().to_vec(),
        mod_revision: revision,
        create_revision: revision - version + 1,
        version,
        lease: 0,
    }
}

fn put(key: &str, value: &str, revision: i64, version: i64) -> Event {
    Event::Put(record(key, value, revision, version))
}

fn delete(key: &str, revision: i64) -> Event {
    Event::Delete(Record {
        version: 0,
        ..record(key, "", revision, 1)
    })
}

fn store(events: impl IntoIterator<Item = Event>) -> Store {
    let mut store = Store::new(Namespace::default());
    for event in events {
        store.apply(event);
    }
    store
}

fn list(store: &mut Store, records: &[Record], revision: i64) -> Applied {
    store.apply(Event::Init);
    for record in records {
        store.apply(Event::InitPut(record.clone()));
    }
    store.apply(Event::InitDone { revision })
}

fn wk1() -> ScopeId {
    ScopeId::new("wk1")
}

fn leader(store: &Store) -> Option<String> {
    store.view(&wk1()).leader.map(|leader| leader.value)
}

const REPLICA: &str =
    r#"{"conn_url":"postgres://h:5432/x","state":"running","role":"replica","xlog_location":1}"#;
const FURTHER: &str = r#"{"conn_url":"postgres://h:5432/x","state":"running","role":"replica","xlog_location":2,"replay_lsn":7,"receive_lsn":9}"#;
const PRIMARY: &str = r#"{"conn_url":"postgres://h:5432/x","state":"running","role":"primary"}"#;

#[test]
fn a_scope_is_built_from_its_keys() {
    let store = store([
        put("wk1/initialize", "", 1, 1),
        put("wk1/initialize", "42", 2, 2),
        put("wk1/leader", "pg1", 3, 1),
        put("wk1/members/pg1", PRIMARY, 4, 1),
        put("wk1/sync", r#"{"leader":"pg1","sync_standby":"pg2"}"#, 5, 1),
        put("wk1/failover", r#"{"leader":"pg1"}"#, 6, 1),
        put("wk1/config", r#"{"pause":true}"#, 7, 1),
        put("wk1/failsafe", r#"{"pg1":"http://h:8008/patroni"}"#, 8, 1),
    ]);
    let view = store.view(&wk1());
    assert_eq!(view.leader_member().unwrap().role, Role::Primary);
    assert_eq!(view.leader_address().unwrap().to_string(), "h:5432");
    assert_eq!(view.sync.as_ref().unwrap().value.standbys, ["pg2"]);
    assert_eq!(view.failover.as_ref().unwrap().mod_revision, 6);
    assert_eq!(view.failsafe.as_ref().unwrap().value.len(), 1);
    assert!(view.is_paused() && view.initialized && view.exists());
    assert_eq!(store.scopes(), BTreeSet::from([wk1()]));
}

#[test]
fn a_scope_that_is_not_there_has_an_empty_view() {
    let store = store([put("wk1/leader", "pg1", 1, 1)]);
    let other = ScopeId::new("other");
    assert_eq!(store.view(&other), ScopeView::empty(other));
}

#[test]
fn both_layouts_live_side_by_side() {
    let store = store([
        put("citus/0/leader", "a", 1, 1),
        put("citus/1/leader", "b", 2, 1),
        put("citus/leader", "c", 3, 1),
    ]);
    let names: Vec<_> = store.scopes().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["citus", "citus/0", "citus/1"]);
    assert_eq!(
        store
            .view(&"citus/1".parse().unwrap())
            .leader
            .unwrap()
            .value,
        "b"
    );
}

#[test]
fn older_news_never_overwrites_newer() {
    let mut store = store([
        put("wk1/leader", "pg1", 5, 1),
        put("wk1/leader", "pg2", 9, 2),
    ]);
    for old in [
        put("wk1/leader", "pg1", 5, 1),
        put("wk1/leader", "pg3", 8, 1),
        put("wk1/leader", "pg3", 9, 2),
        delete("wk1/leader", 9),
        delete("wk1/leader", 7),
    ] {
        assert_eq!(store.apply(old.clone()), Applied::default(), "{old:?}");
        assert_eq!(leader(&store).as_deref(), Some("pg2"));
    }
}

#[test]
fn a_deleted_key_is_not_raised_by_older_news() {
    let mut store = store([put("wk1/leader", "pg1", 5, 1), delete("wk1/leader", 9)]);
    assert_eq!(
        store.apply(put("wk1/leader", "pg1", 8, 2)),
        Applied::default()
    );
    assert_eq!(leader(&store), None);
    let again = store.apply(put("wk1/leader", "pg2", 10, 1));
    assert!(!again.gap);
    assert_eq!(leader(&store).as_deref(), Some("pg2"));
}

#[test]
fn events_that_a_list_already_has_are_old() {
    let mut store = store([]);
    list(&mut store, &[record("wk1/leader", "pg2", 9, 2)], 20);
    for old in [
        put("wk1/leader", "pg3", 20, 3),
        delete("wk1/leader", 15),
        put(
            "wk1/sync",
            r#"{"leader":"pg2","sync_standby":"pg9"}"#,
            18,
            1,
        ),
    ] {
        assert_eq!(store.apply(old), Applied::default());
    }
    assert_eq!(leader(&store).as_deref(), Some("pg2"));
    assert_eq!(store.view(&wk1()).sync, None);
    store.apply(put("wk1/leader", "pg3", 21, 3));
    assert_eq!(leader(&store).as_deref(), Some("pg3"));
}

#[test]
fn half_a_list_is_never_seen() {
    let mut store = store([put("wk1/leader", "pg1", 5, 1), put("wk2/leader", "x", 6, 1)]);
    store.apply(Event::Init);
    store.apply(Event::InitPut(record("wk1/leader", "pg2", 9, 2)));
    assert_eq!(leader(&store).as_deref(), Some("pg1"));
    assert_eq!(store.scopes().len(), 2);
    // The list broke off, another begins: nothing of the first is left.
    store.apply(Event::Init);
    store.apply(Event::InitPut(record("wk2/leader", "y", 8, 2)));
    let applied = store.apply(Event::InitDone { revision: 10 });
    assert_eq!(leader(&store), None);
    assert_eq!(store.scopes().len(), 1);
    assert_eq!(applied.changed, [wk1(), ScopeId::new("wk2")]);
}

#[test]
fn a_list_end_without_a_beginning_is_nothing() {
    let mut store = store([put("wk1/leader", "pg1", 5, 1)]);
    assert_eq!(
        store.apply(Event::InitPut(record("wk1/leader", "x", 9, 1))),
        Applied::default()
    );
    assert_eq!(
        store.apply(Event::InitDone { revision: 10 }),
        Applied::default()
    );
    assert_eq!(leader(&store).as_deref(), Some("pg1"));
}

#[test]
fn what_vanished_across_a_list_is_told_once() {
    let mut store = store([
        put("wk1/leader", "pg1", 5, 1),
        put("wk1/members/pg1", PRIMARY, 6, 1),
        put("wk1/status", "{}", 7, 1),
        put("wk1/members/pg2", REPLICA, 8, 1),
        delete("wk1/members/pg2", 9),
    ]);
    let applied = list(&mut store, &[record("wk1/members/pg1", PRIMARY, 6, 1)], 20);
    let vanished: Vec<_> = applied
        .vanished
        .iter()
        .map(|key| String::from_utf8_lossy(key).into_owned())
        .collect();
    assert_eq!(vanished, ["/service/wk1/leader", "/service/wk1/status"]);
    assert_eq!(applied.changed, [wk1()]);
    let again = list(&mut store, &[record("wk1/members/pg1", PRIMARY, 6, 1)], 21);
    assert_eq!(again, Applied::default());
}

#[test]
fn heartbeats_are_no_news_but_keep_their_revision() {
    let mut store = store([put("wk1/members/pg1", REPLICA, 5, 1)]);
    let applied = store.apply(put("wk1/members/pg1", FURTHER, 6, 2));
    assert_eq!(applied, Applied::default());
    assert_eq!(store.view(&wk1()).members["pg1"].mod_revision, 6);
    let applied = store.apply(put("wk1/members/pg1", PRIMARY, 7, 3));
    assert_eq!(applied.changed, [wk1()]);
}

#[test]
fn history_strangers_and_keys_without_a_position_change_nothing() {
    let mut store = store([put("wk1/leader", "pg1", 1, 1)]);
    for key in [
        "wk1/status",
        "wk1/history",
        "wk1/optime/leader",
        "wk1/else",
        "new/status",
    ] {
        assert_eq!(
            store.apply(put(key, "{}", 5, 1)),
            Applied::default(),
            "{key}"
        );
        assert_eq!(store.apply(delete(key, 6)), Applied::default(), "{key}");
    }
    assert_eq!(store.scopes().len(), 1);
}

#[test]
fn a_leader_key_put_anew_is_news_even_with_the_same_name() {
    let mut store = store([put("wk1/leader", "pg1", 1, 1)]);
    assert_eq!(store.apply(put("wk1/leader", "pg1", 2, 2)).changed, [wk1()]);
    store.apply(delete("wk1/leader", 3));
    store.apply(put("wk1/leader", "pg1", 4, 1));
    assert_eq!(store.view(&wk1()).leader.unwrap().create_revision, 4);
}

#[test]
fn the_leaders_lease_comes_and_goes_with_the_key() {
    let mut leased = record("wk1/leader", "pg1", 1, 1);
    leased.lease = 77;
    let mut store = store([Event::Put(leased)]);
    assert_eq!(store.view(&wk1()).leader_lease, 77);
    store.apply(delete("wk1/leader", 2));
    assert_eq!(store.view(&wk1()).leader_lease, 0);
}

#[test]
fn a_request_that_is_cleared_is_gone() {
    for cleared in ["{}", "", "null"] {
        let mut store = store([put("wk1/failover", "a:b", 1, 1)]);
        assert_eq!(
            store.apply(put("wk1/failover", cleared, 2, 2)).changed,
            [wk1()]
        );
        assert_eq!(store.view(&wk1()).failover, None);
        assert_eq!(
            store.apply(put("wk1/failover", cleared, 3, 3)),
            Applied::default()
        );
    }
}

#[test]
fn scopes_come_and_go() {
    let mut store = store([]);
    assert!(store.apply(put("wk1/leader", "pg1", 1, 1)).scopes_changed);
    assert!(
        !store
            .apply(put("wk1/members/pg1", PRIMARY, 2, 1))
            .scopes_changed
    );
    assert!(!store.apply(delete("wk1/leader", 3)).scopes_changed);
    assert!(store.apply(delete("wk1/members/pg1", 4)).scopes_changed);
    assert!(store.scopes().is_empty());
    assert!(list(&mut store, &[record("wk1/leader", "pg1", 5, 1)], 5).scopes_changed);
    assert!(!list(&mut store, &[record("wk1/leader", "pg2", 6, 2)], 6).scopes_changed);
    assert!(list(&mut store, &[], 7).scopes_changed);
}

#[test]
fn a_missing_event_is_noticed() {
    let base = || store([put("wk1/leader", "pg1", 5, 3), put("wk1/sync", "{}", 6, 1)]);
    assert!(!base().apply(put("wk1/leader", "pg2", 9, 4)).gap);
    assert!(
        base().apply(put("wk1/leader", "pg2", 9, 5)).gap,
        "a put is missing"
    );
    assert!(
        base().apply(put("wk1/leader", "pg2", 9, 1)).gap,
        "a delete is missing"
    );
    assert!(
        base().apply(put("wk1/members/x", REPLICA, 9, 2)).gap,
        "its creation is missing"
    );
    assert!(
        base().apply(delete("wk1/members/x", 9)).gap,
        "its creation is missing"
    );
    let mut store = base();
    assert!(!store.apply(delete("wk1/sync", 9)).gap);
    assert!(store.apply(delete("wk1/sync", 10)).gap, "a put is missing");
    // Also for keys that are of no interest: they are in the same stream.
    assert!(base().apply(put("wk1/status", "{}", 9, 7)).gap);
}

#[test]
fn a_malformed_leader_is_no_leader_and_a_problem() {
    let mut store = store([put("wk1/leader", "pg1", 1, 1)]);
    let applied = store.apply(put("wk1/leader", "", 2, 2));
    assert_eq!(applied.changed, [wk1()]);
    assert_eq!(applied.problems.len(), 1);
    assert_eq!(applied.problems[0].scope, Some(wk1()));
    let view = store.view(&wk1());
    assert_eq!(view.leader, None);
    assert_eq!(view.problems[0].key, "/service/wk1/leader");
    assert_eq!(view.problems[0].mod_revision, 2);
    assert_eq!(store.malformed(), (0, 1));
    let mended = store.apply(put("wk1/leader", "pg1", 3, 3));
    assert_eq!(mended.changed, [wk1()]);
    assert!(store.view(&wk1()).problems.is_empty());
}

#[test]
fn a_malformed_value_of_each_key_counts_as_absent() {
    for (key, good) in [
        ("wk1/leader", "pg1"),
        ("wk1/members/pg1", PRIMARY),
        ("wk1/sync", r#"{"leader":"a"}"#),
        ("wk1/failover", "a:b"),
        ("wk1/config", "{}"),
        ("wk1/failsafe", "{}"),
        ("wk1/status", r#"{"optime":7}"#),
        ("wk1/optime/leader", "7"),
    ] {
        let mut store = store([put("wk1/initialize", "1", 1, 1), put(key, good, 2, 1)]);
        let whole = store.view(&wk1());
        let mut bad = record(key, "", 3, 2);
        bad.value = vec![0xff, b'{'];
        store.apply(Event::Put(bad));
        let view = store.view(&wk1());
        let empty = ScopeView {
            initialized: true,
            problems: view.problems.clone(),
            ..ScopeView::empty(wk1())
        };
        assert_eq!(view, empty, "{key}");
        assert_eq!(view.problems.len(), 1, "{key}");
        store.apply(put(key, good, 4, 3));
        assert!(
            !whole.is_equivalent(&view) && store.view(&wk1()).problems.is_empty(),
            "{key}"
        );
    }
}

#[test]
fn a_bad_value_is_told_once_for_as_long_as_it_stays_the_same() {
    let mut store = store([]);
    assert_eq!(
        store
            .apply(put("wk1/members/pg1", "[]", 1, 1))
            .problems
            .len(),
        1
    );
    assert_eq!(
        store.apply(put("wk1/members/pg1", "[1]", 2, 2)),
        Applied::default()
    );
    assert_eq!(
        store
            .apply(put("wk1/members/pg1", "null", 3, 3))
            .problems
            .len(),
        1
    );
    assert_eq!(store.malformed(), (0, 3), "but each is counted");
    // A list that says the same is no news either.
    let listed = list(&mut store, &[record("wk1/members/pg1", "null", 3, 3)], 9);
    assert_eq!(listed, Applied::default());
    assert_eq!(store.view(&wk1()).problems.len(), 1);
    assert_eq!(
        list(&mut store, &[record("wk1/members/pg1", "7", 10, 4)], 10)
            .problems
            .len(),
        1
    );
}

#[test]
fn a_malformed_key_is_a_problem_of_its_scope_until_it_is_deleted() {
    let mut store = store([put("wk1/leader", "pg1", 1, 1)]);
    let applied = store.apply(put("wk1/members/", "{}", 2, 1));
    assert_eq!((applied.changed.len(), applied.problems.len()), (1, 1));
    assert_eq!(
        store.apply(put("wk1/members/", "{}", 3, 2)),
        Applied::default()
    );
    assert_eq!(store.view(&wk1()).problems.len(), 1);
    assert_eq!(store.malformed(), (2, 0));
    assert_eq!(store.apply(delete("wk1/members/", 4)).changed, [wk1()]);
    assert!(store.view(&wk1()).problems.is_empty());
    assert_eq!(leader(&store).as_deref(), Some("pg1"));
}

#[test]
fn a_malformed_key_makes_no_scope() {
    let mut store = store([]);
    assert!(!store.apply(put("ghost", "x", 1, 1)).scopes_changed);
    assert!(store.scopes().is_empty());
    assert_eq!(store.view(&ScopeId::new("ghost")).problems.len(), 1);
    list(&mut store, &[record("ghost", "x", 1, 1)], 3);
    assert!(store.scopes().is_empty());
}

#[test]
fn keys_without_a_scope_are_told_once_and_never_pile_up() {
    let mut store = store([]);
    let stray = |number: usize, revision: i64| {
        let mut record = record("", "", revision, 1);
        record.key = [b"/service/\xff".as_slice(), number.to_string().as_bytes()].concat();
        record
    };
    let first = store.apply(Event::Put(stray(0, 1)));
    assert_eq!(
        (first.problems.len(), first.problems[0].scope.clone()),
        (1, None)
    );
    for number in 1..500 {
        let revision = i64::try_from(number).unwrap() + 1;
        store.apply(Event::Put(stray(number, revision)));
    }
    assert!(store.content.unscoped.len() <= MAX_UNSCOPED);
    let listed = list(&mut store, &[stray(0, 1)], 1000);
    assert!(listed.problems.is_empty(), "{:?}", listed.problems);
    let mut gone = stray(0, 1001);
    gone.version = 0;
    assert_eq!(store.apply(Event::Delete(gone)), Applied::default());
    assert!(store.content.unscoped.is_empty());
}

#[test]
fn freshness_and_lineage_are_part_of_every_view() {
    let mut store = store([put("wk1/leader", "pg1", 1, 1)]);
    let stale = Freshness::Stale {
        reason: "silence".into(),
    };
    let before = store.view(&wk1());
    store.set_freshness(&stale);
    for id in [wk1(), ScopeId::new("other")] {
        assert_eq!(store.view(&id).freshness, stale);
    }
    assert!(!before.is_equivalent(&store.view(&wk1())));
    store.set_lineage(1);
    assert_eq!(
        store.view(&wk1()).lineage,
        0,
        "not before the list that brings it"
    );
    let applied = list(&mut store, &[record("wk1/leader", "pg1", 1, 1)], 1);
    assert_eq!(store.view(&wk1()).lineage, 1);
    assert_eq!(
        applied.changed,
        [wk1()],
        "the same content of another history is news"
    );
}

#[test]
fn a_list_may_take_revisions_back_when_history_is_another_one() {
    let mut store = store([put("wk1/leader", "pg1", 500, 1)]);
    store.set_lineage(1);
    list(&mut store, &[record("wk1/leader", "pg2", 3, 1)], 4);
    assert_eq!(leader(&store).as_deref(), Some("pg2"));
    store.apply(put("wk1/leader", "pg3", 5, 2));
    assert_eq!(leader(&store).as_deref(), Some("pg3"));
}

#[test]
fn keys_are_counted_while_they_exist() {
    let mut store = store([
        put("wk1/leader", "pg1", 1, 1),
        put("wk1/status", "{}", 2, 1),
    ]);
    assert_eq!(store.key_count(), 2);
    store.apply(delete("wk1/leader", 3));
    assert_eq!(store.key_count(), 1);
}
