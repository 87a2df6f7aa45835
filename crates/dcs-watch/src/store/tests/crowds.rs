//! A scope with more members than any cluster has.

use super::*;
use crate::store::members::MAX_MEMBERS;

fn member(number: usize) -> String {
    format!("wk1/members/m{number:05}")
}

fn crowd(members: usize) -> impl Iterator<Item = Event> {
    (0..members).map(|number| {
        let revision = i64::try_from(number).unwrap() + 2;
        put(&member(number), REPLICA, revision, 1)
    })
}

#[test]
fn the_cost_of_eight_thousand_members_is_that_of_a_bounded_view() {
    let mut store = Store::new(Namespace::default());
    let mut published = 0;
    let mut told = Vec::new();
    for event in crowd(8000) {
        let applied = store.apply(event);
        published += applied.changed.len();
        told.extend(applied.problems);
    }
    let view = store.view(&wk1());
    assert_eq!(view.members.len(), MAX_MEMBERS);
    // One for each that has a place, and one for the first that has none.
    assert_eq!(published, MAX_MEMBERS + 1);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(view.problems.len(), 1);
    let problem = &view.problems[0];
    assert_eq!(problem.key, "/service/wk1/members/ (all)");
    assert!(
        problem.what.contains(&MAX_MEMBERS.to_string()),
        "{problem:?}"
    );
    // A heartbeat of one without a place changes nothing.
    assert!(
        store
            .apply(put(&member(7000), FURTHER, 9000, 2))
            .changed
            .is_empty()
    );
}

#[test]
fn members_that_matter_are_seen_among_any_number() {
    let mut store = store(crowd(1000));
    let seen = |store: &Store, number| {
        let view = store.view(&wk1());
        view.members.contains_key(&format!("m{number:05}"))
    };
    assert!(!seen(&store, 999));
    store.apply(put("wk1/leader", "m00999", 2000, 1));
    assert!(store.view(&wk1()).leader_address().is_some());
    let sync = r#"{"leader":"m00999","sync_standby":"m00500"}"#;
    store.apply(put("wk1/sync", sync, 2001, 1));
    let request = r#"{"leader":"m00999","member":"m00700"}"#;
    store.apply(put("wk1/failover", request, 2002, 1));
    assert!(seen(&store, 500) && seen(&store, 700));
    // Also one that comes after it was named.
    store.apply(put("wk1/leader", "m01000", 2003, 2));
    store.apply(put(&member(1000), PRIMARY, 2004, 1));
    assert!(store.view(&wk1()).leader_address().is_some());
}

#[test]
fn a_crowd_that_goes_leaves_the_rest_in_the_view() {
    let mut store = store(crowd(MAX_MEMBERS + 3));
    for number in 0..4 {
        let revision = 5000 + i64::try_from(number).unwrap();
        assert_eq!(store.view(&wk1()).problems.len(), usize::from(number < 3));
        store.apply(delete(&member(number), revision));
    }
    let view = store.view(&wk1());
    assert_eq!(view.members.len(), MAX_MEMBERS - 1);
    assert_eq!(view.problems, []);
    for number in 4..MAX_MEMBERS + 3 {
        store.apply(delete(
            &member(number),
            6000 + i64::try_from(number).unwrap(),
        ));
    }
    assert!(!store.view(&wk1()).exists());
    assert!(store.scopes().is_empty());
}

#[test]
fn a_list_of_a_crowd_is_as_bounded_and_told_once() {
    let records: Vec<Record> = (0..8000)
        .map(|number| record(&member(number), REPLICA, 2, 1))
        .collect();
    let mut store = Store::new(Namespace::default());
    let applied = list(&mut store, &records, 10);
    assert_eq!((applied.changed.len(), applied.problems.len()), (1, 1));
    assert_eq!(store.view(&wk1()).members.len(), MAX_MEMBERS);
    let again = list(&mut store, &records, 11);
    assert_eq!((again.changed.len(), again.problems.len()), (0, 0));
}

#[test]
fn values_that_cannot_be_read_are_listed_up_to_a_bound() {
    let mut store = Store::new(Namespace::default());
    for number in 0..8000 {
        let revision = i64::try_from(number).unwrap() + 2;
        store.apply(put(&member(number), "{", revision, 1));
    }
    let problems = store.view(&wk1()).problems.len();
    assert!((1..=200).contains(&problems), "{problems}");
    assert_eq!(store.malformed().1, 8000);
}
