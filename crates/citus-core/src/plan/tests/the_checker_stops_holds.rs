//! The checker alone, on holds: a right decision, spoilt, is stopped.

use super::super::*;
use super::builders::{Scenario, row, secondary};
use super::telling::REQUEST;
use crate::invariants::{Violation, check};

/// What the checker says of a decision in a situation that is not the one it was made in.
pub(super) fn verdict(scenario: &Scenario, decision: &Decision) -> Result<(), Violation> {
    scenario.with(|situation| check(situation, decision))
}

/// A decision that says this of the first database.
pub(super) fn deciding(step: Step) -> Decision {
    let mut decision = Scenario::quiet().decide();
    decision.steps.insert("app".to_owned(), step);
    decision
}

fn hold(reason: Reason) -> Decision {
    deciding(Step::Hold(Hold { nodeid: 2, reason }))
}

/// pg1 leads and is held; pg2 has everything.
pub(super) fn held() -> Scenario {
    Scenario::quiet()
        .switchover()
        .held()
        .leader_at(100, 1)
        .standby_at("pg2", 100, 100, 1)
}

/// pg1 is lost; pg2 has everything.
pub(super) fn lost() -> Scenario {
    Scenario::quiet()
        .lost("pg1")
        .confirmed("pg1", 3)
        .standby_at("pg2", 100, 100, 3)
}

#[test]
fn the_checker_stops_a_hold_after_its_deadline_or_for_a_request_that_was_given_up() {
    let scenario = Scenario::quiet().switchover();
    let decision = scenario.decision();
    assert_eq!(decision.steps["app"], hold(REQUEST).steps["app"]);
    assert_eq!(verdict(&scenario, &decision), Ok(()));
    let refused = Err(Violation::NoHoldNow);
    let expired = scenario.clone().active_hold(REQUEST).expired();
    assert_eq!(verdict(&expired, &decision), refused);
    let given_up = scenario.clone().given_up(REQUEST);
    assert_eq!(verdict(&given_up, &decision), refused);
    let mut stopping = scenario.clone();
    stopping.stopping = true;
    assert_eq!(verdict(&stopping, &decision), refused);
}

#[test]
fn the_checker_stops_a_hold_of_the_coordinators_own_group() {
    let own = Scenario::quiet()
        .group(0)
        .rows("app", Rows::known(vec![row(2, 0, "pg1")]));
    assert_eq!(verdict(&own, &hold(REQUEST)), Err(Violation::NoHoldNow));
}

#[test]
fn the_checker_stops_a_hold_without_a_row_or_with_another_groups_row() {
    let none = deciding(Step::Hold(Hold {
        nodeid: 99,
        reason: REQUEST,
    }));
    assert_eq!(
        verdict(&Scenario::quiet(), &none),
        Err(Violation::UnknownNode { nodeid: 99 })
    );
    let others = deciding(Step::Hold(Hold {
        nodeid: 3,
        reason: REQUEST,
    }));
    assert!(matches!(
        verdict(&Scenario::quiet(), &others),
        Err(Violation::NotThePrimaryRow { nodeid: 3, .. })
    ));
    let rows = vec![row(4, 1, "pg1"), secondary(2, 1, "pg2")];
    let scenario = Scenario::quiet().rows("app", Rows::known(rows));
    assert!(matches!(
        verdict(&scenario, &hold(REQUEST)),
        Err(Violation::NotThePrimaryRow { nodeid: 2, .. })
    ));
}

#[test]
fn the_checker_stops_a_hold_where_we_observe_or_etcd_is_silent_or_rows_are_unknown() {
    let hold = hold(REQUEST);
    for writes in [Writes::ObserveOnly, Writes::PatroniManages] {
        let watched = Scenario::quiet().writes(writes);
        assert_eq!(verdict(&watched, &hold), Err(Violation::OnlyObserved));
    }
    let stale = Scenario::quiet().stale();
    assert_eq!(verdict(&stale, &hold), Err(Violation::NotFresh));
    let unknown = Scenario::quiet().rows("app", Rows::Unknown("down".to_owned()));
    assert!(matches!(
        verdict(&unknown, &hold),
        Err(Violation::UnknownDatabase { .. })
    ));
}

#[test]
fn the_checker_stops_any_step_beside_a_hold_that_is_being_taken() {
    let resync = Scenario::quiet().owing_a_resync("app");
    let moved = Scenario::quiet().row_at("pg2");
    let register = Scenario::quiet()
        .registering()
        .rows("app", Rows::known(vec![]));
    let temporary = vec![
        row(2, 1, "pg1"),
        secondary(7, 1, "citus-sync-swap-7.invalid"),
    ];
    let repair = Scenario::quiet().rows("app", Rows::known(temporary));
    let hold = Scenario::quiet().switchover();
    for scenario in [held(), lost(), resync, moved, register, repair, hold] {
        let decision = scenario.decision();
        assert!(decision.steps["app"].acts(), "{decision:?}");
        let taking = scenario.progress("app", Held::Taking);
        assert_eq!(verdict(&taking, &decision), Err(Violation::HoldUnderWay));
    }
}

#[test]
fn the_checker_stops_a_second_hold_or_a_resync_while_a_hold_is_open() {
    let open = Held::Yes { round: 1 };
    let scenario = Scenario::quiet().switchover();
    let decision = scenario.decision();
    let held = scenario.progress("app", open);
    assert_eq!(verdict(&held, &decision), Err(Violation::HoldUnderWay));

    let scenario = Scenario::quiet().owing_a_resync("app");
    let decision = scenario.decision();
    let held = scenario.progress("app", open);
    assert_eq!(verdict(&held, &decision), Err(Violation::HoldUnderWay));
}

#[test]
fn the_checker_stops_a_resync_of_a_row_that_is_not_the_writable_leaders() {
    let scenario = Scenario::quiet().owing_a_resync("app");
    let decision = scenario.decision();
    for wrong in [
        scenario.clone().says(ProbeState::InRecovery),
        scenario.clone().said_earlier(ProbeState::Writable),
        scenario.clone().lost("pg1"),
        scenario.clone().no_leader(),
    ] {
        assert!(matches!(
            verdict(&wrong, &decision),
            Err(Violation::NotTheWritableLeader { .. })
        ));
    }
    let moved = scenario.clone().row_at("pg2");
    assert!(matches!(
        verdict(&moved, &decision),
        Err(Violation::NotThePrimaryRow { nodeid: 2, .. })
    ));
}

#[test]
fn the_checker_stops_a_move_in_a_hold_to_a_leader_that_takes_no_writes() {
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .held();
    let decision = scenario.decision();
    assert_eq!(verdict(&scenario, &decision), Ok(()));
    let promoting = scenario.says(ProbeState::InRecovery);
    assert!(matches!(
        verdict(&promoting, &decision),
        Err(Violation::NotTheWritableLeader { .. })
    ));
}

#[test]
fn the_checker_never_stops_the_end_of_a_hold() {
    let end = deciding(Step::LetGo);
    for scenario in [
        Scenario::quiet(),
        Scenario::quiet().stale(),
        Scenario::quiet().writes(Writes::ObserveOnly),
        Scenario::quiet().group(0),
        Scenario::quiet().progress("app", Held::Taking),
        Scenario::quiet().held().expired(),
        Scenario::quiet().rows("app", Rows::Unknown("down".to_owned())),
    ] {
        assert_eq!(verdict(&scenario, &end), Ok(()));
    }
}
