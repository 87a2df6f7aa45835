//! Where reads go while writes are held and the leader is still there: to a standby that has
//! replayed everything the leader had on disk once no client could write any more.

use super::super::*;
use super::builders::{LEADER_REVISION, Scenario, addr, row, secondary};
use super::telling::{app, asks, reads_to, request, stay, waiting};

/// pg1 is asked to leave; writes are held since round 1, and it had 100 on disk then.
fn held() -> Scenario {
    Scenario::quiet().switchover().held().leader_at(100, 1)
}

#[test]
fn reads_go_to_the_synchronous_standby_once_it_has_everything() {
    let decision = held().standby_at("pg2", 100, 100, 1).decide();
    assert_eq!(decision.rule, Rule::Hold);
    let Step::ReadMove(step) = app(&decision) else {
        panic!("{decision:?}")
    };
    assert_eq!(
        *step,
        Move {
            nodeid: 2,
            from: addr("pg1"),
            to: addr("pg2"),
            make_way: None
        }
    );
    assert_eq!(
        app(&decision).to_string(),
        "send reads: node 2 from pg1:5432 to pg2:5432"
    );
}

#[test]
fn a_standby_that_is_behind_is_waited_for() {
    let decision = held().standby_at("pg2", 100, 99, 1).decide();
    assert_eq!(
        *stay(&decision),
        Stay::Behind {
            address: addr("pg2"),
            bytes: 1
        }
    );
    assert_eq!(asks(&decision), ["pg1", "pg2", "pg3"]);
    assert!(decision.ask[1].eager, "asked every few milliseconds");
}

#[test]
fn what_a_standby_said_earlier_counts_when_it_had_everything_then() {
    let decision = held().standby_at("pg2", 100, 100, 0).decide();
    assert_eq!(reads_to(&decision), addr("pg2"));
}

#[test]
fn what_the_leader_said_before_the_hold_does_not_count() {
    // Writes may have been made since.
    let decision = Scenario::quiet()
        .switchover()
        .held()
        .leader_at(100, 0)
        .standby_at("pg2", 100, 100, 1)
        .decide();
    assert_eq!(*stay(&decision), Stay::Asking);
    // Each database has a round of its own.
    let later = held()
        .standby_at("pg2", 100, 100, 1)
        .rows("second", Rows::known(vec![row(9, 1, "pg1")]))
        .progress("second", Held::Yes { round: 2 })
        .decide();
    assert_eq!(reads_to(&later), addr("pg2"));
    assert!(matches!(
        later.steps["second"],
        Step::Wait(Wait::Held {
            stay: Some(Stay::Asking),
            ..
        })
    ));
}

#[test]
fn a_leader_whose_position_is_not_known_is_asked_for_it() {
    let scenario = Scenario::quiet()
        .switchover()
        .held()
        .answers("pg1", ProbeState::Writable, (None, None), 1)
        .standby_at("pg2", 100, 100, 1);
    assert_eq!(*stay(&scenario.decide()), Stay::Asking);
}

#[test]
fn a_standby_that_says_nothing_of_its_position_does_not_count() {
    let scenario = held().answers("pg2", ProbeState::InRecovery, (None, None), 1);
    assert_eq!(*stay(&scenario.decide()), Stay::NoStandby);
    // Nor one that was not asked, is gone, or is no standby.
    assert_eq!(*stay(&held().decide()), Stay::NoStandby);
    assert_eq!(*stay(&held().lost("pg2").decide()), Stay::NoStandby);
    let both = (Some(100), Some(100));
    let other = held().answers("pg2", ProbeState::Writable, both, 1);
    assert_eq!(*stay(&other.decide()), Stay::NoStandby);
    let unknown = held().answers("pg2", ProbeState::Unknown, both, 1);
    assert_eq!(*stay(&unknown.decide()), Stay::NoStandby);
}

/// Patroni's default is `synchronous_mode: false`.
#[test]
fn while_writes_are_held_any_standby_that_has_replayed_everything_takes_the_reads() {
    let mut none = held().standby_at("pg3", 100, 100, 1);
    none.view.sync = None;
    assert_eq!(reads_to(&none.decide()), addr("pg3"));
    let behind = held().standby_at("pg3", 100, 99, 1);
    assert!(matches!(
        stay(&behind.decide()),
        Stay::Behind { bytes: 1, .. }
    ));
    // A synchronous one first, where both have everything.
    let both = held()
        .standby_at("pg2", 100, 100, 1)
        .standby_at("pg3", 100, 100, 1);
    assert_eq!(reads_to(&both.decide()), addr("pg2"));
}

#[test]
fn the_named_candidate_gets_the_reads_whatever_it_is() {
    let scenario = || {
        held()
            .requested(request(Some("pg1"), Some("pg3")))
            .standby_at("pg2", 100, 100, 1)
    };
    // It will lead: reads need not move twice.
    let both = scenario().standby_at("pg3", 100, 100, 1);
    assert_eq!(reads_to(&both.decide()), addr("pg3"));
    // Also where the request is not what writes are held for.
    let reason = Reason::HoldRequest { id: 1 };
    let asked = scenario().hold_requested("pg1", None).held_because(reason);
    let asked = asked.limits(|may| may.hold_on_request = false);
    let both = asked.standby_at("pg3", 100, 100, 1);
    assert_eq!(reads_to(&both.decide()), addr("pg3"));
    // But reads do not wait for it when another standby has everything.
    let late = scenario().standby_at("pg3", 100, 99, 1);
    assert_eq!(reads_to(&late.decide()), addr("pg2"));
}

#[test]
fn of_standbys_that_are_behind_the_furthest_is_named() {
    let scenario = held()
        .synchronous("pg1", &["pg2", "pg3"])
        .standby_at("pg2", 100, 40, 1)
        .standby_at("pg3", 100, 90, 1);
    assert_eq!(
        *stay(&scenario.decide()),
        Stay::Behind {
            address: addr("pg3"),
            bytes: 10
        }
    );
}

#[test]
fn with_quorum_commit_any_standby_that_has_everything_gets_the_reads() {
    let scenario = held()
        .synchronous("pg1", &["pg2", "pg3"])
        .quorum(1)
        .standby_at("pg3", 100, 100, 1);
    assert_eq!(reads_to(&scenario.decide()), addr("pg3"));
}

#[test]
fn a_sync_key_about_another_leader_puts_no_standby_first() {
    let both = |scenario: Scenario| {
        scenario
            .standby_at("pg2", 100, 100, 1)
            .standby_at("pg3", 100, 100, 1)
    };
    let about_pg1 = both(held().synchronous("pg1", &["pg3"]));
    assert_eq!(reads_to(&about_pg1.decide()), addr("pg3"));
    let about_pg2 = both(held().synchronous("pg2", &["pg3"]));
    assert_eq!(reads_to(&about_pg2.decide()), addr("pg2"));
}

#[test]
fn a_member_without_a_key_or_an_address_gets_no_reads() {
    let mut scenario = held().standby_at("pg2", 100, 100, 1);
    scenario.view.members.remove("pg3");
    scenario.view.members.get_mut("pg2").unwrap().value.address = None;
    assert_eq!(*stay(&scenario.clone().decide()), Stay::NoneQualifies);
    scenario.view.members.remove("pg2");
    assert_eq!(*stay(&scenario.decide()), Stay::NoneQualifies);
}

#[test]
fn the_leader_does_not_count_as_its_own_standby() {
    let mut scenario = held()
        .synchronous("pg1", &["pg1"])
        .requested(request(Some("pg1"), None));
    scenario.view.members.remove("pg2");
    scenario.view.members.remove("pg3");
    let decision = scenario.decide();
    assert_eq!(*stay(&decision), Stay::NoneQualifies);
    assert_eq!(asks(&decision), ["pg1"]);
}

#[test]
fn a_candidate_left_behind_on_an_older_timeline_has_another_history() {
    // It led before and crashed; no member received what it wrote last, and Patroni has
    // not rewound it yet.
    let mut scenario = held()
        .requested(request(Some("pg1"), Some("pg3")))
        .standby_at("pg3", 120, 120, 1);
    let timeline = |scenario: &mut Scenario, name: &str, timeline| {
        let member = scenario.view.members.get_mut(name).unwrap();
        member.value.timeline = Some(timeline);
    };
    timeline(&mut scenario, "pg1", 2);
    timeline(&mut scenario, "pg3", 1);
    assert_eq!(*stay(&scenario.clone().decide()), Stay::NoStandby);
    // Nor with the policy's blessing.
    let allowed = scenario.clone().allowing_lag(1_000);
    assert_eq!(*stay(&allowed.decide()), Stay::NoStandby);
    timeline(&mut scenario, "pg3", 2);
    assert_eq!(reads_to(&scenario.decide()), addr("pg3"));
}

#[test]
fn a_synchronous_standby_streams_whatever_its_member_key_says_of_timelines() {
    // Member keys are a loop old; the sync key is not.
    let mut scenario = held().standby_at("pg2", 100, 100, 1);
    scenario.view.members.get_mut("pg1").unwrap().value.timeline = Some(2);
    scenario.view.members.get_mut("pg2").unwrap().value.timeline = Some(1);
    assert_eq!(reads_to(&scenario.decide()), addr("pg2"));
}

#[test]
fn reads_stay_where_the_policy_or_our_rights_say_so() {
    let ready = || held().standby_at("pg2", 100, 100, 1);
    let off = ready().keeping_reads().decide();
    assert_eq!(*stay(&off), Stay::Off);
    assert_eq!(asks(&off), ["pg1"], "no member is asked without a need");
    let refused = ready()
        .without_update("app")
        .rows("second", Rows::known(vec![row(9, 1, "pg1")]))
        .progress("second", Held::Yes { round: 1 })
        .decide();
    assert_eq!(*stay(&refused), Stay::NotAllowed);
    assert!(matches!(refused.steps["second"], Step::ReadMove(_)));
}

#[test]
fn standbys_of_a_new_history_get_no_reads() {
    let scenario = held().standby_at("pg2", 100, 100, 1).lineage(3, Some(2));
    assert_eq!(*stay(&scenario.decide()), Stay::NewHistory);
}

#[test]
fn reads_are_not_moved_before_writes_are_held() {
    let scenario = Scenario::quiet()
        .switchover()
        .leader_at(100, 1)
        .standby_at("pg2", 100, 100, 1);
    assert!(matches!(app(&scenario.clone().decide()), Step::Hold(_)));
    let taking = scenario
        .active_hold(super::telling::REQUEST)
        .progress("app", Held::Taking);
    assert!(matches!(waiting(&taking.decide()), Wait::Taking { .. }));
}

#[test]
fn a_secondary_row_changes_places_and_back() {
    let rows = vec![row(2, 1, "pg1"), secondary(7, 1, "pg2")];
    let scenario = held()
        .standby_at("pg2", 100, 100, 1)
        .rows("app", Rows::known(rows));
    let decision = scenario.decide();
    let Step::ReadMove(step) = app(&decision) else {
        panic!("{decision:?}")
    };
    let way = step.make_way.as_ref().unwrap();
    assert_eq!((way.nodeid, &way.then), (7, &addr("pg1")));

    // Withdrawn: back again, in one transaction with the end of the hold.
    let swapped = vec![row(2, 1, "pg2"), secondary(7, 1, "pg1")];
    let back = Scenario::quiet()
        .held()
        .rows("app", Rows::known(swapped))
        .decide();
    let Step::Move(step) = app(&back) else {
        panic!("{back:?}")
    };
    let way = step.make_way.as_ref().unwrap();
    assert_eq!((&step.to, &way.then), (&addr("pg1"), &addr("pg2")));
}

#[test]
fn a_standby_whose_address_is_another_groups_gets_no_reads() {
    let rows = vec![row(2, 1, "pg1"), row(3, 2, "pg2")];
    let scenario = held()
        .standby_at("pg2", 100, 100, 1)
        .rows("app", Rows::known(rows));
    assert!(matches!(
        waiting(&scenario.decide()),
        Wait::AddressTaken { .. }
    ));
}

#[test]
fn an_answer_of_the_leader_under_an_older_key_does_not_count() {
    let mut scenario = held().standby_at("pg2", 100, 100, 1);
    let probe = scenario.answers.get_mut(&addr("pg1")).unwrap();
    probe.leader_revision = LEADER_REVISION - 1;
    let decision = scenario.decide();
    assert!(!app(&decision).acts(), "{decision:?}");
}

#[test]
fn a_row_left_at_a_standby_by_a_daemon_that_died_goes_back_to_the_leader() {
    let scenario = Scenario::quiet()
        .row_at("pg2")
        .standby_at("pg2", 100, 100, 0)
        .decide();
    assert_eq!(scenario.rule, Rule::Move);
    assert_eq!(super::telling::moved_to(&scenario), addr("pg1"));
}
