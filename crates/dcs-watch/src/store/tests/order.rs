//! Old, repeated and missing events; lists, and what they replace.

use super::*;

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
fn an_older_put_does_not_bring_back_a_deleted_key() {
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
fn events_up_to_the_revision_of_the_list_are_ignored() {
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
fn the_end_of_a_list_without_its_beginning_changes_nothing() {
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
fn keys_that_vanished_between_lists_are_reported_once() {
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
fn a_list_may_lower_revisions_when_the_history_is_another_one() {
    let mut store = store([put("wk1/leader", "pg1", 500, 1)]);
    store.set_lineage(1);
    list(&mut store, &[record("wk1/leader", "pg2", 3, 1)], 4);
    assert_eq!(leader(&store).as_deref(), Some("pg2"));
    store.apply(put("wk1/leader", "pg3", 5, 2));
    assert_eq!(leader(&store).as_deref(), Some("pg3"));
}
