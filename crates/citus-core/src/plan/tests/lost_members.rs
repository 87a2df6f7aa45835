//! The leader is lost: reads go to a standby that has everything, once the coordinator cannot
//! reach it either; writes wait only if the policy says so.

use dcs_watch::{KeyRevisions, Lsn, Role};

use super::super::*;
use super::builders::{LEADER_REVISION, Scenario, addr, row, secondary};
use super::telling::{app, asks, held_for, moved_to, reads_to, stay, waiting};

/// pg1 is lost, for us since round 3 and for the coordinator too; pg2 was synchronous to it.
fn lost() -> Scenario {
    Scenario::quiet().lost("pg1").confirmed("pg1", 3)
}

#[test]
fn reads_go_to_the_synchronous_standby_that_has_replayed_what_it_received() {
    let decision = lost().standby_at("pg2", 100, 100, 3).decide();
    assert_eq!(decision.rule, Rule::Unreachable);
    assert_eq!(reads_to(&decision), addr("pg2"));
    // The leader key may be gone by now, and its member key with it: both are on leases.
    let mut gone = lost().standby_at("pg2", 100, 100, 3).no_leader();
    let decision = gone.clone().decide();
    assert_eq!(decision.rule, Rule::LeaderGone);
    assert_eq!(reads_to(&decision), addr("pg2"));
    gone.view.members.remove("pg1");
    assert_eq!(reads_to(&gone.decide()), addr("pg2"));
}

#[test]
fn the_coordinator_is_asked_first_and_standbys_at_the_same_time() {
    let decision = Scenario::quiet().lost("pg1").decide();
    assert_eq!(decision.rule, Rule::Unreachable);
    assert!(matches!(waiting(&decision), Wait::Unreachable { .. }));
    assert_eq!(decision.reachability, [addr("pg1")]);
    assert_eq!(asks(&decision), ["pg1", "pg2"]);
    // Its word ages: it is asked again for as long as we do not reach the member.
    assert_eq!(lost().decide().reachability, [addr("pg1")]);
    // What it reaches is asked about again: we do not reach it still.
    let reachable = Scenario::quiet().lost("pg1").reachable("pg1").decide();
    assert_eq!(reachable.reachability, [addr("pg1")]);
}

#[test]
fn a_leader_that_the_coordinator_reaches_keeps_its_reads() {
    let scenario = Scenario::quiet()
        .lost("pg1")
        .reachable("pg1")
        .standby_at("pg2", 100, 100, 3);
    assert_eq!(*stay(&scenario.decide()), Stay::Reachable);
}

#[test]
fn a_leader_that_answers_us_keeps_its_reads_whatever_the_coordinator_says() {
    let scenario = Scenario::quiet()
        .no_leader()
        .at_row("pg1", ProbeState::Writable)
        .confirmed("pg1", 3)
        .standby_at("pg2", 100, 100, 3);
    let decision = scenario.decide();
    assert_eq!(*waiting(&decision), Wait::LeaderGone);
    assert!(decision.reachability.is_empty());
}

#[test]
fn a_leader_without_free_connections_or_not_asked_yet_is_not_lost() {
    // It may well take writes from clients that are connected already.
    let full = ProbeState::Refuses("too many clients".to_owned());
    for state in [full, ProbeState::Unknown] {
        for scenario in [lost(), lost().no_leader(), lost().switchover().held()] {
            let scenario = scenario.standby_at("pg2", 100, 100, 3);
            let none = (None, None);
            let decision = scenario.answers("pg1", state.clone(), none, 4).decide();
            assert!(!app(&decision).acts(), "{state:?}: {decision:?}");
            assert!(decision.reachability.is_empty(), "{state:?}: {decision:?}");
        }
    }
}

#[test]
fn what_a_standby_said_before_the_loss_does_not_count() {
    let decision = lost().standby_at("pg2", 100, 100, 2).decide();
    assert_eq!(*stay(&decision), Stay::NoStandby);
    let pg2 = decision.ask.iter().find(|ask| ask.address == addr("pg2"));
    assert!(pg2.unwrap().eager);
}

#[test]
fn a_standby_that_has_not_replayed_what_it_received_is_waited_for() {
    let decision = lost().standby_at("pg2", 100, 70, 3).decide();
    assert_eq!(
        *stay(&decision),
        Stay::Behind {
            address: addr("pg2"),
            bytes: 30
        }
    );
    assert_eq!(
        waiting(&decision).to_string(),
        "the leader at pg1:5432 is lost, and reads with it: pg2:5432 has 30 bytes of WAL \
         still to replay"
    );
}

#[test]
fn a_standby_that_was_started_anew_and_did_not_stream_says_nothing_of_what_it_received() {
    let scenario = lost().answers("pg2", ProbeState::InRecovery, (None, Some(100)), 3);
    assert_eq!(*stay(&scenario.decide()), Stay::NoStandby);
}

#[test]
fn an_asynchronous_standby_gets_no_reads_unless_the_policy_says_how_far_behind_it_may_be() {
    let mut scenario = lost()
        .synchronous("pg1", &[])
        .standby_at("pg3", 100, 100, 3);
    scenario.view.last_position = Some(Lsn(110));
    assert_eq!(*stay(&scenario.clone().decide()), Stay::NoStandby);
    assert_eq!(
        reads_to(&scenario.clone().allowing_lag(10).decide()),
        addr("pg3")
    );
    let decision = scenario.clone().allowing_lag(9).decide();
    assert_eq!(
        *stay(&decision),
        Stay::Behind {
            address: addr("pg3"),
            bytes: 10
        }
    );
    // What any other standby has is part of what is known.
    let other = scenario
        .answers("pg2", ProbeState::InRecovery, (Some(130), Some(50)), 3)
        .allowing_lag(29);
    assert!(matches!(
        stay(&other.clone().decide()),
        Stay::Behind { bytes: 30, .. }
    ));
    assert_eq!(reads_to(&other.allowing_lag(30).decide()), addr("pg3"));
}

#[test]
fn a_synchronous_standby_comes_before_an_asynchronous_one_even_when_it_has_to_be_waited_for() {
    let scenario = lost()
        .standby_at("pg2", 100, 90, 3)
        .standby_at("pg3", 95, 95, 3)
        .allowing_lag(1_000);
    assert!(matches!(
        stay(&scenario.decide()),
        Stay::Behind { address, .. } if *address == addr("pg2")
    ));
}

#[test]
fn an_asynchronous_standby_that_did_not_stream_from_this_leader_gets_no_reads() {
    // pg3 is on the timeline before, with more of a WAL that no leader has any more.
    let mut scenario = lost()
        .synchronous("pg1", &[])
        .standby_at("pg3", 100, 100, 3)
        .allowing_lag(1_000);
    scenario.view.members.get_mut("pg1").unwrap().value.timeline = Some(2);
    scenario.view.members.get_mut("pg3").unwrap().value.timeline = Some(1);
    assert_eq!(*stay(&scenario.decide()), Stay::NoStandby);
}

#[test]
fn a_member_that_is_no_replica_by_its_key_is_no_asynchronous_standby() {
    // It led until just now: what it has may be on no other member.
    let mut scenario = lost()
        .synchronous("pg1", &[])
        .standby_at("pg3", 100, 100, 3)
        .allowing_lag(1_000);
    scenario.view.members.get_mut("pg3").unwrap().value.role = Role::Demoted;
    assert_eq!(*stay(&scenario.decide()), Stay::NoStandby);
}

#[test]
fn asynchronous_standbys_are_asked_only_where_the_policy_takes_them() {
    let none = lost().synchronous("pg1", &[]);
    assert_eq!(asks(&none.clone().decide()), ["pg1"]);
    let all = none.allowing_lag(10).decide();
    assert_eq!(asks(&all), ["pg1", "pg2", "pg3"]);
}

fn quorum() -> Scenario {
    lost().synchronous("pg1", &["pg2", "pg3"]).quorum(1)
}

#[test]
fn with_quorum_commit_both_must_answer_and_the_furthest_gets_the_reads() {
    let one = quorum().standby_at("pg2", 100, 100, 3);
    assert_eq!(*stay(&one.clone().decide()), Stay::NoStandby);
    // An answer from before the loss is none.
    let old = one.clone().standby_at("pg3", 120, 120, 2);
    assert_eq!(*stay(&old.decide()), Stay::NoStandby);
    let both = one.standby_at("pg3", 120, 120, 3);
    assert_eq!(reads_to(&both.decide()), addr("pg3"));
    let behind = quorum()
        .standby_at("pg2", 100, 100, 3)
        .standby_at("pg3", 120, 110, 3);
    assert!(matches!(
        stay(&behind.decide()),
        Stay::Behind { address, bytes: 10 } if *address == addr("pg3")
    ));
}

#[test]
fn with_quorum_commit_a_standby_that_was_started_anew_has_what_it_replayed() {
    // It streams again from the beginning of a segment: received looks less than replayed.
    let scenario = quorum()
        .standby_at("pg2", 100, 100, 3)
        .standby_at("pg3", 64, 120, 3);
    assert_eq!(reads_to(&scenario.decide()), addr("pg3"));
}

#[test]
fn a_sync_key_about_another_leader_says_nothing_of_this_ones_standbys() {
    // pg3 leads by the sync key: a standby that is synchronous to it says nothing of pg1.
    let scenario = lost()
        .synchronous("pg3", &["pg2"])
        .standby_at("pg2", 100, 100, 3);
    assert_eq!(*stay(&scenario.decide()), Stay::NoStandby);
    let mut unnamed = lost().standby_at("pg2", 100, 100, 3);
    unnamed.view.sync.as_mut().unwrap().value.leader = None;
    assert_eq!(*stay(&unnamed.decide()), Stay::NoStandby);
    let mut none = lost().standby_at("pg2", 100, 100, 3);
    none.view.sync = None;
    assert_eq!(*stay(&none.decide()), Stay::NoStandby);
}

#[test]
fn reads_stay_where_the_policy_or_our_rights_or_a_new_history_say_so() {
    let ready = || lost().standby_at("pg2", 100, 100, 3);
    let off = ready().keeping_reads().decide();
    assert!(matches!(waiting(&off), Wait::Unreachable { .. }));
    assert_eq!(asks(&off), ["pg1"]);
    let unconfirmed = Scenario::quiet().lost("pg1").keeping_reads().decide();
    assert!(
        unconfirmed.reachability.is_empty(),
        "no member is asked without a need"
    );
    let refused = ready().without_update("app").decide();
    assert_eq!(*stay(&refused), Stay::NotAllowed);
    let restored = ready().lineage(3, Some(2)).decide();
    assert_eq!(*stay(&restored), Stay::NewHistory);
    for writes in [Writes::ObserveOnly, Writes::PatroniManages] {
        let watched = ready().writes(writes).decide();
        assert!(matches!(waiting(&watched), Wait::Observed { .. }));
        let watched = Scenario::quiet().lost("pg1").writes(writes).decide();
        assert!(
            watched.reachability.is_empty(),
            "no member is asked without a need"
        );
    }
}

#[test]
fn a_record_that_was_cut_off_with_the_primary_is_not_waited_for() {
    let behind = lost().standby_at("pg2", 106, 100, 3);
    assert!(!behind.clone().decide().steps.values().any(Step::acts));
    let exhausted = behind.exhausted("pg2").decide();
    assert_eq!(reads_to(&exhausted), addr("pg2"));
    // But not by one that has less than another.
    let short = quorum()
        .standby_at("pg2", 106, 100, 3)
        .standby_at("pg3", 120, 110, 3);
    assert!(!app(&short.exhausted("pg2").decide()).acts());
}

#[test]
fn reads_that_were_moved_stay_until_a_member_leads() {
    let scenario = lost().row_at("pg2").standby_at("pg2", 100, 100, 3);
    let decision = scenario.clone().decide();
    assert_eq!(
        *waiting(&decision),
        Wait::ReadsMoved {
            to: addr("pg2"),
            stranded: None
        }
    );
    // Whether only this daemon does not reach the leader is worth knowing.
    assert_eq!(decision.reachability, [addr("pg1")]);
    let mut ours = scenario.clone();
    ours.reachability
        .insert(addr("pg1"), Reachability::Reachable);
    assert_eq!(
        *waiting(&ours.decide()),
        Wait::ReadsMoved {
            to: addr("pg2"),
            stranded: Some(addr("pg1"))
        }
    );
    let gone = scenario.no_leader().decide();
    assert_eq!(
        *waiting(&gone),
        Wait::ReadsMoved {
            to: addr("pg2"),
            stranded: None
        }
    );
}

#[test]
fn while_reads_are_moved_every_member_is_asked_every_few_milliseconds() {
    // Writers fail until the row is a leader's again.
    let decision = lost().row_at("pg2").standby_at("pg2", 100, 100, 3).decide();
    assert_eq!(asks(&decision), ["pg1", "pg2"]);
    assert!(decision.ask.iter().all(|ask| ask.hurry), "{decision:?}");
}

#[test]
fn a_leader_that_is_back_in_place_gets_the_row_back() {
    let decision = Scenario::quiet()
        .row_at("pg2")
        .standby_at("pg2", 100, 100, 3)
        .decide();
    assert_eq!(decision.rule, Rule::Move);
    assert_eq!(moved_to(&decision), addr("pg1"));
}

#[test]
fn reads_go_on_to_the_next_standby_when_theirs_is_lost() {
    // No member leads, so nothing was written since pg1 was lost.
    let mut scenario = lost()
        .no_leader()
        .synchronous("pg1", &["pg2", "pg3"])
        .row_at("pg2")
        .lost("pg2")
        .confirmed("pg2", 5)
        .standby_at("pg3", 100, 100, 5);
    scenario.view.members.remove("pg1");
    assert_eq!(reads_to(&scenario.clone().decide()), addr("pg3"));
    let earlier = scenario.standby_at("pg3", 100, 100, 4).decide();
    assert_eq!(*stay(&earlier), Stay::NoStandby);
}

#[test]
fn reads_stay_at_a_standby_that_answers_although_the_leader_is_lost() {
    // pg2 leads and is lost; the row was never moved to it, and pg1 answers.
    let scenario = Scenario::quiet()
        .leader("pg2")
        .lost("pg2")
        .confirmed("pg2", 3)
        .at_row("pg1", ProbeState::InRecovery)
        .standby_at("pg3", 100, 100, 3)
        .synchronous("pg2", &["pg3"]);
    let decision = scenario.decide();
    assert_eq!(
        *waiting(&decision),
        Wait::ReadsMoved {
            to: addr("pg1"),
            stranded: None
        },
        "it is a standby, and answers"
    );
}

#[test]
fn after_a_loss_writes_are_held_only_where_the_policy_says_so() {
    let decision = lost().decide();
    assert!(!app(&decision).acts());
    let held = lost().holding_on_loss().decide();
    assert_eq!(held.rule, Rule::Unreachable);
    assert_eq!(
        held_for(&held),
        Reason::Loss {
            revision: LEADER_REVISION
        }
    );
    assert_eq!(held_for(&held).to_string(), "the leader is lost");
    // Not before the coordinator confirms it.
    let unconfirmed = Scenario::quiet().lost("pg1").holding_on_loss();
    assert!(!app(&unconfirmed.clone().decide()).acts());
    // It is asked for that, wherever reads may go.
    let no_reads = unconfirmed.clone().keeping_reads().decide();
    assert_eq!(no_reads.reachability, [addr("pg1")]);
    assert!(!app(&unconfirmed.reachable("pg1").decide()).acts());
    // A leader key that is gone needs no confirmation.
    let gone = Scenario::quiet().no_leader().holding_on_loss().decide();
    assert_eq!(gone.rule, Rule::LeaderGone);
    assert_eq!(held_for(&gone), Reason::Loss { revision: 0 });
}

#[test]
fn reads_go_to_the_standby_before_writes_are_held_and_in_the_hold_as_well() {
    let scenario = lost().holding_on_loss().standby_at("pg2", 100, 100, 3);
    assert_eq!(reads_to(&scenario.clone().decide()), addr("pg2"));
    let held = scenario.held_because(Reason::Loss {
        revision: LEADER_REVISION,
    });
    assert_eq!(reads_to(&held.clone().decide()), addr("pg2"));
    let decision = held.row_at("pg2").decide();
    assert!(matches!(waiting(&decision), Wait::Held { stay: None, .. }));
}

#[test]
fn a_scope_that_etcd_does_not_know_or_a_leader_without_an_address_is_no_loss() {
    let mut unknown = Scenario::quiet().no_leader().holding_on_loss();
    unknown.view.members.clear();
    unknown.view.sync = None;
    assert!(matches!(waiting(&unknown.decide()), Wait::NoScope { .. }));
    let mut nameless = Scenario::quiet().holding_on_loss();
    nameless.view.members.get_mut("pg1").unwrap().value.address = None;
    assert!(matches!(
        waiting(&nameless.decide()),
        Wait::NoAddress { .. }
    ));
}

#[test]
fn a_loss_holds_nothing_of_the_coordinators_group_or_an_observed_one() {
    let own = lost()
        .holding_on_loss()
        .group(0)
        .rows("app", Rows::known(vec![row(1, 0, "pg1")]));
    assert!(!matches!(app(&own.decide()), Step::Hold(_)));
    let watched = lost()
        .holding_on_loss()
        .writes(Writes::ObserveOnly)
        .decide();
    assert!(matches!(waiting(&watched), Wait::Lost { .. }));
}

#[test]
fn a_group_whose_leader_crashes_in_a_hold_sends_its_reads_on() {
    // Held for a switchover, and pg1 died before pg2 had replayed everything.
    let scenario = lost().switchover().held();
    let decision = scenario.clone().decide();
    assert_eq!(decision.rule, Rule::Hold);
    assert_eq!(*stay(&decision), Stay::NoStandby);
    let unconfirmed = Scenario::quiet().lost("pg1").switchover().held().decide();
    assert_eq!(*stay(&unconfirmed), Stay::Unconfirmed);
    assert_eq!(unconfirmed.reachability, [addr("pg1")]);
    let ready = scenario.standby_at("pg2", 100, 100, 3).decide();
    assert_eq!(reads_to(&ready), addr("pg2"));
}

#[test]
fn a_secondary_row_changes_places_with_its_primary_after_a_loss() {
    let rows = vec![row(2, 1, "pg1"), secondary(7, 1, "pg2")];
    let scenario = lost()
        .standby_at("pg2", 100, 100, 3)
        .rows("app", Rows::known(rows));
    let decision = scenario.decide();
    let Step::ReadMove(step) = app(&decision) else {
        panic!("{decision:?}")
    };
    assert_eq!(step.make_way.as_ref().unwrap().then, addr("pg1"));
}

#[test]
fn a_group_without_a_row_has_no_reads_to_send() {
    let scenario = lost()
        .standby_at("pg2", 100, 100, 3)
        .rows("app", Rows::known(vec![row(3, 2, "other")]));
    let decision = scenario.decide();
    assert!(matches!(waiting(&decision), Wait::Unreachable { .. }));
    assert_eq!(asks(&decision), ["pg1"]);
}

#[test]
fn a_new_leader_that_is_lost_at_once_says_so() {
    let scenario = Scenario::quiet()
        .leader("pg2")
        .at_row("pg1", ProbeState::Writable)
        .lost("pg2")
        .decide();
    assert_eq!(scenario.rule, Rule::Unreachable);
    assert!(
        matches!(waiting(&scenario), Wait::Unreachable { address, .. } if *address == addr("pg2"))
    );
}

/// The watch may be behind: another member may lead by now, and another one be synchronous.
#[test]
fn etcd_itself_confirms_who_is_synchronous_before_reads_move() {
    let ready = lost().standby_at("pg2", 100, 100, 3);
    let with = |keys| {
        let mut scenario = ready.clone();
        scenario.keys = Some(keys);
        scenario.decide()
    };
    assert_eq!(*stay(&with(None)), Stay::KeysNotRead);
    let newer = KeyRevisions {
        leader: Some(LEADER_REVISION),
        sync: Some(21),
    };
    assert_eq!(*stay(&with(Some(newer))), Stay::KeysDiffer);
    let same = KeyRevisions {
        sync: Some(20),
        ..newer
    };
    assert_eq!(reads_to(&with(Some(same))), addr("pg2"));
}
