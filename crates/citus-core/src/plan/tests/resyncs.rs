//! After a plain update of a row Citus sends it to its workers: later, in a transaction of its own,
//! never in a hold.

use super::super::*;
use super::builders::{Scenario, addr, row, secondary};
use super::telling::{app, held_for, moved_to, waiting};

#[test]
fn a_resync_that_is_due_is_made_once_the_row_is_the_leaders() {
    let decision = Scenario::quiet().owing_a_resync("app").decide();
    assert_eq!(decision.rule, Rule::Resync);
    assert!(!decision.is_in_sync());
    assert_eq!(
        *app(&decision),
        Step::Resync(Resync {
            nodeid: 2,
            address: addr("pg1")
        })
    );
    assert_eq!(
        app(&decision).to_string(),
        "have Citus tell its workers that node 2 is at pg1:5432"
    );
    assert_eq!(Scenario::quiet().decide().rule, Rule::InSync);
}

#[test]
fn a_move_comes_before_a_resync() {
    let decision = Scenario::quiet()
        .owing_a_resync("app")
        .row_at("pg2")
        .decide();
    assert_eq!(decision.rule, Rule::Move);
    assert_eq!(moved_to(&decision), addr("pg1"));
}

#[test]
fn the_repair_of_a_temporary_name_comes_before_a_resync() {
    let rows = vec![
        row(2, 1, "pg1"),
        secondary(7, 1, "citus-sync-swap-7.invalid"),
    ];
    let scenario = Scenario::quiet()
        .owing_a_resync("app")
        .rows("app", Rows::known(rows));
    assert!(matches!(app(&scenario.decide()), Step::Repair(_)));
}

#[test]
fn a_hold_and_its_end_come_before_a_resync() {
    let owing = || Scenario::quiet().owing_a_resync("app");
    let decision = owing().switchover().decide();
    held_for(&decision);
    let held = owing().switchover().held().decide();
    assert!(matches!(waiting(&held), Wait::Held { .. }));
    assert_eq!(*app(&owing().held().decide()), Step::LetGo);
}

#[test]
fn no_resync_is_made_without_a_leader() {
    for scenario in [
        Scenario::quiet().lost("pg1"),
        Scenario::quiet().no_leader(),
        Scenario::quiet().stale(),
    ] {
        assert!(!app(&scenario.owing_a_resync("app").decide()).acts());
    }
}

#[test]
fn one_database_is_resynced_while_another_moves() {
    let scenario = Scenario::quiet()
        .owing_a_resync("app")
        .rows("second", Rows::known(vec![row(9, 1, "pg3")]));
    let decision = scenario.decide();
    assert_eq!(decision.rule, Rule::Move);
    assert!(matches!(app(&decision), Step::Resync(_)));
    assert!(matches!(decision.steps["second"], Step::Move(_)));
}

#[test]
fn a_resync_of_an_observed_formation_is_named_and_not_made() {
    let scenario = Scenario::quiet()
        .owing_a_resync("app")
        .writes(Writes::ObserveOnly);
    assert!(matches!(waiting(&scenario.decide()), Wait::Observed { .. }));
}
