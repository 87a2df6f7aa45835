//! Rows follow their leader: moved, registered, fixed, or left alone for a stated reason.

use dcs_watch::Freshness;

use super::super::*;
use super::builders::{Scenario, addr, row, secondary};

#[test]
fn in_sync_when_the_row_is_the_writable_leaders() {
    let decision = Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .decide();
    assert_eq!(decision.rule, Rule::InSync);
    assert!(decision.is_in_sync());
    assert_eq!(
        decision.ask,
        [Ask {
            address: addr("pg1"),
            eager: false,
            hurry: false
        }]
    );
}

#[test]
fn a_new_writable_leader_gets_the_row_and_the_row_keeps_its_nodeid() {
    let decision = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .decide();
    assert_eq!(decision.rule, Rule::Move);
    let Step::Move(step) = &decision.steps["app"] else {
        panic!("{decision:?}")
    };
    assert_eq!(
        (step.nodeid, &step.from, &step.to),
        (2, &addr("pg1"), &addr("pg2"))
    );
    assert_eq!(step.make_way, None);
}

#[test]
fn nothing_moves_on_a_stale_or_unknown_view() {
    let stale = Freshness::Stale {
        reason: "silent for 7 s".to_owned(),
    };
    for freshness in [stale, Freshness::Unknown] {
        let decision = Scenario::new()
            .leader("pg2")
            .says(ProbeState::Writable)
            .freshness(freshness)
            .decide();
        assert_eq!(decision.rule, Rule::Stale);
        assert!(!decision.steps.values().any(Step::acts));
    }
}

#[test]
fn a_leader_key_that_is_gone_moves_nothing() {
    let decision = Scenario::new().no_leader().decide();
    assert_eq!(decision.rule, Rule::LeaderGone);
    assert!(matches!(
        decision.steps["app"],
        Step::Wait(Wait::LeaderGone)
    ));
}

#[test]
fn a_scope_that_etcd_does_not_know_is_named() {
    let mut scenario = Scenario::new().no_leader();
    scenario.view.members.clear();
    let Step::Wait(wait) = &scenario.decide().steps["app"] else {
        panic!()
    };
    assert!(
        wait.to_string().starts_with("etcd knows no scope wk1"),
        "{wait}"
    );
}

#[test]
fn a_leader_in_recovery_is_waited_for_and_asked_eagerly() {
    let decision = Scenario::new()
        .leader("pg2")
        .says(ProbeState::InRecovery)
        .decide();
    assert_eq!(decision.rule, Rule::Promoting);
    // And where the row points is looked at too: reads may have to go elsewhere.
    let asked = |host: &str, eager| Ask {
        address: addr(host),
        eager,
        hurry: false,
    };
    assert_eq!(decision.ask, [asked("pg2", true), asked("pg1", false)]);
    // Writes wait for the promotion.
    let Step::Hold(hold) = &decision.steps["app"] else {
        panic!("{decision:?}")
    };
    assert!(matches!(hold.reason, Reason::Promotion { .. }));
}

#[test]
fn a_leader_that_cannot_be_reached_moves_nothing() {
    let gone = ProbeState::Unreachable("refused".to_owned());
    let decision = Scenario::new().leader("pg2").says(gone).decide();
    assert_eq!(decision.rule, Rule::Unreachable);
    let Step::Wait(wait) = &decision.steps["app"] else {
        panic!("{decision:?}")
    };
    assert_eq!(
        wait.to_string(),
        "cannot reach the leader at pg2:5432: refused"
    );
}

#[test]
fn an_answer_to_an_older_leader_key_does_not_count() {
    // pg2 led before, was demoted and leads again: it must answer again.
    let decision = Scenario::new()
        .leader("pg2")
        .said_earlier(ProbeState::Writable)
        .decide();
    assert_eq!(decision.rule, Rule::Unproven);
    assert!(!decision.steps.values().any(Step::acts));
}

#[test]
fn an_answer_from_an_older_address_does_not_count() {
    let mut scenario = Scenario::new().leader("pg2").says(ProbeState::Writable);
    let probe = scenario.answers.remove(&addr("pg2")).unwrap();
    scenario.answers.insert(addr("pg9"), probe);
    assert_eq!(scenario.decide().rule, Rule::Unproven);
}

#[test]
fn a_leader_without_an_address_is_named() {
    let mut scenario = Scenario::new().leader("pg2");
    scenario.view.members.get_mut("pg2").unwrap().value.address = None;
    let decision = scenario.decide();
    assert_eq!(decision.rule, Rule::Unproven);
    let Step::Wait(wait) = &decision.steps["app"] else {
        panic!("{decision:?}")
    };
    assert!(
        wait.to_string().contains("member pg2 holds the leader key"),
        "{wait}"
    );
    // Nor with its member key gone.
    let mut scenario = Scenario::new().leader("pg2");
    scenario.view.members.remove("pg2");
    assert_eq!(scenario.decide().rule, Rule::Unproven);
}

#[test]
fn databases_are_decided_one_by_one() {
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .rows("broken", Rows::Unknown("no pg_dist_node".to_owned()))
        .rows("ahead", Rows::known(vec![row(5, 1, "pg2")]));
    let decision = scenario.decide();
    assert_eq!(decision.rule, Rule::Move);
    assert!(decision.steps["app"].acts());
    assert_eq!(decision.steps["ahead"], Step::InSync);
    assert!(matches!(
        decision.steps["broken"],
        Step::Wait(Wait::RowsUnknown { .. })
    ));
}

#[test]
fn a_secondary_row_at_the_leaders_address_changes_places_with_the_primary() {
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .rows(
            "app",
            Rows::known(vec![
                row(2, 1, "pg1"),
                secondary(7, 1, "pg2"),
                row(3, 2, "other"),
            ]),
        );
    let decision = scenario.decide();
    let Step::Move(step) = &decision.steps["app"] else {
        panic!("{decision:?}")
    };
    let way = step
        .make_way
        .as_ref()
        .expect("the secondary row must make way");
    assert_eq!((step.nodeid, way.nodeid), (2, 7));
    assert_eq!(way.then, addr("pg1"));
    assert_eq!(way.temporary.host, "citus-sync-swap-7.invalid");
}

#[test]
fn an_address_that_belongs_to_another_group_is_not_taken() {
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(vec![row(2, 1, "pg1"), row(3, 2, "pg2")]));
    let decision = scenario.decide();
    assert_eq!(decision.rule, Rule::Blocked);
    let Step::Wait(wait) = &decision.steps["app"] else {
        panic!("{decision:?}")
    };
    assert!(
        wait.to_string()
            .starts_with("pg2:5432 already belongs to node 3 of group 2"),
        "{wait}"
    );
}

#[test]
fn an_address_whose_row_is_no_secondary_of_this_group_is_not_taken() {
    let unavailable = Row {
        role: NodeRole::Unavailable,
        ..row(7, 1, "pg2")
    };
    for other in [secondary(7, 2, "pg2"), unavailable] {
        let scenario = Scenario::new()
            .leader("pg2")
            .says(ProbeState::Writable)
            .rows("app", Rows::known(vec![row(2, 1, "pg1"), other]));
        let decision = scenario.decide();
        let step = &decision.steps["app"];
        let taken = matches!(step, Step::Wait(Wait::AddressTaken { nodeid: 7, .. }));
        assert!(taken, "{step:?}");
    }
}

#[test]
fn a_group_with_two_primary_rows_is_blocked() {
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(vec![row(2, 1, "pg1"), row(9, 1, "pg3")]));
    assert_eq!(
        scenario.decide().steps["app"],
        Step::Wait(Wait::TwoPrimaries {
            nodeids: vec![2, 9]
        })
    );
}

#[test]
fn a_group_without_a_row_is_named_or_registered() {
    let scenario = Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(vec![]));
    assert_eq!(
        scenario.clone().decide().steps["app"],
        Step::Wait(Wait::NoRow { group: 1 })
    );
    let decision = scenario.registering().decide();
    assert_eq!(
        decision.steps["app"],
        Step::Register(Register {
            group: 1,
            address: addr("pg1")
        })
    );
}

#[test]
fn a_group_whose_address_another_row_has_is_not_registered() {
    let scenario = Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .registering()
        .rows("app", Rows::known(vec![row(3, 2, "pg1")]));
    assert!(matches!(
        scenario.decide().steps["app"],
        Step::Wait(Wait::AddressTaken { nodeid: 3, .. })
    ));
}

#[test]
fn the_coordinators_own_row_is_optional_and_followed_where_it_is() {
    let scenario = Scenario::new()
        .group(0)
        .leader("pg2")
        .says(ProbeState::Writable)
        .rows("app", Rows::known(vec![row(3, 1, "other")]))
        .rows("second", Rows::known(vec![row(1, 0, "pg1")]));
    let decision = scenario.decide();
    assert_eq!(decision.steps["app"], Step::InSync);
    assert!(decision.steps["second"].acts());
}

#[test]
fn a_row_that_patroni_manages_is_named_and_not_moved() {
    let scenario = Scenario::new().leader("pg2").says(ProbeState::Writable);
    for writes in [Writes::PatroniManages, Writes::ObserveOnly] {
        let decision = scenario.clone().writes(writes).decide();
        assert_eq!(decision.rule, Rule::Blocked);
        let Step::Wait(wait) = &decision.steps["app"] else {
            panic!("{decision:?}")
        };
        assert!(
            wait.to_string()
                .ends_with("would move node 2 from pg1:5432 to pg2:5432"),
            "{wait}"
        );
    }
}

#[test]
fn a_restored_etcd_moves_nothing_until_the_old_address_refuses_writes() {
    // The row is right; etcd came back from a backup in which pg2 led.
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .lineage(1, Some(0));
    let decision = scenario.clone().decide();
    assert_eq!(decision.rule, Rule::Blocked);
    assert!(
        decision.ask.contains(&Ask {
            address: addr("pg1"),
            eager: false,
            hurry: false
        }),
        "the member at the row's address must be asked: {decision:?}"
    );
    assert!(
        !scenario
            .clone()
            .at_row("pg1", ProbeState::Writable)
            .decide()
            .steps["app"]
            .acts()
    );
    assert!(
        scenario
            .clone()
            .at_row("pg1", ProbeState::InRecovery)
            .decide()
            .steps["app"]
            .acts()
    );
    let gone = ProbeState::Unreachable("refused".to_owned());
    assert!(scenario.at_row("pg1", gone).decide().steps["app"].acts());
}

#[test]
fn a_restored_etcd_that_agrees_with_the_rows_is_in_sync() {
    let scenario = Scenario::new()
        .leader("pg1")
        .says(ProbeState::Writable)
        .lineage(1, Some(0));
    assert_eq!(scenario.decide().rule, Rule::InSync);
}

#[test]
fn after_a_restore_a_member_without_free_connections_may_still_take_writes() {
    let full = ProbeState::Refuses("too many clients".to_owned());
    let scenario = Scenario::new()
        .leader("pg2")
        .says(ProbeState::Writable)
        .lineage(1, Some(0));
    let decision = scenario.at_row("pg1", full).decide();
    assert!(!decision.steps["app"].acts(), "{decision:?}");
}

/// There is nothing to mistrust it against; so the member at the row is asked.
#[test]
fn the_first_history_of_etcd_that_is_seen_is_taken_once_the_member_at_the_row_takes_no_writes() {
    let scenario = |state| {
        let scenario = Scenario::new().leader("pg2").says(ProbeState::Writable);
        let scenario = scenario.at_row("pg1", state).started("pg1", 7);
        scenario.lineage(3, None).decide()
    };
    assert_eq!(scenario(ProbeState::InRecovery).rule, Rule::Move);
    assert_eq!(scenario(ProbeState::Writable).rule, Rule::Blocked);
}

#[test]
fn pause_does_not_stop_us_from_following_a_leader() {
    let decision = Scenario::new()
        .paused()
        .leader("pg2")
        .says(ProbeState::Writable)
        .decide();
    assert_eq!(decision.rule, Rule::Move);
}
