//! Whole passages, from the first news to the end, as the program lives through them.

use super::super::*;
use super::world::{Event, HOLD_TIMEOUT, Synchronous, World};

/// A quiet cluster with a synchronous standby, pg2, and clients that write.
fn quiet() -> World {
    let liberties = Liberties {
        read_move: true,
        max_lag: None,
        hold_on_request: true,
        hold_on_leader_loss: false,
    };
    quiet_with(liberties)
}

fn quiet_with(liberties: Liberties) -> World {
    let mut world = World::new(Synchronous::On, liberties);
    world.happens(Event::Write(0));
    world.happens(Event::Write(1));
    assert_eq!(world.told(), [""; 0]);
    world
}

/// Everybody answers once, so that one step follows.
fn once(world: &mut World) {
    world.happens(Event::EverybodyAnswers);
}

/// … and it ended with the rows at this member, and nothing held.
fn ends_at(world: &mut World, host: &str) {
    world.everybody_answers();
    for database in ["app", "second"] {
        assert_eq!(world.row_of(database), host);
    }
    world.assert_settled();
}

/// pg1 is asked to leave, writes are held, and reads are at pg2.
fn reads_moved() -> World {
    let mut world = quiet();
    world.happens(Event::Switchover(None));
    once(&mut world);
    world.happens(Event::CatchUp);
    world.everybody_answers();
    assert_eq!(
        world.told(),
        [
            "app: hold writes: a switchover was asked for",
            "second: hold writes: a switchover was asked for",
            "app: send reads: node 2 from pg1:5432 to pg2:5432",
            "second: send reads: node 5 from pg1:5432 to pg2:5432, and secondary node 6 to \
             pg1:5432",
        ]
    );
    world
}

#[test]
fn a_switchover_that_goes_well() {
    let mut world = reads_moved();
    world.happens(Event::LeaderLeaves);
    world.everybody_answers();
    world.happens(Event::Promote("pg2"));
    world.happens(Event::Withdraw);
    world.everybody_answers();
    assert_eq!(world.told(), [""; 0], "writes wait, reads are served");
    world.happens(Event::PromotionEnds);
    once(&mut world);
    once(&mut world);
    assert_eq!(
        world.told(),
        [
            "app: let writes go",
            "second: let writes go",
            "app: have Citus tell its workers that node 2 is at pg2:5432",
            "second: have Citus tell its workers that node 5 is at pg2:5432",
        ]
    );
    ends_at(&mut world, "pg2");
}

#[test]
fn a_switchover_in_which_nobody_is_caught_up_in_time() {
    let mut world = quiet();
    world.happens(Event::Switchover(None));
    once(&mut world);
    once(&mut world);
    world.happens(Event::LeaderLeaves);
    once(&mut world);
    world.told();
    // The leader is gone and confirmed to be; then pg2 has replayed what it received.
    world.happens(Event::CatchUp);
    once(&mut world);
    assert_eq!(
        world.told(),
        [
            "app: send reads: node 2 from pg1:5432 to pg2:5432",
            "second: send reads: node 5 from pg1:5432 to pg2:5432, and secondary node 6 to \
             pg1:5432",
        ]
    );
    world.happens(Event::Promote("pg2"));
    world.happens(Event::PromotionEnds);
    ends_at(&mut world, "pg2");
}

#[test]
fn a_request_withdrawn_before_reads_were_moved() {
    let mut world = quiet();
    world.happens(Event::Switchover(None));
    world.happens(Event::LocksCome("app"));
    world.told();
    world.happens(Event::Withdraw);
    // One was open, the other still being taken.
    assert_eq!(
        world.told(),
        ["app: let writes go", "second: let writes go"]
    );
    ends_at(&mut world, "pg1");
}

#[test]
fn a_request_withdrawn_after_reads_were_moved() {
    let mut world = reads_moved();
    world.happens(Event::Withdraw);
    assert_eq!(
        world.told(),
        [
            "app: move node 2 from pg2:5432 to pg1:5432",
            "second: move node 5 from pg2:5432 to pg1:5432, and secondary node 6 to pg2:5432",
            "app: have Citus tell its workers that node 2 is at pg1:5432",
            "second: have Citus tell its workers that node 5 is at pg1:5432",
        ]
    );
    ends_at(&mut world, "pg1");
}

#[test]
fn a_candidate_that_dies_in_the_middle() {
    let mut world = reads_moved();
    world.happens(Event::Crash("pg2"));
    assert_eq!(
        world.told(),
        [
            "app: send reads: node 2 from pg2:5432 to pg1:5432",
            "second: send reads: node 5 from pg2:5432 to pg1:5432, and secondary node 6 to \
             pg2:5432",
        ],
        "back to the leader, and writes still wait"
    );
    assert!(matches!(world.held("app"), Held::Yes { .. }));
    // Patroni gives it up.
    world.happens(Event::Withdraw);
    assert_eq!(
        world.told()[..2],
        ["app: let writes go", "second: let writes go"]
    );
    ends_at(&mut world, "pg1");
}

#[test]
fn a_candidate_that_refuses_and_a_request_that_nobody_withdraws() {
    let mut world = reads_moved();
    world.happens(Event::Wait(HOLD_TIMEOUT - 1_000));
    assert_eq!(world.told(), [""; 0]);
    world.happens(Event::Wait(1_000));
    assert_eq!(
        world.told()[..2],
        [
            "app: move node 2 from pg2:5432 to pg1:5432",
            "second: move node 5 from pg2:5432 to pg1:5432, and secondary node 6 to pg2:5432",
        ],
        "the deadline"
    );
    ends_at(&mut world, "pg1");
    // It stands on in etcd, and is not held for again; the next one is.
    world.happens(Event::Wait(HOLD_TIMEOUT));
    assert_eq!(world.told(), [""; 0]);
    world.happens(Event::Switchover(None));
    assert!(world.told()[0].starts_with("app: hold writes"));
}

#[test]
fn an_etcd_that_falls_silent_in_a_hold() {
    let mut world = reads_moved();
    world.happens(Event::EtcdIsSilent);
    world.everybody_answers();
    assert_eq!(world.told(), [""; 0], "nothing changes");
    world.happens(Event::Wait(HOLD_TIMEOUT));
    assert_eq!(
        world.told(),
        ["app: let writes go", "second: let writes go"],
        "but a hold ends"
    );
    assert_eq!(world.row_of("app"), "pg2", "no row is changed on old news");
    world.happens(Event::EtcdIsBack);
    ends_at(&mut world, "pg1");
}

#[test]
fn an_old_leader_that_comes_back_as_a_standby() {
    let mut world = reads_moved();
    world.happens(Event::LeaderLeaves);
    world.happens(Event::Promote("pg2"));
    world.happens(Event::PromotionEnds);
    world.happens(Event::Start("pg1"));
    ends_at(&mut world, "pg2");
}

#[test]
fn two_requests_in_a_row() {
    let mut world = reads_moved();
    world.happens(Event::LeaderLeaves);
    world.happens(Event::Promote("pg2"));
    world.happens(Event::PromotionEnds);
    // Before anybody heard that pg2 takes writes, it is asked to leave as well.
    world.happens(Event::Start("pg1"));
    world.happens(Event::CatchUp);
    world.happens(Event::LookForStandbys(u32::MAX));
    world.happens(Event::Switchover(Some("pg1")));
    let deadline = world.deadline();
    world.everybody_answers();
    assert!(matches!(world.held("app"), Held::Yes { .. }));
    assert_eq!(world.deadline(), deadline, "one hold, one deadline");
    world.happens(Event::LeaderLeaves);
    world.happens(Event::Promote("pg1"));
    world.happens(Event::PromotionEnds);
    world.happens(Event::Withdraw);
    ends_at(&mut world, "pg1");
}

#[test]
fn a_held_group_that_crashes() {
    let mut world = quiet();
    world.happens(Event::Switchover(None));
    once(&mut world);
    world.happens(Event::Crash("pg1"));
    world.told();
    world.happens(Event::CatchUp);
    once(&mut world);
    once(&mut world);
    assert_eq!(
        world.told()[0],
        "app: send reads: node 2 from pg1:5432 to pg2:5432"
    );
    world.happens(Event::LeaderKeyExpires);
    world.happens(Event::Promote("pg2"));
    world.happens(Event::Withdraw);
    world.happens(Event::PromotionEnds);
    ends_at(&mut world, "pg2");
}

#[test]
fn a_coordinator_that_fails_over_in_a_hold_and_forgets_the_last_update() {
    for forgets in [false, true] {
        let mut world = reads_moved();
        let deadline = world.deadline();
        world.happens(Event::CoordinatorIsLost { forgets });
        world.everybody_answers();
        assert_eq!(world.told(), [""; 0], "nothing is known, nothing is done");
        world.happens(Event::CoordinatorIsBack);
        assert_eq!(
            world.told(),
            [
                "app: hold writes: a switchover was asked for",
                "second: hold writes: a switchover was asked for",
            ],
            "again"
        );
        assert_eq!(world.deadline(), deadline, "with the deadline it had");
        world.everybody_answers();
        assert_eq!(world.row_of("app"), "pg2");
        world.happens(Event::LeaderLeaves);
        world.happens(Event::Promote("pg2"));
        world.happens(Event::PromotionEnds);
        ends_at(&mut world, "pg2");
    }
}

#[test]
fn one_database_that_fails_keeps_no_other_from_its_end() {
    let mut world = quiet();
    world.happens(Event::Break("second"));
    world.happens(Event::Switchover(None));
    world.happens(Event::CatchUp);
    world.everybody_answers();
    assert_eq!(
        (world.row_of("app"), world.row_of("second")),
        ("pg2", "pg1")
    );
    world.happens(Event::LeaderLeaves);
    world.happens(Event::Promote("pg2"));
    world.happens(Event::PromotionEnds);
    world.everybody_answers();
    assert_eq!(world.held("app"), Held::No);
    assert_eq!(
        (world.row_of("app"), world.row_of("second")),
        ("pg2", "pg1")
    );
    world.happens(Event::Mend("second"));
    ends_at(&mut world, "pg2");
}

#[test]
fn a_crash_and_a_failover() {
    let mut world = quiet();
    world.happens(Event::CatchUp);
    world.happens(Event::Crash("pg1"));
    assert_eq!(world.told(), [""; 0], "the coordinator is asked first");
    once(&mut world);
    once(&mut world);
    assert_eq!(
        world.told()[0],
        "app: send reads: node 2 from pg1:5432 to pg2:5432"
    );
    world.happens(Event::LeaderKeyExpires);
    world.happens(Event::MemberKeyExpires("pg1"));
    world.everybody_answers();
    assert_eq!(world.row_of("app"), "pg2");
    world.told();
    world.happens(Event::Promote("pg2"));
    once(&mut world);
    assert_eq!(
        world.told(),
        [
            "app: hold writes: the new leader is being promoted",
            "second: hold writes: the new leader is being promoted"
        ]
    );
    world.happens(Event::PromotionEnds);
    ends_at(&mut world, "pg2");
}

#[test]
fn a_crash_after_which_patroni_starts_the_leader_again() {
    let mut world = quiet();
    world.happens(Event::CatchUp);
    world.happens(Event::Crash("pg1"));
    world.everybody_answers();
    assert_eq!(world.row_of("app"), "pg2");
    world.happens(Event::Start("pg1"));
    ends_at(&mut world, "pg1");
}

#[test]
fn a_crash_with_writes_held_on_it_and_nobody_who_takes_over() {
    let mut world = quiet_with(Liberties {
        read_move: true,
        max_lag: None,
        hold_on_request: true,
        hold_on_leader_loss: true,
    });
    world.happens(Event::Crash("pg1"));
    world.happens(Event::CatchUp);
    once(&mut world);
    once(&mut world);
    once(&mut world);
    assert!(
        world
            .told()
            .contains(&"app: hold writes: the leader is lost".to_owned())
    );
    world.happens(Event::LeaderKeyExpires);
    world.everybody_answers();
    assert!(matches!(world.held("app"), Held::Yes { .. }));
    world.told();
    world.happens(Event::Wait(HOLD_TIMEOUT));
    assert_eq!(
        world.told(),
        ["app: let writes go", "second: let writes go"]
    );
    // Nor is the promotion that comes at last: clients have waited once.
    world.happens(Event::Promote("pg2"));
    world.everybody_answers();
    assert_eq!(world.told(), [""; 0]);
    world.happens(Event::PromotionEnds);
    ends_at(&mut world, "pg2");
}

#[test]
fn a_restart_with_the_hook() {
    let mut world = quiet();
    world.happens(Event::AskForHold);
    world.happens(Event::CatchUp);
    world.everybody_answers();
    assert_eq!(world.row_of("app"), "pg2");
    world.happens(Event::Crash("pg1"));
    world.everybody_answers();
    world.told();
    world.happens(Event::Start("pg1"));
    world.everybody_answers();
    assert_eq!(
        world.told()[0],
        "app: move node 2 from pg2:5432 to pg1:5432",
        "started anew, and takes writes"
    );
    ends_at(&mut world, "pg1");
}

#[test]
fn a_hold_that_somebody_ends_by_hand() {
    let mut world = reads_moved();
    world.happens(Event::Release);
    assert!(world.told()[0].starts_with("app: move node 2 from pg2:5432 to pg1:5432"));
    ends_at(&mut world, "pg1");
}

#[test]
fn a_program_that_dies_in_a_hold_and_one_that_takes_over() {
    let mut world = reads_moved();
    world.happens(Event::NewProgram);
    // The server ended the hold; the switchover goes on, so it is taken again.
    world.everybody_answers();
    assert!(world.told()[0].starts_with("app: hold writes"));
    assert_eq!(world.row_of("app"), "pg2");
    world.happens(Event::LeaderLeaves);
    world.happens(Event::Promote("pg2"));
    world.happens(Event::PromotionEnds);
    ends_at(&mut world, "pg2");
    // And where nothing stands any more, the row goes back.
    let mut world = reads_moved();
    world.happens(Event::Withdraw);
    world.happens(Event::NewProgram);
    ends_at(&mut world, "pg1");
}

#[test]
fn a_way_of_ours_that_is_cut_moves_no_reads() {
    let mut world = quiet();
    world.happens(Event::CatchUp);
    world.happens(Event::CutFromUs("pg1"));
    world.everybody_answers();
    assert_eq!(world.row_of("app"), "pg1", "the coordinator reaches it");
    world.happens(Event::Heal("pg1"));
    ends_at(&mut world, "pg1");
}

#[test]
fn what_standbys_said_while_clients_could_still_write_does_not_count() {
    let mut world = quiet();
    world.happens(Event::CatchUp);
    // Our way is cut first, and pg2 says what it has; clients write on.
    world.happens(Event::CutFromUs("pg1"));
    world.happens(Event::Answer("pg2"));
    world.happens(Event::Write(0));
    world.happens(Event::Stream("pg2", 1));
    // Then pg1 dies.
    world.happens(Event::Crash("pg1"));
    world.happens(Event::CoordinatorSays("pg1"));
    assert_eq!(world.told(), [""; 0], "pg2 has to be asked again");
    world.happens(Event::Answer("pg2"));
    assert_eq!(world.told(), [""; 0], "it has not replayed the last write");
    world.happens(Event::CatchUp);
    world.happens(Event::Answer("pg2"));
    assert_eq!(
        world.told()[0],
        "app: send reads: node 2 from pg1:5432 to pg2:5432"
    );
}
