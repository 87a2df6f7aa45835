//! How a hold is taken, kept and ended, database by database.

use super::super::*;
use super::builders::{Scenario, addr, row};
use super::telling::{REQUEST, app, asks, held_for, moved_to, reads_to, request, stay, waiting};

#[test]
fn every_database_is_held_at_once_and_one_that_is_not_known_waits_alone() {
    let scenario = Scenario::quiet()
        .switchover()
        .rows("broken", Rows::Unknown("no pg_dist_node".to_owned()))
        .rows("second", Rows::known(vec![row(9, 1, "pg1")]));
    let decision = scenario.decide();
    let nodeid = |database: &str| match &decision.steps[database] {
        Step::Hold(hold) => hold.nodeid,
        step => panic!("{database}: {step:?}"),
    };
    assert_eq!((nodeid("app"), nodeid("second")), (2, 9));
    assert!(matches!(
        decision.steps["broken"],
        Step::Wait(Wait::RowsUnknown { .. })
    ));
}

#[test]
fn each_database_goes_through_a_hold_at_its_own_pace() {
    let scenario = Scenario::quiet()
        .switchover()
        .rows("second", Rows::known(vec![row(9, 1, "pg1")]))
        .rows("third", Rows::known(vec![row(9, 1, "pg1")]))
        .active_hold(REQUEST)
        .progress("app", Held::Taking)
        .progress("second", Held::Yes { round: 1 });
    let decision = scenario.decide();
    assert!(matches!(waiting(&decision), Wait::Taking { what_for } if *what_for == REQUEST));
    assert!(matches!(
        decision.steps["second"],
        Step::Wait(Wait::Held { .. })
    ));
    assert!(matches!(decision.steps["third"], Step::Hold(_)));
}

#[test]
fn standbys_are_asked_with_the_leader_as_soon_as_there_is_a_reason() {
    let decision = Scenario::quiet().switchover().decide();
    assert_eq!(asks(&decision), ["pg1", "pg2", "pg3"]);
    assert!(decision.ask.iter().all(|ask| !ask.hurry && !ask.eager));
    // Once writers wait, standbys that are behind are asked every few milliseconds.
    let waiting = Scenario::quiet()
        .switchover()
        .held()
        .leader_at(100, 1)
        .standby_at("pg2", 100, 90, 1)
        .decide();
    assert!(waiting.ask.iter().all(|ask| ask.hurry), "{:?}", waiting.ask);
    let pg2 = waiting.ask.iter().find(|ask| ask.address == addr("pg2"));
    assert!(pg2.unwrap().eager);
}

#[test]
fn a_row_that_is_not_the_leaders_is_moved_before_it_is_held() {
    // Writers would be held only to be refused.
    let decision = Scenario::quiet().switchover().row_at("pg9").decide();
    assert_eq!(moved_to(&decision), addr("pg1"));
}

#[test]
fn reads_that_are_at_a_standby_stay_there_while_a_lost_hold_is_taken_again() {
    // The hold was lost with its session, after the read move; the switchover goes on.
    let decision = Scenario::quiet()
        .switchover()
        .row_at("pg2")
        .standby_at("pg2", 100, 100, 1)
        .decide();
    assert_eq!(held_for(&decision), REQUEST);
}

#[test]
fn a_group_without_a_row_or_with_two_is_not_held() {
    let none = Scenario::quiet()
        .switchover()
        .rows("app", Rows::known(vec![row(3, 2, "other")]));
    assert_eq!(*waiting(&none.decide()), Wait::NoRow { group: 1 });
    let two = vec![row(2, 1, "pg1"), row(4, 1, "pg3")];
    let two = Scenario::quiet().switchover().rows("app", Rows::known(two));
    assert!(matches!(waiting(&two.decide()), Wait::TwoPrimaries { .. }));
}

#[test]
fn a_row_that_vanishes_in_a_hold_is_named_and_the_hold_still_ends() {
    for rows in [vec![], vec![row(2, 1, "pg1"), row(4, 1, "pg3")]] {
        let scenario = Scenario::quiet().held().rows("app", Rows::known(rows));
        let kept = scenario.clone().switchover().decide();
        assert!(!app(&kept).acts(), "{kept:?}");
        assert_eq!(*app(&scenario.decide()), Step::LetGo);
    }
}

#[test]
fn a_request_withdrawn_before_reads_were_moved_ends_the_hold() {
    let decision = Scenario::quiet().held().decide();
    assert_eq!(decision.rule, Rule::Move);
    assert_eq!(*app(&decision), Step::LetGo);
    // Nor when its locks are still waited for.
    let taking = Scenario::quiet()
        .active_hold(REQUEST)
        .progress("app", Held::Taking);
    assert_eq!(*app(&taking.decide()), Step::LetGo);
}

#[test]
fn a_request_withdrawn_after_reads_were_moved_brings_them_back_with_the_writes() {
    let decision = Scenario::quiet().held().row_at("pg2").decide();
    assert_eq!(moved_to(&decision), addr("pg1"));
}

#[test]
fn a_hold_outlives_the_leader_it_was_taken_for() {
    // The request is gone with the old leader key; the new leader is not there yet.
    let gone = Scenario::quiet().held().no_leader().decide();
    assert_eq!(gone.rule, Rule::LeaderGone);
    assert!(matches!(waiting(&gone), Wait::Held { what_for, .. } if *what_for == REQUEST));
    let silent = Scenario::new().leader("pg2").held().decide();
    assert_eq!(silent.rule, Rule::Unproven);
    assert!(matches!(waiting(&silent), Wait::Held { .. }));
    let taking = Scenario::quiet()
        .no_leader()
        .active_hold(REQUEST)
        .progress("app", Held::Taking);
    assert!(matches!(
        waiting(&taking.decide()),
        Wait::Taking { what_for } if *what_for == REQUEST
    ));
}

#[test]
fn a_database_that_lost_its_hold_is_not_held_again_without_a_reason() {
    // No reason stands any more, so it is not taken again.
    let scenario = Scenario::quiet()
        .no_leader()
        .rows("second", Rows::known(vec![row(9, 1, "pg1")]))
        .active_hold(REQUEST)
        .progress("second", Held::Yes { round: 1 });
    let decision = scenario.decide();
    assert_eq!(*waiting(&decision), Wait::LeaderGone);
    assert!(matches!(
        decision.steps["second"],
        Step::Wait(Wait::Held { .. })
    ));
}

#[test]
fn a_hold_ends_with_a_move_and_where_the_row_is_right_by_letting_writes_go() {
    let scenario = || {
        Scenario::new()
            .leader("pg2")
            .says(ProbeState::Writable)
            .held()
    };
    let decision = scenario().decide();
    assert_eq!(decision.rule, Rule::Move);
    assert_eq!(moved_to(&decision), addr("pg2"));
    assert_eq!(*app(&scenario().row_at("pg2").decide()), Step::LetGo);
}

#[test]
fn reads_at_a_candidate_that_died_go_back_to_the_leader_in_the_hold() {
    let decision = Scenario::quiet()
        .switchover()
        .held()
        .row_at("pg2")
        .lost("pg2")
        .decide();
    assert_eq!(decision.rule, Rule::Hold);
    assert_eq!(reads_to(&decision), addr("pg1"));
}

#[test]
fn reads_at_a_standby_stay_there_while_it_answers() {
    let decision = Scenario::quiet()
        .switchover()
        .held()
        .row_at("pg2")
        .standby_at("pg2", 100, 100, 1)
        .decide();
    let Wait::Held { reads_at, stay, .. } = waiting(&decision) else {
        panic!()
    };
    assert_eq!((reads_at, stay), (&addr("pg2"), &None));
}

#[test]
fn a_second_request_in_a_row_keeps_the_hold_and_its_deadline() {
    // pg2 leads by now and is asked to leave as well, before the row was moved to it.
    let scenario = Scenario::quiet()
        .leader("pg2")
        .says(ProbeState::Writable)
        .at_row("pg1", ProbeState::InRecovery)
        .requested(request(Some("pg2"), Some("pg3")))
        .held_because(Reason::Request { revision: 30 });
    let decision = scenario.decide();
    assert_eq!(decision.rule, Rule::Hold);
    let Wait::Held { reads_at, .. } = waiting(&decision) else {
        panic!("{decision:?}")
    };
    assert_eq!(*reads_at, addr("pg1"));
}

#[test]
fn a_held_group_whose_rows_are_unknown_waits_for_them_and_lets_go_when_it_is_over() {
    // The coordinator failed over in the middle of the hold.
    let unknown = || {
        Scenario::quiet()
            .held()
            .rows("app", Rows::Unknown("the coordinator is gone".to_owned()))
    };
    let decision = unknown().switchover().decide();
    assert_eq!(decision.rule, Rule::Hold);
    assert!(matches!(waiting(&decision), Wait::RowsUnknown { .. }));
    assert_eq!(*app(&unknown().decide()), Step::LetGo);
    // The session is gone with the coordinator: then there is nothing to let go.
    let lost = unknown().progress("app", Held::No).decide();
    assert!(matches!(waiting(&lost), Wait::RowsUnknown { .. }));
}

#[test]
fn a_stale_view_leaves_a_hold_as_it_is() {
    let decision = Scenario::quiet().switchover().held().stale().decide();
    assert_eq!(decision.rule, Rule::Stale);
    assert!(!app(&decision).acts());
    // The end of a hold looks at what the leader says.
    assert_eq!(asks(&decision), ["pg1"]);
    assert!(decision.reachability.is_empty());
}

#[test]
fn a_daemon_that_is_about_to_stop_ends_its_holds() {
    let mut scenario = Scenario::quiet().switchover().held();
    scenario.stopping = true;
    assert_eq!(*app(&scenario.clone().decide()), Step::LetGo);
    // With the row, where the leader is to be had.
    assert_eq!(
        moved_to(&scenario.clone().row_at("pg2").decide()),
        addr("pg1")
    );
    // Whatever etcd does.
    assert_eq!(*app(&scenario.clone().stale().decide()), Step::LetGo);
    let gone = scenario.no_leader().row_at("pg2").decide();
    assert_eq!(*app(&gone), Step::LetGo);
}

#[test]
fn an_old_answer_of_the_leader_ends_no_hold() {
    // pg1 led before, left, and leads again: what it said then says nothing.
    let decision = Scenario::new()
        .leader("pg1")
        .said_earlier(ProbeState::Writable)
        .held()
        .decide();
    assert!(matches!(waiting(&decision), Wait::Held { .. }));
}

#[test]
fn a_hold_ends_although_its_row_cannot_be_moved() {
    // The new leader's address belongs to another group: named once nothing is held any more.
    let rows = vec![row(2, 1, "pg1"), row(3, 2, "pg2")];
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(rows))
        .held();
    assert_eq!(*app(&scenario.decide()), Step::LetGo);
}

#[test]
fn a_hold_ends_even_where_etcd_went_back_in_time() {
    let scenario = Scenario::quiet()
        .lineage(3, Some(2))
        .leader("pg2")
        .says(ProbeState::Writable)
        .at_row("pg1", ProbeState::Writable)
        .held();
    assert_eq!(*app(&scenario.decide()), Step::LetGo);
}

#[test]
fn the_texts_say_what_writes_wait_for() {
    let decision = Scenario::quiet().switchover().decide();
    assert_eq!(
        app(&decision).to_string(),
        "hold writes: a switchover was asked for"
    );
    let held = Scenario::quiet()
        .switchover()
        .held()
        .leader_at(100, 1)
        .standby_at("pg2", 100, 90, 1)
        .decide();
    assert_eq!(
        waiting(&held).to_string(),
        "writes are held (a switchover was asked for), reads stay at pg1:5432: pg2:5432 has 10 \
         bytes of WAL still to replay"
    );
    assert!(matches!(stay(&held), Stay::Behind { bytes: 10, .. }));
}
