//! `citus-sync hold`: the request stands until another member leads or the leader was started anew.

use super::super::*;
use super::builders::{LEADER_REVISION, Scenario, addr};
use super::telling::{app, held_for, moved_to, request, waiting};

const REQUEST: Reason = Reason::HoldRequest { id: 1 };

/// pg1 leads, and was started at 100 when the hold was asked for.
fn requested() -> Scenario {
    Scenario::quiet()
        .started("pg1", 100)
        .hold_requested("pg1", Some(100))
}

#[test]
fn a_hold_request_holds_writes() {
    let decision = requested().decide();
    assert_eq!(decision.rule, Rule::Hold);
    assert_eq!(held_for(&decision), REQUEST);
}

#[test]
fn a_leader_that_was_not_restarted_does_not_fulfil_a_hold_request() {
    // It stops and is not back, or says the same as before: writes wait on.
    let held = || requested().held_because(REQUEST);
    let decision = held().decide();
    assert_eq!(decision.rule, Rule::Hold);
    assert!(matches!(waiting(&decision), Wait::Held { what_for, .. } if *what_for == REQUEST));
    let decision = held().lost("pg1").decide();
    assert_eq!(decision.rule, Rule::Hold);
    assert!(matches!(waiting(&decision), Wait::Held { .. }));
    let decision = held().no_leader().decide();
    assert_eq!(decision.rule, Rule::Hold);
    assert!(matches!(waiting(&decision), Wait::Held { .. }));
}

#[test]
fn a_restarted_leader_fulfils_a_hold_request_once_it_takes_writes() {
    let recovering = requested()
        .held_because(REQUEST)
        .says(ProbeState::InRecovery)
        .started("pg1", 200);
    let decision = recovering.decide();
    assert_eq!(decision.rule, Rule::Hold);
    assert!(matches!(waiting(&decision), Wait::Held { .. }));

    let back = requested().held_because(REQUEST).started("pg1", 200);
    let decision = back.decide();
    assert_eq!(decision.rule, Rule::Move);
    assert_eq!(*app(&decision), Step::LetGo);
}

#[test]
fn a_restart_reported_under_an_older_leader_key_does_not_fulfil_a_hold_request() {
    let mut scenario = requested().held_because(REQUEST).started("pg1", 200);
    let probe = scenario.answers.get_mut(&addr("pg1")).unwrap();
    probe.leader_revision = LEADER_REVISION - 1;
    assert_eq!(scenario.decide().rule, Rule::Hold);
}

#[test]
fn a_start_time_that_is_not_known_does_not_fulfil_a_hold_request() {
    let mut silent = requested().held_because(REQUEST);
    silent.answers.get_mut(&addr("pg1")).unwrap().started = None;
    assert_eq!(silent.decide().rule, Rule::Hold);
    // Nor when it was not known at the time of the request.
    let scenario = Scenario::quiet()
        .started("pg1", 100)
        .hold_requested("pg1", None)
        .held_because(REQUEST);
    assert_eq!(scenario.decide().rule, Rule::Hold);
}

#[test]
fn a_new_leader_fulfils_a_hold_request() {
    let promoting = requested()
        .held_because(REQUEST)
        .leader("pg2")
        .says(ProbeState::InRecovery);
    let decision = promoting.decide();
    assert_eq!(decision.rule, Rule::Promoting);
    assert!(matches!(waiting(&decision), Wait::Held { .. }));

    let writable = requested()
        .held_because(REQUEST)
        .leader("pg2")
        .says(ProbeState::Writable);
    let decision = writable.decide();
    assert_eq!(decision.rule, Rule::Move);
    assert_eq!(moved_to(&decision), addr("pg2"));
}

#[test]
fn a_hold_request_that_was_given_up_is_not_held_for_again() {
    assert_eq!(requested().given_up(REQUEST).decide().rule, Rule::InSync);
}

#[test]
fn a_failover_request_is_named_before_a_hold_request_and_either_keeps_the_hold() {
    // The hook asks in the middle of a switchover; the failover request is withdrawn, the hold
    // request stays.
    let both = requested().switchover();
    assert!(matches!(held_for(&both.decide()), Reason::Request { .. }));
    let withdrawn = requested().held();
    let decision = withdrawn.decide();
    assert!(matches!(waiting(&decision), Wait::Held { what_for, .. } if *what_for == REQUEST));
    // A failover request that was given up does not hide a hold request that is made now.
    let later = requested()
        .switchover()
        .given_up(super::telling::REQUEST)
        .decide();
    assert_eq!(held_for(&later), REQUEST);
    // Nor does a failover request about a member that does not lead.
    let beside = requested().requested(request(Some("pg3"), None)).decide();
    assert_eq!(held_for(&beside), REQUEST);
}

#[test]
fn a_hold_request_holds_nothing_of_the_coordinators_group_or_an_observed_one() {
    assert_eq!(requested().group(0).decide().rule, Rule::InSync);
    let watched = requested().writes(Writes::ObserveOnly).decide();
    assert_eq!(watched.rule, Rule::InSync);
}
