//! A hold that reached its deadline is let go, whatever else is the matter, and never taken again
//! for the same reason.

use super::super::*;
use super::builders::{LEADER_REVISION, Scenario, addr, row};
use super::telling::{REQUEST, app, held_for, moved_to, waiting};

fn expired() -> Scenario {
    Scenario::quiet().switchover().held().expired()
}

#[test]
fn at_the_deadline_writes_go_on_where_the_row_is_the_leaders() {
    let decision = expired().decide();
    assert_eq!(decision.rule, Rule::Expired);
    assert_eq!(*app(&decision), Step::LetGo);
}

#[test]
fn at_the_deadline_the_row_moves_to_a_leader_that_takes_writes() {
    let decision = expired().row_at("pg2").decide();
    assert_eq!(decision.rule, Rule::Expired);
    assert_eq!(moved_to(&decision), addr("pg1"));
}

#[test]
fn at_the_deadline_writes_go_on_without_a_writable_leader() {
    for scenario in [
        expired().lost("pg1"),
        expired().no_leader(),
        expired().says(ProbeState::InRecovery),
        expired().said_earlier(ProbeState::Writable),
    ] {
        let decision = scenario.row_at("pg2").decide();
        assert_eq!(decision.rule, Rule::Expired);
        assert_eq!(*app(&decision), Step::LetGo);
    }
}

#[test]
fn at_the_deadline_a_hold_that_is_being_taken_is_called_off() {
    let decision = expired().progress("app", Held::Taking).decide();
    assert_eq!(*app(&decision), Step::LetGo);
}

/// Writes would fail at the standby until etcd is back.
#[test]
fn a_hold_that_ends_while_etcd_is_silent_takes_its_own_read_move_back() {
    let moved = || {
        expired()
            .row_at("pg2")
            .standby_at("pg2", 100, 100, 1)
            .leader_at(100, 1)
    };
    let decision = moved().stale().decide();
    assert_eq!(decision.rule, Rule::Expired);
    assert_eq!(moved_to(&decision), addr("pg1"));
    // Not to a leader that does not prove that it takes writes.
    for silent in [moved().lost("pg1"), moved().says(ProbeState::InRecovery)] {
        assert_eq!(*app(&silent.stale().decide()), Step::LetGo);
    }
    // Nor to one that is not known to have the group's shards, or of a row that follows by itself.
    let mut new_to_us = moved();
    new_to_us.known_cluster = None;
    for kept in [new_to_us, moved().fixed()] {
        assert_eq!(*app(&kept.stale().decide()), Step::LetGo);
    }
    // Nor from a member that is no standby: the row may be another's to move.
    let elsewhere = moved().at_row("pg2", ProbeState::Writable).stale();
    assert_eq!(*app(&elsewhere.decide()), Step::LetGo);
}

#[test]
fn a_silent_etcd_does_not_prolong_a_hold() {
    for held in [Held::Taking, Held::Yes { round: 1 }] {
        let scenario = expired()
            .rows("second", Rows::known(vec![row(9, 1, "pg1")]))
            .progress("app", held)
            .stale();
        let decision = scenario.decide();
        assert_eq!(decision.rule, Rule::Expired);
        assert_eq!(*app(&decision), Step::LetGo);
        assert!(
            !decision.steps["second"].acts(),
            "what is not held is left alone"
        );
    }
}

#[test]
fn rows_that_are_not_known_do_not_prolong_a_hold() {
    let scenario = expired().rows("app", Rows::Unknown("down".to_owned()));
    assert_eq!(*app(&scenario.decide()), Step::LetGo);
}

#[test]
fn an_expired_hold_is_taken_again_for_a_new_request_only() {
    let over = || Scenario::quiet().switchover().given_up(REQUEST);
    assert_eq!(over().decide().rule, Rule::InSync);
    let mut next = over();
    next.view.failover.as_mut().unwrap().mod_revision = 51;
    assert_eq!(held_for(&next.decide()), Reason::Request { revision: 51 });
}

#[test]
fn at_the_deadline_no_other_reason_begins_a_new_hold() {
    // Held::No and an expired hold: one database was let go already, the others follow.
    let scenario = Scenario::quiet()
        .hold_requested("pg1", Some(1))
        .active_hold(REQUEST)
        .expired();
    let decision = scenario.decide();
    assert_eq!(decision.rule, Rule::Expired);
    assert!(!app(&decision).acts(), "{decision:?}");
}

#[test]
fn a_promotion_after_an_expired_hold_is_not_held_for() {
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::InRecovery)
        .given_up(REQUEST)
        .decide();
    assert_eq!(scenario.rule, Rule::Promoting);
    assert!(matches!(waiting(&scenario), Wait::Promoting { .. }));
    // Nor is the loss of the leader.
    for reason in [
        REQUEST,
        Reason::Loss {
            revision: LEADER_REVISION,
        },
    ] {
        let scenario = Scenario::quiet()
            .holding_on_loss()
            .no_leader()
            .given_up(reason)
            .decide();
        assert_eq!(*waiting(&scenario), Wait::LeaderGone);
    }
}
