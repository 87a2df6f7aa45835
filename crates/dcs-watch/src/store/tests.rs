//! The fold, event by event.

mod crowds;
mod malformed;
mod order;
mod positions;

use super::*;
use crate::value::{Lsn, Role, SystemId};

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
    let system = view.system.as_ref().unwrap();
    assert_eq!(system.value, SystemId(42));
    assert_eq!((system.mod_revision, system.create_revision), (2, 1));
    assert!(view.is_paused() && view.exists());
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
fn heartbeats_change_no_view_but_set_the_revision() {
    let mut store = store([put("wk1/members/pg1", REPLICA, 5, 1)]);
    let applied = store.apply(put("wk1/members/pg1", FURTHER, 6, 2));
    assert_eq!(applied, Applied::default());
    assert_eq!(store.view(&wk1()).members["pg1"].mod_revision, 6);
    let applied = store.apply(put("wk1/members/pg1", PRIMARY, 7, 3));
    assert_eq!(applied.changed, [wk1()]);
}

#[test]
fn history_unknown_keys_and_values_without_a_position_change_nothing() {
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
fn a_leader_key_that_is_put_again_with_the_same_name_changes_the_view() {
    let mut store = store([put("wk1/leader", "pg1", 1, 1)]);
    assert_eq!(store.apply(put("wk1/leader", "pg1", 2, 2)).changed, [wk1()]);
    store.apply(delete("wk1/leader", 3));
    store.apply(put("wk1/leader", "pg1", 4, 1));
    assert_eq!(store.view(&wk1()).leader.unwrap().create_revision, 4);
}

#[test]
fn the_lease_of_the_leader_is_set_and_cleared_with_the_key() {
    let mut leased = record("wk1/leader", "pg1", 1, 1);
    leased.lease = 77;
    let mut store = store([Event::Put(leased)]);
    assert_eq!(store.view(&wk1()).leader_lease, 77);
    store.apply(delete("wk1/leader", 2));
    assert_eq!(store.view(&wk1()).leader_lease, 0);
}

#[test]
fn a_failover_request_that_patroni_cleared_is_absent() {
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
fn a_scope_exists_while_it_has_keys() {
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
        "the same content of another history is a change"
    );
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
