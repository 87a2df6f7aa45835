//! A temporary name that a swap has left: found, fixed, and never handed on.

use dcs_watch::Role;

use super::super::*;
use super::builders::{Scenario, addr, row, secondary};

#[test]
fn no_server_is_asked_at_a_temporary_name() {
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(vec![row(2, 1, "10.0.0.5-demoted")]));
    assert!(scenario.clone().no_leader().decide().ask.is_empty());
    assert_eq!(scenario.lineage(3, Some(2)).decide().rule, Rule::Move);
}

#[test]
fn a_name_left_by_a_swap_is_found_and_fixed() {
    for left in ["citus-sync-swap-7.invalid", "10.0.0.5-demoted"] {
        let scenario = Scenario::new()
            .leader("pg1")
            .says(ProbeState::Writable)
            .rows(
                "app",
                Rows::known(vec![row(2, 1, "pg1"), secondary(7, 1, left)]),
            );
        let decision = scenario.clone().decide();
        let Step::Repair(repair) = &decision.steps["app"] else {
            panic!("{left}: {decision:?}")
        };
        assert_eq!((repair.nodeid, &repair.to), (7, &addr("pg2")));

        let mut alone = scenario;
        alone.view.members.retain(|name, _| name == "pg1");
        assert!(matches!(
            alone.decide().steps["app"],
            Step::Wait(Wait::NoSpare { .. })
        ));
    }
}

#[test]
fn a_name_left_in_another_group_is_that_groups_to_fix() {
    let rows = vec![row(2, 1, "pg1"), secondary(7, 2, "10.0.0.5-demoted")];
    let scenario = Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(rows));
    assert_eq!(scenario.decide().rule, Rule::InSync);
}

#[test]
fn a_replica_that_has_a_row_takes_no_other_rows_place() {
    let rows = vec![
        row(2, 1, "pg1"),
        secondary(7, 1, "10.0.0.5-demoted"),
        secondary(8, 1, "pg2"),
    ];
    let scenario = Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(rows));
    let Step::Repair(repair) = &scenario.decide().steps["app"] else {
        panic!()
    };
    assert_eq!(repair.to, addr("pg3"));
}

#[test]
fn a_replica_that_does_not_run_takes_no_rows_place() {
    let rows = vec![row(2, 1, "pg1"), secondary(7, 1, "10.0.0.5-demoted")];
    let mut scenario = Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(rows));
    let fail = |scenario: &mut Scenario, name: &str| {
        let member = scenario.view.members.get_mut(name).unwrap();
        member.value.state = "start failed".to_owned();
    };
    let fixes_with = |scenario: &Scenario| match &scenario.decision().steps["app"] {
        Step::Repair(repair) => repair.to.clone(),
        step => panic!("{step:?}"),
    };
    fail(&mut scenario, "pg2");
    assert_eq!(fixes_with(&scenario), addr("pg3"));
    fail(&mut scenario, "pg3");
    assert!(matches!(
        scenario.decide().steps["app"],
        Step::Wait(Wait::NoSpare { .. })
    ));
}

#[test]
fn a_primary_row_with_a_temporary_name_is_moved_to_the_leader() {
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(vec![row(2, 1, "10.0.0.5-demoted")]));
    let Step::Move(step) = &scenario.decide().steps["app"] else {
        panic!()
    };
    assert_eq!(step.to, addr("pg2"));
}

#[test]
fn a_temporary_name_is_never_handed_on_in_a_swap() {
    let rows = vec![row(2, 1, "10.0.0.5-demoted"), secondary(7, 1, "pg2")];
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(rows));
    let decision = scenario.clone().decide();
    let Step::Move(Move {
        make_way: Some(way),
        ..
    }) = &decision.steps["app"]
    else {
        panic!("{decision:?}")
    };
    assert_eq!(way.then, addr("pg1"), "the replica that no row names");
    let mut alone = scenario;
    for name in ["pg1", "pg3"] {
        alone.view.members.get_mut(name).unwrap().value.role = Role::Demoted;
    }
    assert!(matches!(
        alone.decide().steps["app"],
        Step::Wait(Wait::NoSpare { .. })
    ));
}
