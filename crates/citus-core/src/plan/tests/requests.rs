//! Which requests are a reason to hold: a due one that makes the present leader leave.

use std::time::Duration;

use dcs_watch::FailoverRequest;

use super::super::*;
use super::builders::Scenario;
use super::telling::{REQUEST, held_for, request};

/// A request that makes pg1 leave, due in so many milliseconds (or so long ago).
fn scheduled(in_ms: i64) -> Scenario {
    let scenario = Scenario::quiet();
    let at = scenario.now + time::Duration::milliseconds(in_ms);
    let request = FailoverRequest {
        scheduled_at: Some(at),
        ..request(Some("pg1"), None)
    };
    scenario.requested(request)
}

fn holds(scenario: &Scenario) -> bool {
    let decision = scenario.clone().decide();
    let holds = decision.rule == Rule::Hold;
    if holds {
        assert_eq!(held_for(&decision), REQUEST);
    } else {
        assert_eq!(decision.rule, Rule::InSync, "{decision:?}");
    }
    holds
}

#[test]
fn a_request_that_names_the_leader_holds() {
    let decision = Scenario::quiet().switchover().decide();
    assert_eq!(decision.rule, Rule::Hold);
    assert_eq!(
        decision.steps["app"],
        Step::Hold(Hold {
            nodeid: 2,
            reason: REQUEST
        })
    );
    assert!(holds(
        &Scenario::quiet().requested(request(Some("pg1"), Some("pg2")))
    ));
}

/// Every member's hook asks, and later than the request is written.
#[test]
fn with_hold_on_request_off_a_request_holds_nothing() {
    let when_asked = |scenario: Scenario| scenario.limits(|may| may.hold_on_request = false);
    let scenario = when_asked(Scenario::quiet().switchover());
    assert_eq!(scenario.clone().decide().rule, Rule::InSync);
    let asked = scenario.hold_requested("pg1", None);
    let reason = Reason::HoldRequest { id: 1 };
    assert_eq!(held_for(&asked.decide()), reason);
}

#[test]
fn a_request_that_names_only_a_candidate_makes_the_leader_leave_as_well() {
    assert!(holds(
        &Scenario::quiet().requested(request(None, Some("pg2")))
    ));
}

#[test]
fn a_request_for_the_member_that_leads_already_holds_nothing() {
    for leaving in [None, Some("pg1"), Some("pg3")] {
        assert!(!holds(
            &Scenario::quiet().requested(request(leaving, Some("pg1")))
        ));
    }
}

#[test]
fn a_request_about_another_leader_holds_nothing() {
    // It was fulfilled, and Patroni has not cleared it yet; or it was mistaken.
    for candidate in [None, Some("pg3")] {
        assert!(!holds(
            &Scenario::quiet().requested(request(Some("pg2"), candidate))
        ));
    }
}

#[test]
fn a_cleared_request_holds_nothing() {
    assert!(!holds(&Scenario::quiet().requested(request(None, None))));
}

#[test]
fn a_scheduled_request_holds_when_it_is_due_and_not_before() {
    let ahead = scheduled(60_000);
    assert!(!holds(&ahead));
    // A tenth of a second before its time it counts as due: the hold takes a moment.
    assert_eq!(
        ahead.decide().again_in,
        Some(Duration::from_millis(59_900)),
        "no event comes when it is due"
    );
    assert!(!holds(&scheduled(101)));
    assert!(holds(&scheduled(100)));
    assert!(holds(&scheduled(0)));
}

#[test]
fn a_scheduled_request_that_patroni_did_not_act_on_expires() {
    assert!(holds(&scheduled(-29_000)));
    assert!(holds(&scheduled(-30_000)));
    assert!(!holds(&scheduled(-30_001)));
    // No event comes when it expires.
    assert_eq!(
        scheduled(-29_000).decide().again_in,
        Some(Duration::from_millis(1_001))
    );
    assert_eq!(scheduled(-30_001).decide().again_in, None);
    assert_eq!(Scenario::quiet().switchover().decide().again_in, None);
}

#[test]
fn a_scheduled_request_about_another_leader_holds_nothing() {
    let scenario = scheduled(60_000);
    let at = scenario.view.failover.as_ref().unwrap().value.scheduled_at;
    let other = FailoverRequest {
        scheduled_at: at,
        ..request(Some("pg2"), None)
    };
    assert!(!holds(&scenario.requested(other)));
}

#[test]
fn a_paused_patroni_acts_on_a_request_with_a_candidate_only() {
    assert!(!holds(&Scenario::quiet().paused().switchover()));
    let named = request(Some("pg1"), Some("pg2"));
    assert!(holds(&Scenario::quiet().paused().requested(named)));
    let named = request(None, Some("pg2"));
    assert!(holds(&Scenario::quiet().paused().requested(named)));
    // And on no schedule at all.
    let mut due = scheduled(0).paused();
    assert!(!holds(&due));
    let failover = due.view.failover.as_mut().unwrap();
    failover.value.candidate = Some("pg2".to_owned());
    assert!(!holds(&due));
}

#[test]
fn a_request_holds_nothing_of_the_coordinators_group_or_an_observed_one() {
    assert!(!holds(&Scenario::quiet().switchover().group(0)));
    for writes in [Writes::ObserveOnly, Writes::PatroniManages] {
        assert!(!holds(&Scenario::quiet().switchover().writes(writes)));
    }
}

#[test]
fn a_request_that_was_given_up_is_never_held_for_again_but_a_new_one_is() {
    let scenario = Scenario::quiet().switchover().given_up(REQUEST);
    assert!(!holds(&scenario));
    let mut next = scenario;
    next.view.failover.as_mut().unwrap().mod_revision += 1;
    let decision = next.decide();
    assert_eq!(
        held_for(&decision),
        Reason::Request {
            revision: super::telling::REQUEST_REVISION + 1
        }
    );
}

#[test]
fn a_daemon_that_is_about_to_stop_takes_no_hold() {
    let mut scenario = Scenario::quiet().switchover();
    scenario.stopping = true;
    assert!(!holds(&scenario));
    let stands = scenario.with(|situation| situation.reason_to_hold().is_some());
    assert!(!stands, "no reason to hold is reported");
}

#[test]
fn a_request_without_a_leader_to_leave_holds_nothing() {
    let decision = Scenario::quiet()
        .requested(request(None, Some("pg2")))
        .no_leader()
        .decide();
    assert_eq!(decision.rule, Rule::LeaderGone);
    assert!(!decision.steps["app"].acts());
}
