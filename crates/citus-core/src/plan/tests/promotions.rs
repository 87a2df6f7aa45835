//! The leader key has a new holder, which is still in recovery.

use super::super::*;
use super::builders::{LEADER_REVISION, Scenario, addr, row};
use super::telling::{REQUEST, app, asks, held_for, reads_to, waiting};

use dcs_watch::Role;

fn promoting() -> Scenario {
    Scenario::quiet().leader("pg2").says(ProbeState::InRecovery)
}

#[test]
fn writes_are_held_while_a_leader_is_promoted() {
    let decision = promoting().decide();
    assert_eq!(decision.rule, Rule::Promoting);
    assert_eq!(
        held_for(&decision),
        Reason::Promotion {
            revision: LEADER_REVISION
        }
    );
    assert_eq!(
        held_for(&decision).to_string(),
        "the new leader is being promoted"
    );
}

#[test]
fn an_open_hold_is_kept_over_a_promotion() {
    let decision = promoting().held().decide();
    assert_eq!(decision.rule, Rule::Promoting);
    assert!(matches!(
        waiting(&decision),
        Wait::Held {
            what_for: Reason::Promotion { .. },
            ..
        }
    ));
    let pg2 = decision.ask.iter().find(|ask| ask.address == addr("pg2"));
    let pg2 = pg2.unwrap();
    assert!(pg2.eager && pg2.hurry, "asked every few milliseconds");
}

#[test]
fn a_database_that_lost_its_hold_is_held_again_for_the_promotion() {
    let scenario = promoting()
        .rows("second", Rows::known(vec![row(9, 1, "pg1")]))
        .active_hold(REQUEST)
        .progress("second", Held::Yes { round: 1 });
    let decision = scenario.decide();
    assert!(matches!(app(&decision), Step::Hold(_)));
    assert!(matches!(
        decision.steps["second"],
        Step::Wait(Wait::Held { .. })
    ));
}

#[test]
fn no_writes_are_held_for_the_leader_of_a_standby_cluster() {
    let mut scenario = promoting();
    scenario.view.members.get_mut("pg2").unwrap().value.role = Role::StandbyLeader;
    let decision = scenario.clone().decide();
    assert!(matches!(waiting(&decision), Wait::Promoting { .. }));
    // A hold that was asked for is taken all the same.
    let asked = scenario.hold_requested("pg2", Some(1)).decide();
    assert!(matches!(held_for(&asked), Reason::HoldRequest { .. }));
}

#[test]
fn a_promotion_holds_nothing_of_the_coordinators_group_or_an_observed_one() {
    let own = promoting()
        .group(0)
        .rows("app", Rows::known(vec![row(1, 0, "pg1")]));
    assert!(matches!(waiting(&own.decide()), Wait::Promoting { .. }));
    for writes in [Writes::ObserveOnly, Writes::PatroniManages] {
        let decision = promoting().writes(writes).decide();
        assert!(matches!(waiting(&decision), Wait::Promoting { .. }));
    }
}

#[test]
fn a_daemon_that_is_about_to_stop_takes_no_hold_for_a_promotion() {
    let mut scenario = promoting();
    scenario.stopping = true;
    assert!(matches!(
        waiting(&scenario.decide()),
        Wait::Promoting { .. }
    ));
}

#[test]
fn reads_of_a_lost_leader_go_to_the_standby_before_writes_are_held() {
    let scenario = promoting()
        .synchronous("pg1", &["pg2"])
        .lost("pg1")
        .confirmed("pg1", 4)
        .answers("pg2", ProbeState::InRecovery, (Some(100), Some(100)), 4);
    let decision = scenario.clone().decide();
    assert_eq!(reads_to(&decision), addr("pg2"));
    assert_eq!(asks(&decision), ["pg2", "pg1"]);
    // In the hold just the same.
    assert_eq!(reads_to(&scenario.clone().held().decide()), addr("pg2"));
    // And once they are there, writes are held.
    let moved = scenario.row_at("pg2").decide();
    assert!(matches!(held_for(&moved), Reason::Promotion { .. }));
}
