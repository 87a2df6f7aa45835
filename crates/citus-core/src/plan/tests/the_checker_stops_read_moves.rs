//! The checker alone, on read moves: a right decision, spoilt, is stopped (rules 1b and 6).

use dcs_watch::{Lsn, Role};

use super::super::*;
use super::builders::{LEADER_REVISION, Scenario, addr, row, secondary};
use super::telling::request;
use super::the_checker_stops_holds::{deciding, held, lost, verdict};
use crate::invariants::Violation;

/// The right decision of one scenario is stopped in another, because that standby was not found
/// to have everything.
fn not_caught_up(right: &Scenario, wrong: &Scenario) {
    let decision = right.decision();
    let Step::ReadMove(step) = &decision.steps["app"] else {
        panic!("not the read move that this is about: {decision:?}")
    };
    let refused = Err(Violation::NotCaughtUp {
        address: step.to.clone(),
    });
    assert_eq!(verdict(wrong, &decision), refused);
}

#[test]
fn the_checker_stops_reads_to_a_standby_that_is_behind() {
    not_caught_up(&held(), &held().standby_at("pg2", 100, 99, 1));
    not_caught_up(&lost(), &lost().standby_at("pg2", 100, 99, 3));
}

#[test]
fn the_checker_stops_reads_of_a_lost_member_to_an_asynchronous_standby() {
    let right = lost();
    not_caught_up(&right, &right.clone().synchronous("pg1", &["pg3"]));
    let round = right.answers[&addr("pg2")].round;
    let other = right.clone().synchronous("pg1", &["pg3"]);
    not_caught_up(&right, &other.standby_at("pg3", 90, 90, round));
    let mut none = right.clone();
    none.view.sync = None;
    not_caught_up(&right, &none);
}

#[test]
fn the_checker_stops_reads_of_a_held_leader_to_a_member_of_another_history() {
    let right = held();
    for timeline in [1, 2] {
        let mut none = right.clone();
        none.view.sync = None;
        let members = &mut none.view.members;
        members.get_mut("pg1").expect("a member").value.timeline = Some(2);
        members.get_mut("pg2").expect("a member").value.timeline = Some(timeline);
        if timeline == 1 {
            not_caught_up(&right, &none);
        } else {
            let decision = right.decision();
            assert_eq!(verdict(&none, &decision), Ok(()));
        }
    }
}

#[test]
fn the_checker_stops_a_read_move_on_answers_from_before_the_hold_or_without_one() {
    not_caught_up(&held(), &held().leader_at(100, 0));
    not_caught_up(&held(), &held().progress("app", Held::Yes { round: 2 }));
    not_caught_up(&held(), &held().progress("app", Held::No));
    // Nor on what the leader said to an older key, does not say, or says as a standby.
    let mut earlier = held();
    let probe = earlier.answers.get_mut(&addr("pg1")).unwrap();
    probe.leader_revision = LEADER_REVISION - 1;
    not_caught_up(&held(), &earlier);
    let silent = held().answers("pg1", ProbeState::Writable, (None, None), 1);
    not_caught_up(&held(), &silent);
    let standby = held().answers("pg1", ProbeState::InRecovery, (Some(100), None), 1);
    not_caught_up(&held(), &standby);
}

#[test]
fn the_checker_stops_a_read_move_away_from_a_leader_that_is_not_lost() {
    let mut unconfirmed = lost();
    unconfirmed.reachability.clear();
    not_caught_up(&lost(), &unconfirmed);
    not_caught_up(&lost(), &lost().reachable("pg1"));
    not_caught_up(&lost(), &lost().says(ProbeState::Writable));
    not_caught_up(&lost(), &lost().says(ProbeState::InRecovery));
    not_caught_up(&lost(), &lost().says(ProbeState::Unknown));
}

#[test]
fn the_checker_stops_a_read_move_on_a_standbys_answer_from_before_the_loss() {
    not_caught_up(&lost(), &lost().standby_at("pg2", 100, 100, 2));
    let anew = lost().answers("pg2", ProbeState::InRecovery, (None, Some(100)), 3);
    not_caught_up(&lost(), &anew);
    // With the policy's blessing it is measured by what it says now, too.
    let lagging = lost()
        .synchronous("pg1", &[])
        .standby_at("pg3", 100, 100, 3)
        .allowing_lag(10);
    not_caught_up(&lagging, &lagging.clone().standby_at("pg3", 100, 100, 2));
    let both = (None, Some(100));
    let anew = lagging
        .clone()
        .answers("pg3", ProbeState::InRecovery, both, 3);
    not_caught_up(&lagging, &anew);
}

#[test]
fn the_checker_stops_reads_to_a_member_that_is_no_standby() {
    for right in [held(), lost()] {
        let round = right.answers[&addr("pg2")].round;
        for state in [
            ProbeState::Unknown,
            ProbeState::Writable,
            ProbeState::Unreachable("refused".to_owned()),
        ] {
            let both = (Some(100), Some(100));
            not_caught_up(&right, &right.clone().answers("pg2", state, both, round));
        }
        let mut unasked = right.clone();
        unasked.answers.remove(&addr("pg2"));
        not_caught_up(&right, &unasked);
        let mut stranger = right.clone();
        stranger.view.members.remove("pg2");
        not_caught_up(&right, &stranger);
    }
}

#[test]
fn the_checker_stops_reads_to_a_member_left_behind_that_was_synchronous_to_another() {
    let right = held()
        .requested(request(Some("pg1"), Some("pg2")))
        .synchronous("pg3", &["pg2"]);
    let mut behind = right.clone();
    for (name, timeline) in [("pg1", 2), ("pg2", 1)] {
        let member = behind.view.members.get_mut(name).unwrap();
        member.value.timeline = Some(timeline);
    }
    not_caught_up(&right, &behind);
    // Synchronous to its leader it streams from it, whatever its member key said last.
    let synchronous = behind.synchronous("pg1", &["pg2"]);
    assert_eq!(verdict(&synchronous, &right.decision()), Ok(()));
}

#[test]
fn the_checker_stops_reads_that_the_policy_allows_to_a_member_that_is_no_replica() {
    let may_lag = |scenario: Scenario| {
        let scenario = scenario.synchronous("pg1", &[]).allowing_lag(10);
        let round = scenario.answers[&addr("pg2")].round;
        scenario.standby_at("pg3", 100, 100, round)
    };
    for right in [may_lag(held()), may_lag(lost())] {
        let decision = right.decision();
        let Step::ReadMove(step) = &decision.steps["app"] else {
            panic!("{decision:?}")
        };
        let mut other = right.clone();
        let members = other.view.members.values_mut();
        for member in members.filter(|member| member.value.address.as_ref() == Some(&step.to)) {
            member.value.role = Role::StandbyLeader;
        }
        not_caught_up(&right, &other);
    }
}

#[test]
fn the_checker_stops_reads_of_a_lost_member_on_a_sync_key_about_another_leader() {
    let right = lost();
    not_caught_up(&right, &right.clone().synchronous("pg3", &["pg2"]));
    let mut nobody = right.clone();
    nobody.view.sync.as_mut().unwrap().value.leader = None;
    not_caught_up(&right, &nobody);
}

#[test]
fn the_checker_stops_a_read_move_against_the_policy_or_on_a_new_history() {
    for right in [held(), lost()] {
        not_caught_up(&right, &right.clone().keeping_reads());
        not_caught_up(&right, &right.clone().lineage(3, Some(2)));
    }
}

#[test]
fn the_checker_stops_reads_to_a_voter_that_another_is_ahead_of_or_among_too_few() {
    let quorum = || lost().synchronous("pg1", &["pg2", "pg3"]).quorum(1);
    let right = quorum().standby_at("pg3", 90, 90, 3);
    not_caught_up(&right, &quorum().standby_at("pg3", 110, 90, 3));
    not_caught_up(&right, &quorum().standby_at("pg3", 64, 110, 3));
    not_caught_up(&right, &quorum());
    not_caught_up(&right, &quorum().standby_at("pg3", 90, 90, 2));
    not_caught_up(&right, &quorum().lost("pg3"));
    // One that was started anew and has not streamed may have had more than it says.
    let anew = quorum().answers("pg3", ProbeState::InRecovery, (None, Some(90)), 3);
    not_caught_up(&right, &anew);
    // Nor does one vote that says nothing, or that led.
    for state in [ProbeState::Unknown, ProbeState::Writable] {
        let both = (Some(90), Some(90));
        not_caught_up(&right, &quorum().answers("pg3", state, both, 3));
    }
}

#[test]
fn the_checker_stops_reads_to_a_standby_that_has_replayed_all_it_can_but_not_all_there_is() {
    let quorum = || lost().synchronous("pg1", &["pg2", "pg3"]).quorum(1);
    let cut_off = || {
        quorum()
            .standby_at("pg2", 106, 100, 3)
            .standby_at("pg3", 90, 104, 3)
    };
    let right = cut_off().exhausted("pg2");
    // What it received beyond that may be a whole record after all.
    not_caught_up(&right, &cut_off());
    // Another one received more, or has replayed more.
    let ahead = |written, replayed| {
        let scenario = cut_off().standby_at("pg3", written, replayed, 3);
        scenario.exhausted("pg2")
    };
    not_caught_up(&right, &ahead(107, 90));
    not_caught_up(&right, &ahead(90, 107));
    // It was started anew, and has replayed more than it received since.
    let anew = quorum()
        .standby_at("pg2", 64, 100, 3)
        .standby_at("pg3", 99, 90, 3);
    let decision = anew.exhausted("pg2").decision();
    assert!(matches!(decision.steps["app"], Step::ReadMove(_)));
}

#[test]
fn the_checker_stops_reads_to_a_member_with_another_history() {
    let timeline = |mut scenario: Scenario, name: &str, timeline| {
        let member = scenario.view.members.get_mut(name).unwrap();
        member.value.timeline = Some(timeline);
        scenario
    };
    let apart = |scenario: &Scenario| timeline(timeline(scenario.clone(), "pg1", 2), "pg3", 1);
    let named = held()
        .requested(request(Some("pg1"), Some("pg3")))
        .standby_at("pg3", 100, 100, 1);
    not_caught_up(&named, &apart(&named));
    let lagging = Scenario::quiet()
        .synchronous("pg1", &[])
        .lost("pg1")
        .confirmed("pg1", 3)
        .standby_at("pg3", 100, 100, 3)
        .allowing_lag(10);
    not_caught_up(&lagging, &apart(&lagging));
}

#[test]
fn the_checker_stops_reads_to_a_member_that_lacks_more_than_is_allowed() {
    let right = Scenario::quiet()
        .synchronous("pg1", &[])
        .lost("pg1")
        .confirmed("pg1", 3)
        .standby_at("pg3", 100, 100, 3)
        .allowing_lag(10);
    not_caught_up(&right, &right.clone().standby_at("pg3", 111, 100, 3));
    not_caught_up(&right, &right.clone().standby_at("pg2", 111, 0, 0));
    let mut known = right.clone();
    known.view.last_position = Some(Lsn(111));
    not_caught_up(&right, &known);
    // While held nothing may be lacking at all.
    let held = held()
        .synchronous("pg1", &[])
        .lost("pg2")
        .standby_at("pg3", 100, 100, 1)
        .allowing_lag(10);
    not_caught_up(&held, &held.clone().standby_at("pg3", 100, 99, 1));
}

#[test]
fn the_checker_stops_reads_to_a_leader_of_a_restored_etcd_while_the_row_may_be_newer() {
    let right = Scenario::quiet()
        .switchover()
        .held()
        .row_at("pg2")
        .lost("pg2");
    let decision = right.decision();
    assert!(matches!(decision.steps["app"], Step::ReadMove(_)));
    let restored = right
        .lineage(3, Some(2))
        .at_row("pg2", ProbeState::Writable);
    assert_eq!(
        verdict(&restored, &decision),
        Err(Violation::UnprovenLineage {
            address: addr("pg2")
        })
    );
}

#[test]
fn the_checker_stops_a_read_move_whose_update_is_not_sound() {
    let rows = vec![row(2, 1, "pg1"), secondary(7, 1, "pg2")];
    let scenario = held().rows("app", Rows::known(rows));
    let spoilt = |spoil: &dyn Fn(&mut Move)| {
        let mut decision = scenario.decision();
        let Some(Step::ReadMove(step)) = decision.steps.get_mut("app") else {
            panic!("{decision:?}")
        };
        spoil(step);
        verdict(&scenario, &decision).unwrap_err()
    };
    assert_eq!(
        spoilt(&|step| step.nodeid = 7),
        Violation::NotThePrimaryRow {
            nodeid: 7,
            from: addr("pg1")
        }
    );
    assert_eq!(
        spoilt(&|step| step.make_way = None),
        Violation::BadSwap {
            address: addr("pg2")
        }
    );
    let temporary = spoilt(&|step| {
        let way = step.make_way.as_mut().unwrap();
        way.then = way.temporary.clone();
    });
    assert!(matches!(temporary, Violation::BadSwap { .. }));
}

#[test]
fn the_checker_stops_reads_to_a_temporary_name() {
    // Even if a member claims it for its own.
    let named = "citus-sync-swap-7.invalid";
    for right in [held(), lost()] {
        let round = right.answers[&addr("pg2")].round;
        let mut scenario = right.standby_at(named, 100, 100, round);
        let member = &mut scenario.view.members.get_mut("pg2").unwrap().value;
        member.address = Some(addr(named));
        let decision = deciding(Step::ReadMove(Move {
            nodeid: 2,
            from: addr("pg1"),
            to: addr(named),
            make_way: None,
        }));
        assert_eq!(
            verdict(&scenario, &decision),
            Err(Violation::NotCaughtUp {
                address: addr(named)
            })
        );
    }
}
