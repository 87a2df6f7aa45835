//! Keys and values that cannot be read.

use super::*;
use crate::store::content::MAX_UNSCOPED;

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
    let fixed = store.apply(put("wk1/leader", "pg1", 3, 3));
    assert_eq!(fixed.changed, [wk1()]);
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
            system: whole.system.clone(),
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
fn an_identifier_that_cannot_be_read_costs_itself_alone() {
    let mut store = store([
        put("wk1/initialize", "42", 1, 1),
        put("wk1/leader", "pg1", 2, 1),
    ]);
    let applied = store.apply(put("wk1/initialize", "forty-two", 3, 2));
    assert_eq!(applied.changed, [wk1()]);
    assert_eq!(applied.problems.len(), 1);
    let view = store.view(&wk1());
    assert_eq!(view.system, None);
    assert!(view.leader.is_some() && view.exists());
    store.apply(put("wk1/initialize", "42", 4, 3));
    let view = store.view(&wk1());
    assert!(view.problems.is_empty() && view.system.is_some());
}

#[test]
fn a_scope_that_is_made_anew_has_an_identifier_of_another_creation() {
    let mut store = store([put("wk1/initialize", "42", 1, 1)]);
    store.apply(delete("wk1/initialize", 2));
    assert_eq!(store.view(&wk1()).system, None);
    let applied = store.apply(put("wk1/initialize", "42", 3, 1));
    assert_eq!(applied.changed, [wk1()]);
    assert_eq!(store.view(&wk1()).system.unwrap().create_revision, 3);
}

#[test]
fn a_malformed_value_is_reported_once_while_it_stays_the_same() {
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
    // A list with the same value reports nothing either.
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
fn a_malformed_key_alone_makes_no_scope() {
    let mut store = store([]);
    assert!(!store.apply(put("ghost", "x", 1, 1)).scopes_changed);
    assert!(store.scopes().is_empty());
    assert_eq!(store.view(&ScopeId::new("ghost")).problems.len(), 1);
    list(&mut store, &[record("ghost", "x", 1, 1)], 3);
    assert!(store.scopes().is_empty());
}

#[test]
fn keys_without_a_scope_are_reported_once_and_bounded() {
    let mut store = store([]);
    let unscoped = |number: usize, revision: i64| {
        let mut record = record("", "", revision, 1);
        record.key = [b"/service/\xff".as_slice(), number.to_string().as_bytes()].concat();
        record
    };
    let first = store.apply(Event::Put(unscoped(0, 1)));
    assert_eq!(
        (first.problems.len(), first.problems[0].scope.clone()),
        (1, None)
    );
    for number in 1..500 {
        let revision = i64::try_from(number).unwrap() + 1;
        store.apply(Event::Put(unscoped(number, revision)));
    }
    assert!(store.content.unscoped.len() <= MAX_UNSCOPED);
    let listed = list(&mut store, &[unscoped(0, 1)], 1000);
    assert!(listed.problems.is_empty(), "{:?}", listed.problems);
    let mut gone = unscoped(0, 1001);
    gone.version = 0;
    assert_eq!(store.apply(Event::Delete(gone)), Applied::default());
    assert!(store.content.unscoped.is_empty());
}
