//! The leader's last known position, which is in the view and wakes no subscriber.

use super::*;

fn status(optime: u64) -> String {
    format!(r#"{{"optime":{optime},"slots":{{"pg2":{optime}}}}}"#)
}

fn position(store: &Store) -> Option<u64> {
    store.view(&wk1()).last_position.map(|lsn| lsn.0)
}

fn moved(position: u64) -> Applied {
    Applied {
        positions: vec![(wk1(), Some(Lsn(position)))],
        ..Applied::default()
    }
}

#[test]
fn a_position_is_reported_apart_from_other_changes() {
    let mut store = store([put("wk1/leader", "pg1", 1, 1)]);
    let before = store.view(&wk1());
    assert_eq!(store.apply(put("wk1/status", &status(7), 2, 1)), moved(7));
    assert_eq!(store.apply(put("wk1/status", &status(9), 3, 2)), moved(9));
    let after = store.view(&wk1());
    assert_eq!(after.last_position, Some(Lsn(9)));
    assert!(before != after && before.is_equivalent(&after));
    // Only slots changed.
    assert_eq!(
        store.apply(put("wk1/status", r#"{"optime":9}"#, 4, 3)),
        Applied::default()
    );
    // An older put changes nothing.
    assert_eq!(
        store.apply(put("wk1/status", &status(8), 3, 2)),
        Applied::default()
    );
    assert_eq!(position(&store), Some(9));
    // Valid, and without a position.
    let none = Applied {
        positions: vec![(wk1(), None)],
        ..Applied::default()
    };
    assert_eq!(store.apply(put("wk1/status", "{}", 5, 4)), none);
    assert_eq!(store.malformed(), (0, 0));
    store.apply(put("wk1/status", &status(9), 6, 5));
    assert_eq!(store.apply(delete("wk1/status", 7)), none);
    assert_eq!(store.view(&wk1()), before);
}

#[test]
fn a_broken_status_is_a_problem_and_no_position() {
    let mut store = store([
        put("wk1/leader", "pg1", 1, 1),
        put("wk1/status", &status(7), 2, 1),
    ]);
    let whole = store.view(&wk1());
    let applied = store.apply(put("wk1/status", "{broken", 3, 2));
    assert_eq!(applied.changed, [wk1()]);
    assert_eq!(applied.positions, []);
    assert_eq!(applied.problems.len(), 1);
    assert_eq!(applied.problems[0].problem.key, "/service/wk1/status");
    let view = store.view(&wk1());
    assert_eq!((view.last_position, view.problems.len()), (None, 1));
    assert_eq!(view.leader, whole.leader, "everything else stays");
    assert_eq!(store.malformed(), (0, 1));
    assert_eq!(
        store.apply(put("wk1/status", "{broken", 4, 3)),
        Applied::default(),
        "reported once"
    );
    assert_eq!(
        store.apply(put("wk1/status", &status(7), 5, 4)).changed,
        [wk1()]
    );
    assert_eq!(store.view(&wk1()), whole);
    // Deleted while broken.
    store.apply(put("wk1/status", "[]", 6, 5));
    assert_eq!(store.apply(delete("wk1/status", 7)).changed, [wk1()]);
    assert_eq!(store.view(&wk1()).problems, []);
}

#[test]
fn optime_leader_counts_only_while_there_is_no_status() {
    let mut store = store([]);
    store.apply(put("wk1/optime/leader", "5", 1, 1));
    assert_eq!(position(&store), Some(5));
    store.apply(put("wk1/status", &status(9), 2, 1));
    assert_eq!(position(&store), Some(9));
    assert_eq!(
        store.apply(put("wk1/optime/leader", "6", 3, 2)),
        Applied::default()
    );
    // A value that an older Patroni left behind must not replace one that cannot be read.
    for (revision, unreadable) in [(4, "{broken"), (5, "{}")] {
        store.apply(put("wk1/status", unreadable, revision, revision - 2));
        assert_eq!(position(&store), None, "{unreadable}");
    }
    assert_eq!(store.apply(delete("wk1/status", 6)), moved(6));
    store.apply(put("wk1/optime/leader", "x", 7, 3));
    assert_eq!(position(&store), None);
    assert_eq!(store.view(&wk1()).problems.len(), 1);
    store.apply(delete("wk1/optime/leader", 8));
    assert_eq!(store.view(&wk1()), ScopeView::empty(wk1()));
    assert!(store.content.scopes.is_empty());
}

#[test]
fn a_position_makes_no_scope_and_outlives_one() {
    let mut store = store([]);
    assert_eq!(store.apply(put("wk1/status", &status(7), 1, 1)), moved(7));
    assert!(store.scopes().is_empty());
    assert!(store.apply(put("wk1/leader", "pg1", 2, 1)).scopes_changed);
    assert!(store.apply(delete("wk1/leader", 3)).scopes_changed);
    assert_eq!(position(&store), Some(7), "as after a list");
}

#[test]
fn positions_that_only_a_list_brings_are_reported() {
    let leader = record("wk1/leader", "pg1", 1, 1);
    let at = |optime, revision| record("wk1/status", &status(optime), revision, 1);
    let mut store = store([]);
    let first = list(&mut store, &[leader.clone(), at(7, 2)], 2);
    assert_eq!(first.changed, [wk1()]);
    assert_eq!(first.positions, [], "the whole view changed");
    let again = list(&mut store, &[leader.clone(), at(7, 2)], 2);
    assert_eq!(again, Applied::default());
    let further = list(&mut store, &[leader.clone(), at(8, 3)], 3);
    assert_eq!(further, moved(8));
    // All that is left is the position, and then not even that.
    let left = list(&mut store, &[at(8, 3)], 4);
    assert_eq!((left.changed, left.positions), (vec![wk1()], vec![]));
    let gone = list(&mut store, &[], 5);
    assert_eq!(
        (gone.changed, gone.positions),
        (vec![], vec![(wk1(), None)])
    );
    let alone = list(&mut store, &[at(9, 6)], 6);
    assert_eq!(alone, moved(9));
}
