//! Whole transitions, from the first news to the end, as the program lives through them.

use super::fixture::{Event, Fixture, HOLD_TIMEOUT, Synchronous};
use crate::event::HoldEnd;
use crate::plan::{Held, Limits};
use crate::report::HoldOutcome;

/// A quiet cluster with a synchronous standby, pg2, and clients that write.
fn quiet() -> Fixture {
    let limits = Limits {
        read_move: true,
        max_lag: None,
        hold_on_request: true,
        hold_on_leader_loss: false,
    };
    quiet_with(limits)
}

fn quiet_with(limits: Limits) -> Fixture {
    let mut fixture = Fixture::new(Synchronous::On, limits);
    fixture.happens(Event::Write(0));
    fixture.happens(Event::Write(1));
    assert_eq!(fixture.told(), [""; 0]);
    fixture
}

/// Everybody answers once, so that one step follows.
fn once(fixture: &mut Fixture) {
    fixture.happens(Event::EverybodyAnswers);
}

/// … and it ended with the rows at this member, and nothing held.
fn ends_at(fixture: &mut Fixture, host: &str) {
    fixture.everybody_answers();
    for database in ["app", "second"] {
        assert_eq!(fixture.row_of(database), host);
    }
    fixture.assert_in_sync();
}

/// pg1 is asked to leave, writes are held, and reads are at pg2.
fn reads_moved() -> Fixture {
    let mut fixture = quiet();
    fixture.happens(Event::Switchover(None));
    once(&mut fixture);
    fixture.happens(Event::CatchUp);
    fixture.everybody_answers();
    assert_eq!(
        fixture.told(),
        [
            "app: hold writes: a switchover was asked for",
            "second: hold writes: a switchover was asked for",
            "app: send reads: node 2 from pg1:5432 to pg2:5432",
            "second: send reads: node 5 from pg1:5432 to pg2:5432, and secondary node 6 to \
             pg1:5432",
        ]
    );
    fixture
}

#[test]
fn a_switchover_that_goes_well() {
    let mut fixture = reads_moved();
    fixture.happens(Event::LeaderLeaves);
    fixture.everybody_answers();
    fixture.happens(Event::Promote("pg2"));
    fixture.happens(Event::Withdraw);
    fixture.everybody_answers();
    assert_eq!(fixture.told(), [""; 0], "writes wait, reads are served");
    fixture.happens(Event::PromotionEnds);
    once(&mut fixture);
    once(&mut fixture);
    assert_eq!(
        fixture.told(),
        [
            "app: let writes go",
            "second: let writes go",
            "app: have Citus tell its workers that node 2 is at pg2:5432",
            "second: have Citus tell its workers that node 5 is at pg2:5432",
        ]
    );
    ends_at(&mut fixture, "pg2");
}

/// The metric of holds tells the two apart.
#[test]
fn a_hold_is_followed_when_another_member_leads_and_released_when_the_same_one_does() {
    let mut fixture = reads_moved();
    fixture.happens(Event::LeaderLeaves);
    fixture.everybody_answers();
    fixture.happens(Event::Promote("pg2"));
    fixture.happens(Event::Withdraw);
    fixture.happens(Event::PromotionEnds);
    ends_at(&mut fixture, "pg2");
    assert_eq!(fixture.hold_ends(), [HoldEnd::Followed]);

    let mut fixture = reads_moved();
    fixture.happens(Event::Withdraw);
    ends_at(&mut fixture, "pg1");
    assert_eq!(fixture.hold_ends(), [HoldEnd::Released]);
}

/// A write that was acknowledged after the leader said how far it is, and before it was held, is in no
/// position of that time.
#[test]
fn positions_that_were_said_before_writes_were_held_do_not_count() {
    let mut fixture = quiet();
    fixture.happens(Event::CatchUp);
    fixture.happens(Event::Switchover(None));
    fixture.happens(Event::Answer("pg1"));
    fixture.happens(Event::Write(0));
    fixture.happens(Event::Stream("pg2", 1));
    fixture.happens(Event::HoldIsTaken("app"));
    fixture.happens(Event::HoldIsTaken("second"));
    fixture.told();
    fixture.happens(Event::Answer("pg2"));
    assert_eq!(fixture.told(), [""; 0], "the leader was not asked again");
    fixture.happens(Event::Answer("pg1"));
    fixture.happens(Event::Answer("pg2"));
    assert_eq!(fixture.told(), [""; 0], "pg2 has not replayed the write");
    fixture.happens(Event::CatchUp);
    fixture.happens(Event::Answer("pg2"));
    assert!(!fixture.told().is_empty(), "reads move now");
}

#[test]
fn a_switchover_in_which_nobody_is_caught_up_in_time() {
    let mut fixture = quiet();
    fixture.happens(Event::Switchover(None));
    once(&mut fixture);
    once(&mut fixture);
    fixture.happens(Event::LeaderLeaves);
    once(&mut fixture);
    fixture.told();
    // The leader is gone and confirmed to be; then pg2 has replayed what it received.
    fixture.happens(Event::CatchUp);
    once(&mut fixture);
    assert_eq!(
        fixture.told(),
        [
            "app: send reads: node 2 from pg1:5432 to pg2:5432",
            "second: send reads: node 5 from pg1:5432 to pg2:5432, and secondary node 6 to \
             pg1:5432",
        ]
    );
    fixture.happens(Event::Promote("pg2"));
    fixture.happens(Event::PromotionEnds);
    ends_at(&mut fixture, "pg2");
}

#[test]
fn a_request_withdrawn_before_reads_were_moved() {
    let mut fixture = quiet();
    fixture.happens(Event::Switchover(None));
    fixture.happens(Event::HoldIsTaken("app"));
    fixture.told();
    fixture.happens(Event::Withdraw);
    // One was open, the other still being taken.
    assert_eq!(
        fixture.told(),
        ["app: let writes go", "second: let writes go"]
    );
    ends_at(&mut fixture, "pg1");
}

#[test]
fn a_request_withdrawn_after_reads_were_moved() {
    let mut fixture = reads_moved();
    fixture.happens(Event::Withdraw);
    assert_eq!(
        fixture.told(),
        [
            "app: move node 2 from pg2:5432 to pg1:5432",
            "second: move node 5 from pg2:5432 to pg1:5432, and secondary node 6 to pg2:5432",
            "app: have Citus tell its workers that node 2 is at pg1:5432",
            "second: have Citus tell its workers that node 5 is at pg1:5432",
        ]
    );
    ends_at(&mut fixture, "pg1");
}

#[test]
fn a_candidate_that_dies_in_the_middle() {
    let mut fixture = reads_moved();
    fixture.happens(Event::Crash("pg2"));
    assert_eq!(
        fixture.told(),
        [
            "app: send reads: node 2 from pg2:5432 to pg1:5432",
            "second: send reads: node 5 from pg2:5432 to pg1:5432, and secondary node 6 to \
             pg2:5432",
            "app: send reads: node 2 from pg1:5432 to pg3:5432",
            "second: send reads: node 5 from pg1:5432 to pg3:5432, and secondary node 7 to \
             pg1:5432",
        ],
        "back to the leader and on to the other standby, and writes still wait"
    );
    assert!(matches!(fixture.held("app"), Held::Yes { .. }));
    // Patroni gives it up.
    fixture.happens(Event::Withdraw);
    assert_eq!(
        fixture.told()[..2],
        [
            "app: move node 2 from pg3:5432 to pg1:5432",
            "second: move node 5 from pg3:5432 to pg1:5432, and secondary node 7 to pg3:5432",
        ]
    );
    ends_at(&mut fixture, "pg1");
}

#[test]
fn a_candidate_that_refuses_and_a_request_that_nobody_withdraws() {
    let mut fixture = reads_moved();
    fixture.happens(Event::Wait(HOLD_TIMEOUT - 1_000));
    assert_eq!(fixture.told(), [""; 0]);
    fixture.happens(Event::Wait(1_000));
    assert_eq!(
        fixture.told()[..2],
        [
            "app: move node 2 from pg2:5432 to pg1:5432",
            "second: move node 5 from pg2:5432 to pg1:5432, and secondary node 6 to pg2:5432",
        ],
        "the deadline"
    );
    ends_at(&mut fixture, "pg1");
    // It stands on in etcd, and is not held for again; the next one is.
    fixture.happens(Event::Wait(HOLD_TIMEOUT));
    assert_eq!(fixture.told(), [""; 0]);
    fixture.happens(Event::Switchover(None));
    assert!(fixture.told()[0].starts_with("app: hold writes"));
}

#[test]
fn an_etcd_that_falls_silent_in_a_hold() {
    let mut fixture = reads_moved();
    fixture.happens(Event::EtcdIsSilent);
    fixture.everybody_answers();
    assert_eq!(fixture.told(), [""; 0], "nothing changes");
    fixture.happens(Event::Wait(HOLD_TIMEOUT));
    assert_eq!(
        fixture.told(),
        [
            "app: move node 2 from pg2:5432 to pg1:5432",
            "second: move node 5 from pg2:5432 to pg1:5432, and secondary node 6 to pg2:5432",
        ],
        "but a hold ends, and takes its read move back to the leader that takes writes"
    );
    fixture.happens(Event::EtcdIsBack);
    ends_at(&mut fixture, "pg1");
}

#[test]
fn an_old_leader_that_comes_back_as_a_standby() {
    let mut fixture = reads_moved();
    fixture.happens(Event::LeaderLeaves);
    fixture.happens(Event::Promote("pg2"));
    fixture.happens(Event::PromotionEnds);
    fixture.happens(Event::Start("pg1"));
    ends_at(&mut fixture, "pg2");
}

#[test]
fn two_requests_in_a_row() {
    let mut fixture = reads_moved();
    fixture.happens(Event::LeaderLeaves);
    fixture.happens(Event::Promote("pg2"));
    fixture.happens(Event::PromotionEnds);
    // Before anybody heard that pg2 takes writes, it is asked to leave as well.
    fixture.happens(Event::Start("pg1"));
    fixture.happens(Event::CatchUp);
    fixture.happens(Event::LookForStandbys(u32::MAX));
    fixture.happens(Event::Switchover(Some("pg1")));
    let deadline = fixture.deadline();
    fixture.everybody_answers();
    assert!(matches!(fixture.held("app"), Held::Yes { .. }));
    assert_eq!(fixture.deadline(), deadline, "one hold, one deadline");
    fixture.happens(Event::LeaderLeaves);
    fixture.happens(Event::Promote("pg1"));
    fixture.happens(Event::PromotionEnds);
    fixture.happens(Event::Withdraw);
    ends_at(&mut fixture, "pg1");
}

#[test]
fn a_held_group_that_crashes() {
    let mut fixture = quiet();
    fixture.happens(Event::Switchover(None));
    once(&mut fixture);
    fixture.happens(Event::Crash("pg1"));
    fixture.told();
    fixture.happens(Event::CatchUp);
    once(&mut fixture);
    once(&mut fixture);
    assert_eq!(
        fixture.told()[0],
        "app: send reads: node 2 from pg1:5432 to pg2:5432"
    );
    fixture.happens(Event::LeaderKeyExpires);
    fixture.happens(Event::Promote("pg2"));
    fixture.happens(Event::Withdraw);
    fixture.happens(Event::PromotionEnds);
    ends_at(&mut fixture, "pg2");
}

#[test]
fn a_coordinator_that_fails_over_in_a_hold_and_forgets_the_last_update() {
    for forgets in [false, true] {
        let mut fixture = reads_moved();
        let deadline = fixture.deadline();
        fixture.happens(Event::CoordinatorIsLost { forgets });
        fixture.everybody_answers();
        assert_eq!(fixture.told(), [""; 0], "nothing is known, nothing is done");
        fixture.happens(Event::CoordinatorIsBack);
        assert_eq!(
            fixture.told(),
            [
                "app: hold writes: a switchover was asked for",
                "second: hold writes: a switchover was asked for",
            ],
            "again"
        );
        assert_eq!(fixture.deadline(), deadline, "with the deadline it had");
        fixture.everybody_answers();
        assert_eq!(fixture.row_of("app"), "pg2");
        fixture.happens(Event::LeaderLeaves);
        fixture.happens(Event::Promote("pg2"));
        fixture.happens(Event::PromotionEnds);
        ends_at(&mut fixture, "pg2");
    }
}

#[test]
fn one_database_that_fails_keeps_no_other_from_its_end() {
    let mut fixture = quiet();
    fixture.happens(Event::Break("second"));
    fixture.happens(Event::Switchover(None));
    fixture.happens(Event::CatchUp);
    fixture.everybody_answers();
    assert_eq!(
        (fixture.row_of("app"), fixture.row_of("second")),
        ("pg2", "pg1")
    );
    fixture.happens(Event::LeaderLeaves);
    fixture.happens(Event::Promote("pg2"));
    fixture.happens(Event::PromotionEnds);
    fixture.everybody_answers();
    assert_eq!(fixture.held("app"), Held::No);
    assert_eq!(
        (fixture.row_of("app"), fixture.row_of("second")),
        ("pg2", "pg1")
    );
    fixture.happens(Event::Fix("second"));
    ends_at(&mut fixture, "pg2");
}

#[test]
fn a_crash_and_a_failover() {
    let mut fixture = quiet();
    fixture.happens(Event::CatchUp);
    fixture.happens(Event::Crash("pg1"));
    assert_eq!(fixture.told(), [""; 0], "the coordinator is asked first");
    once(&mut fixture);
    once(&mut fixture);
    assert_eq!(
        fixture.told()[0],
        "app: send reads: node 2 from pg1:5432 to pg2:5432"
    );
    fixture.happens(Event::LeaderKeyExpires);
    fixture.happens(Event::MemberKeyExpires("pg1"));
    fixture.everybody_answers();
    assert_eq!(fixture.row_of("app"), "pg2");
    fixture.told();
    fixture.happens(Event::Promote("pg2"));
    once(&mut fixture);
    assert_eq!(
        fixture.told(),
        [
            "app: hold writes: the new leader is being promoted",
            "second: hold writes: the new leader is being promoted"
        ]
    );
    fixture.happens(Event::PromotionEnds);
    ends_at(&mut fixture, "pg2");
}

#[test]
fn a_crash_after_which_patroni_starts_the_leader_again() {
    let mut fixture = quiet();
    fixture.happens(Event::CatchUp);
    fixture.happens(Event::Crash("pg1"));
    fixture.everybody_answers();
    assert_eq!(fixture.row_of("app"), "pg2");
    fixture.happens(Event::Start("pg1"));
    ends_at(&mut fixture, "pg1");
}

#[test]
fn a_crash_with_writes_held_on_it_and_nobody_who_takes_over() {
    let mut fixture = quiet_with(Limits {
        read_move: true,
        max_lag: None,
        hold_on_request: true,
        hold_on_leader_loss: true,
    });
    fixture.happens(Event::Crash("pg1"));
    fixture.happens(Event::CatchUp);
    once(&mut fixture);
    once(&mut fixture);
    once(&mut fixture);
    assert!(
        fixture
            .told()
            .contains(&"app: hold writes: the leader is lost".to_owned())
    );
    fixture.happens(Event::LeaderKeyExpires);
    fixture.everybody_answers();
    assert!(matches!(fixture.held("app"), Held::Yes { .. }));
    fixture.told();
    fixture.happens(Event::Wait(HOLD_TIMEOUT));
    assert_eq!(
        fixture.told(),
        ["app: let writes go", "second: let writes go"]
    );
    // Nor is the promotion that comes at last: clients have waited once.
    fixture.happens(Event::Promote("pg2"));
    fixture.everybody_answers();
    assert_eq!(fixture.told(), [""; 0]);
    fixture.happens(Event::PromotionEnds);
    ends_at(&mut fixture, "pg2");
}

#[test]
fn a_restart_with_the_hook() {
    let mut fixture = quiet();
    fixture.happens(Event::AskForHold);
    fixture.happens(Event::CatchUp);
    fixture.everybody_answers();
    assert_eq!(fixture.row_of("app"), "pg2");
    fixture.happens(Event::Crash("pg1"));
    fixture.everybody_answers();
    fixture.told();
    fixture.happens(Event::Start("pg1"));
    fixture.everybody_answers();
    assert_eq!(
        fixture.told()[0],
        "app: move node 2 from pg2:5432 to pg1:5432",
        "started anew, and takes writes"
    );
    ends_at(&mut fixture, "pg1");
}

/// The deadline of a hold is with the server: a person who wants a longer one is told that it is not.
#[test]
fn a_second_hold_that_would_last_longer_is_refused_and_one_that_would_not_joins() {
    let mut fixture = quiet();
    fixture.happens(Event::CatchUp);
    let first = fixture.ask_for_hold_of(HOLD_TIMEOUT / 2, None);
    assert_eq!(first.outcome, HoldOutcome::Held, "{first:?}");
    let longer = fixture.ask_for_hold_of(HOLD_TIMEOUT, None);
    assert_eq!(longer.outcome, HoldOutcome::Refused, "{longer:?}");
    for word in ["writes are held already, for 1", "citus-sync release"] {
        assert!(longer.message.contains(word), "{longer:?}");
    }
    let same = fixture.ask_for_hold_of(HOLD_TIMEOUT / 2, None);
    assert_eq!(same.outcome, HoldOutcome::Held, "{same:?}");
    let hook = fixture.ask_for_hold_of(HOLD_TIMEOUT, Some("pg1"));
    assert_eq!(hook.outcome, HoldOutcome::Held, "{hook:?}");
    fixture.happens(Event::Release);
    ends_at(&mut fixture, "pg1");
}

#[test]
fn a_hold_that_somebody_ends_by_hand() {
    let mut fixture = reads_moved();
    fixture.happens(Event::Release);
    assert!(fixture.told()[0].starts_with("app: move node 2 from pg2:5432 to pg1:5432"));
    ends_at(&mut fixture, "pg1");
}

#[test]
fn a_program_that_dies_in_a_hold_and_one_that_takes_over() {
    let mut fixture = reads_moved();
    fixture.happens(Event::NewProgram);
    // The server ended the hold; the switchover goes on, so it is taken again.
    fixture.everybody_answers();
    assert!(fixture.told()[0].starts_with("app: hold writes"));
    assert_eq!(fixture.row_of("app"), "pg2");
    fixture.happens(Event::LeaderLeaves);
    fixture.happens(Event::Promote("pg2"));
    fixture.happens(Event::PromotionEnds);
    ends_at(&mut fixture, "pg2");
    // And where nothing stands any more, the row goes back.
    let mut fixture = reads_moved();
    fixture.happens(Event::Withdraw);
    fixture.happens(Event::NewProgram);
    ends_at(&mut fixture, "pg1");
}

#[test]
fn a_way_of_ours_that_is_cut_moves_no_reads() {
    let mut fixture = quiet();
    fixture.happens(Event::CatchUp);
    fixture.happens(Event::CutFromUs("pg1"));
    fixture.everybody_answers();
    assert_eq!(fixture.row_of("app"), "pg1", "the coordinator reaches it");
    fixture.happens(Event::Heal("pg1"));
    ends_at(&mut fixture, "pg1");
}

#[test]
fn what_standbys_said_while_clients_could_still_write_does_not_count() {
    let mut fixture = quiet();
    fixture.happens(Event::CatchUp);
    // Our way is cut first, and pg2 says what it has; clients write on.
    fixture.happens(Event::CutFromUs("pg1"));
    fixture.happens(Event::Answer("pg2"));
    fixture.happens(Event::Write(0));
    fixture.happens(Event::Stream("pg2", 1));
    // Then pg1 dies.
    fixture.happens(Event::Crash("pg1"));
    fixture.happens(Event::CoordinatorSays("pg1"));
    assert_eq!(fixture.told(), [""; 0], "pg2 has to be asked again");
    fixture.happens(Event::Answer("pg2"));
    assert_eq!(
        fixture.told(),
        [""; 0],
        "it has not replayed the last write"
    );
    fixture.happens(Event::CatchUp);
    fixture.happens(Event::Answer("pg2"));
    assert_eq!(
        fixture.told()[0],
        "app: send reads: node 2 from pg1:5432 to pg2:5432"
    );
}

/// The rebalancer may keep `pg_dist_node` locked for a while.
#[test]
fn writes_wait_on_while_the_row_cannot_be_moved() {
    let mut fixture = reads_moved();
    fixture.happens(Event::Crash("pg2"));
    fixture.happens(Event::Break("app"));
    fixture.happens(Event::Withdraw);
    fixture.told();
    assert!(matches!(fixture.held("app"), Held::Yes { .. }));
    assert_eq!(fixture.held("second"), Held::No);
    fixture.happens(Event::Fix("app"));
    ends_at(&mut fixture, "pg1");
}

/// pg1 leads again without ever having been left: what was heard of it as a standby says nothing of
/// the leader that it is now.
#[test]
fn a_leader_that_was_a_standby_when_it_was_to_be_held_is_held_before_reads_move() {
    let mut fixture = quiet();
    fixture.happens(Event::LookForStandbys(0));
    fixture.happens(Event::Request {
        leaving: Some("pg1"),
        candidate: Some("pg2"),
        at: None,
    });
    fixture.happens(Event::LeaderLeaves);
    fixture.happens(Event::PatroniGoesOn);
    fixture.happens(Event::PatroniGoesOn);
    once(&mut fixture);
    fixture.happens(Event::PromotionEnds);
    fixture.happens(Event::CatchUp);
    fixture.told();
    // Reads move in the first round in which the leader itself is held: asserted where they do.
    fixture.everybody_answers();
    assert!(!fixture.told().is_empty());
}
