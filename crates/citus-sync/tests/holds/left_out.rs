//! Doors that cannot be had are left out and named, and nobody waits for them (rule 9).

use std::fs;
use std::time::Duration;

use citus_core::plan::Step;
use citus_sync::edge::sql::{DoorNews, Hold, LeftOut, ask_doors, carry_out, move_reads};
use dcs_watch::HostPort;
use lab::Postgres;

use crate::ground::{DEAD_PORT, Ground, Session, World, ground, holder, until, wait_for_nobody};

fn nowhere() -> HostPort {
    HostPort {
        host: "127.0.0.1".to_owned(),
        port: DEAD_PORT,
    }
}

/// The doors that Citus is to tell by itself.
fn marked(ground: &Ground) -> String {
    ground.session("ground").one(
        "SELECT COALESCE(string_agg(nodeport::text, ','), '') FROM pg_dist_node \
         WHERE hasmetadata AND NOT metadatasynced AND groupid = 2",
    )
}

/// A server in recovery, whose log is longer than that of one that is new.
fn standby(ground: &Ground, name: &str) -> Postgres {
    let standby = Postgres::start(&ground.sandbox, name).expect("a server");
    for _ in 0..3 {
        let mut session = Session::open(&standby, "ground");
        session.run("CREATE TABLE more (); DROP TABLE more");
        session.run("SELECT pg_switch_wal()");
    }
    standby.stop().expect("its end");
    let data = standby.log().parent().expect("its folder").join("data");
    fs::write(data.join("standby.signal"), "").expect("a standby");
    standby.start_again().expect("a standby");
    standby
}

fn sorted(left_out: &[LeftOut]) -> Vec<&HostPort> {
    let mut doors: Vec<&HostPort> = left_out.iter().map(|left| &left.door).collect();
    doors.sort();
    doors
}

/// A hold of group 1 that waits at its only door, of group 2, for as long as a client there leaves its
/// transaction open.
fn hold_beside_a_writer(ground: &Ground, world: &World) -> (Session, Hold) {
    let mut client = Session::open(&ground.workers[1], "client");
    client.run(&format!("BEGIN; {}", ground.write(1, "at the door")));
    let mut order = world.order(1, &[ground.address(2)]);
    order.cooldown = Duration::from_secs(50);
    let hold = world.run(Hold::take(&world.database, &world.doors, &order));
    (client, hold.expect("a hold"))
}

#[test]
fn a_door_that_refuses_and_one_that_is_frozen_are_left_out_of_a_hold() {
    let ground = ground();
    let world = World::new(&ground);
    let (one, two) = (ground.address(1), ground.address(2));
    ground.workers[0].freeze();
    let hold = world.hold(2, &[nowhere(), one.clone()]);
    // It came although the door is still frozen.
    assert_eq!(hold.doors(), []);
    assert_eq!(sorted(&hold.left_out()), [&nowhere(), &one]);
    let texts: Vec<String> = hold.left_out().iter().map(ToString::to_string).collect();
    let texts = texts.join("; ");
    assert!(
        texts.contains("127.0.0.1:1: ") && texts.contains("gave no answer within 300 ms"),
        "{texts}"
    );
    world.release(hold);

    // Those that can be had are had.
    let hold = world.hold(1, &[nowhere(), one.clone(), two.clone()]);
    assert_eq!(hold.doors(), std::slice::from_ref(&two));
    assert_eq!(sorted(&hold.left_out()), [&nowhere(), &one]);
    world.release(hold);
    ground.workers[0].thaw();
}

/// Whoever asked for the hold waits for the coordinator alone.
#[test]
fn a_door_that_says_nothing_delays_no_hold() {
    let ground = ground();
    let world = World::new(&ground);
    let doors = [ground.address(2)];
    // From here on there is a session to it, so it is waited for for as long as a statement may take.
    world.release(world.hold(1, &doors));
    ground.workers[1].freeze();
    let order = world.order(1, &doors);
    let hold = world.run(Hold::take(&world.database, &world.doors, &order));
    let hold = hold.expect("a hold");
    assert_eq!(hold.doors_under_way(), doors, "nothing is known of it yet");
    assert_eq!((hold.doors(), hold.left_out()), (vec![], vec![]));
    ground.workers[1].thaw();
    world.run(hold.doors_are_known());
    assert_eq!(hold.doors(), doors, "it joins");
    world.release(hold);
}

#[test]
fn a_door_with_a_writer_in_the_way_joins_the_hold_later() {
    let ground = ground();
    let world = World::new(&ground);
    let door = &ground.workers[1];
    let doors = [ground.address(2)];
    let (mut client, hold) = hold_beside_a_writer(&ground, &world);
    assert_eq!((hold.doors(), hold.left_out()), (vec![], vec![]));
    client.run("COMMIT");
    world.run(hold.doors_are_known());
    assert_eq!(hold.doors(), doors);
    let writer = Session::open(door, "writer").start(&ground.write(1, "after"));
    Ground::wait_blocked(door, "story writer", 1);
    assert_eq!(world.release(hold).left_out, []);
    writer.outcome().expect("it goes on");

    // The end of the hold does not wait for it either.
    let (mut client, hold) = hold_beside_a_writer(&ground, &world);
    assert_eq!(hold.doors_under_way(), doors);
    world.release(hold);
    world.run(async {
        let port = door.port();
        let gone = move || wait_for_nobody(port, &holder(1));
        tokio::task::spawn_blocking(gone).await.expect("it is gone");
    });
    assert_eq!(client.one("SELECT 1"), "1", "nobody was terminated");
}

#[test]
fn whoever_is_in_the_way_at_a_door_alone_is_terminated_there() {
    let ground = ground();
    let world = World::new(&ground);
    let mut client = Session::open(&ground.workers[1], "client");
    client.run(&format!("BEGIN; {}", ground.write(1, "at the door")));
    let hold = world.hold(1, &[ground.address(2)]);
    assert_eq!(hold.doors(), [ground.address(2)]);
    let [who] = &hold.door_news().terminated[..] else {
        panic!("{:?}", hold.terminated());
    };
    let place = format!("at door {}", ground.address(2));
    assert!(
        who.contains("story client") && who.ends_with(&place),
        "{who}"
    );
    assert_eq!(hold.door_news().terminated, [""; 0], "told once");
    world.release(hold);
}

/// At a door that is not held, the row stays where writes are taken.
#[test]
fn reads_of_a_door_that_is_not_held_follow_when_the_leader_is_gone_or_at_the_end() {
    let ground = ground();
    let world = World::new(&ground);
    let door = &ground.workers[1];
    let doors = [ground.address(2)];
    let before = ground.address(1).to_string();
    for end in ["the leader is gone", "the hold ends"] {
        let back = ground.a_move(1, ground.workers[0].port());
        let moved = move_reads(&world.database, &world.doors, &doors, 1, &back, || true);
        world.run(moved).expect("as it was");
        let (mut client, hold) = hold_beside_a_writer(&ground, &world);
        let step = ground.a_move(1, DEAD_PORT);
        world.move_reads(&hold, &doors, &step);
        assert_eq!(Ground::row(&ground.coordinator, 1), nowhere().to_string());
        assert_eq!(Ground::row(door, 1), before);
        client.run("COMMIT");
        world.run(hold.doors_are_known());
        assert_eq!(hold.doors(), doors);
        assert_eq!(Ground::row(door, 1), before, "the standby does not answer");
        let writer = Session::open(door, "writer").start(&ground.write(1, "waits"));
        Ground::wait_blocked(door, "story writer", 1);
        if end == "the leader is gone" {
            hold.leader_is_gone();
            until("the row", || {
                world.run(async { tokio::time::sleep(Duration::from_millis(5)).await });
                Ground::row(door, 1) == nowhere().to_string()
            });
            assert!(!writer.is_over(), "it is held all the same");
        }
        let news = world.release(hold);
        assert_eq!((news.held, news.left_out), (1, vec![]));
        assert_eq!(Ground::row(door, 1), nowhere().to_string());
        // Not let go before the row was moved.
        let error = writer.outcome().expect_err("nobody is there");
        assert_eq!(error.0, "08006", "{error:?}");
        assert_eq!(marked(&ground), "");
    }
}

/// What was written through it since the leader was asked how much a standby has to have is more.
#[test]
fn reads_of_a_door_that_was_held_late_do_not_follow_at_once() {
    let ground = ground();
    let world = World::new(&ground);
    let door = &ground.workers[1];
    let doors = [ground.address(2)];
    let (mut client, hold) = hold_beside_a_writer(&ground, &world);
    client.run("COMMIT");
    world.run(hold.doors_are_known());
    assert_eq!(hold.doors(), doors);
    let step = ground.a_move(1, DEAD_PORT);
    world.move_reads(&hold, &doors, &step);
    assert_eq!(Ground::row(&ground.coordinator, 1), nowhere().to_string());
    // Nor later: the standby does not answer. Each question takes as long as the move would.
    for _ in 0..20 {
        let told = ask_doors(&world.database, &world.doors, &doors, 1);
        let [(_, at)] = &world.run(told)[..] else {
            panic!("one door")
        };
        assert_eq!(at.as_ref().ok(), Some(&Some(ground.address(1))));
    }
    assert_eq!(world.release(hold).left_out, []);
    assert_eq!(Ground::row(door, 1), nowhere().to_string());
}

/// There is nobody left whom its writers could reach.
#[test]
fn reads_of_a_door_that_cannot_be_held_follow_all_the_same_once_the_leader_is_gone() {
    let ground = ground();
    let world = World::new(&ground);
    let door = &ground.workers[1];
    let doors = [ground.address(2)];
    let (_client, hold) = hold_beside_a_writer(&ground, &world);
    let away = ground.a_move(1, DEAD_PORT);
    world.move_reads(&hold, &doors, &away);
    hold.leader_is_gone();
    until("the row", || {
        world.run(async { tokio::time::sleep(Duration::from_millis(5)).await });
        Ground::row(door, 1) == nowhere().to_string()
    });
    // From now on at once.
    let back = ground.a_move(1, ground.workers[0].port());
    world.move_reads(&hold, &doors, &back);
    assert_eq!(Ground::row(door, 1), ground.address(1).to_string());
    assert_eq!(hold.doors(), [], "its client is still there");
    world.release(hold);
}

#[test]
fn reads_of_a_door_that_is_held_late_follow_once_the_standby_has_everything() {
    let ground = ground();
    let ahead = standby(&ground, "ahead");
    let new = Postgres::start(&ground.sandbox, "new").expect("a server");
    let world = World::new(&ground);
    let door = &ground.workers[1];
    let doors = [ground.address(2)];
    let (mut client, hold) = hold_beside_a_writer(&ground, &world);
    let mut step = ground.a_move(1, ahead.port());
    // One that has less in its log than the standby.
    step.from.port = new.port();
    world.move_reads(&hold, &doors, &step);
    assert_eq!(Ground::row(door, 1), ground.workers[0].address());
    assert!(!hold.is_quiet(), "it is being taken");
    client.run("COMMIT");
    // Whoever waits for that may take it that the door has followed.
    world.run(hold.doors_are_quiet());
    assert!(hold.is_quiet());
    assert_eq!(Ground::row(door, 1), ahead.address());
    assert_eq!(hold.doors(), doors, "not before it was held");
    assert_eq!(world.release(hold).left_out, []);
    assert_eq!(Ground::row(door, 1), ahead.address());
}

#[test]
fn a_door_that_is_neither_held_nor_follows_is_named_once_and_marked() {
    let ground = ground();
    let world = World::new(&ground);
    let doors = [ground.address(2)];
    for end in ["release", "finish"] {
        ground.workers[1].freeze();
        let hold = world.hold(1, &doors);
        assert_eq!(sorted(&hold.door_news().left_out), [&doors[0]]);
        let step = ground.a_move(1, DEAD_PORT);
        world.move_reads(&hold, &doors, &step);
        assert_eq!(marked(&ground), "", "it may follow yet");
        let left_out = if end == "release" {
            world.release(hold).left_out
        } else {
            let end = hold.finish(&world.database, &world.doors, &doors, &step, || true);
            world.run(end).expect("the end").left_out
        };
        assert_eq!(left_out, [], "{end}: somebody knows it");
        assert_eq!(marked(&ground), doors[0].port.to_string(), "{end}");
        ground.workers[1].thaw();
        let unmark = "UPDATE pg_dist_node SET metadatasynced = true WHERE hasmetadata";
        ground.session("ground").run(unmark);
    }
}

#[test]
fn a_door_that_freezes_while_it_is_held_is_not_waited_for() {
    let ground = ground();
    let world = World::new(&ground);
    let doors = [ground.address(2)];
    for end in ["release", "finish"] {
        let hold = world.hold(1, &doors);
        assert_eq!(hold.doors(), doors);
        ground.workers[1].freeze();
        if end == "release" {
            world.release(hold);
        } else {
            let step = ground.a_move(1, DEAD_PORT);
            let end = hold.finish(&world.database, &world.doors, &doors, &step, || true);
            let finished = world.run(end).expect("the end");
            assert_eq!(sorted(&finished.left_out), [&doors[0]]);
            assert_eq!(Ground::row(&ground.coordinator, 1), nowhere().to_string());
        }
        ground.workers[1].thaw();
    }
}

#[test]
fn a_door_that_was_started_anew_while_it_was_held_follows_all_the_same() {
    let ground = ground();
    let world = World::new(&ground);
    let doors = [ground.address(2)];
    let hold = world.hold(1, &doors);
    assert_eq!(hold.doors(), doors);
    ground.workers[1].stop().expect("its end");
    ground.workers[1].start_again().expect("it is back");
    let step = ground.a_move(1, DEAD_PORT);
    let end = hold.finish(&world.database, &world.doors, &doors, &step, || true);
    let finished = world.run(end).expect("the end");
    assert_eq!(finished.left_out, []);
    assert_eq!(Ground::row(&ground.workers[1], 1), nowhere().to_string());
}

#[test]
fn a_door_that_did_not_follow_is_marked_so_that_citus_tells_it() {
    let ground = ground();
    let world = World::new(&ground);
    let (one, two) = (ground.address(1), ground.address(2));
    ground.workers[1].freeze();
    let step = ground.a_move(1, DEAD_PORT);
    let doors = [two.clone(), nowhere()];
    let moved = move_reads(&world.database, &world.doors, &doors, 1, &step, || true);
    let finished = world.run(moved).expect("reads are moved");
    assert_eq!(sorted(&finished.left_out), [&nowhere(), &two]);
    assert_eq!(
        marked(&ground),
        two.port.to_string(),
        "{one} has been told nothing either, but was no door"
    );
    ground.workers[1].thaw();
}

/// Who is marked, and by nothing but its port: there is one door, and the other worker was none.
const MARKED: &str = "SELECT string_agg(nodeport::text, ',') FROM pg_dist_node \
                      WHERE hasmetadata AND NOT metadatasynced";

#[test]
fn a_door_that_did_not_follow_the_end_of_a_hold_is_marked_and_no_other() {
    let ground = ground();
    let world = World::new(&ground);
    let doors = [ground.address(2)];
    let step = ground.a_move(1, DEAD_PORT);
    let hold = world.hold(1, &[]);
    ground.workers[1].freeze();
    let end = hold.finish(&world.database, &world.doors, &doors, &step, || true);
    let finished = world.run(end).expect("the end");
    assert_eq!(sorted(&finished.left_out), [&doors[0]]);
    let marked = ground.session("ground").one(MARKED);
    ground.workers[1].thaw();
    assert_eq!(marked, doors[0].port.to_string());
}

#[test]
fn so_is_one_that_did_not_follow_a_move_with_somebody_in_the_way() {
    let ground = ground();
    let world = World::new(&ground);
    let doors = [ground.address(2)];
    let step = Step::Move(ground.a_move(1, DEAD_PORT));
    let mut psql = ground.session("psql");
    psql.run(&format!("BEGIN; {}", ground.write(1, "in the way")));
    ground.workers[1].freeze();
    let moved = carry_out(&world.database, &world.doors, &doors, 1, &step, || true);
    let finished = world.run(moved).expect("a move");
    assert_eq!(sorted(&finished.left_out), [&doors[0]]);
    let marked = ground.session("ground").one(MARKED);
    ground.workers[1].thaw();
    assert_eq!(marked, doors[0].port.to_string());
}

/// The coordinator decides: what it does not do, no door does, whether it was held or not.
#[test]
fn no_door_follows_a_coordinator_that_did_not_move() {
    let ground = ground();
    let world = World::new(&ground);
    let mut admin = ground.session("admin");
    let targets = [ground.address(1), ground.address(2)];
    let step = ground.a_move(1, DEAD_PORT);
    for held in [true, false] {
        let hold = held.then(|| world.hold(1, &targets[1..]));
        admin.run("BEGIN; LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE");
        if let Some(hold) = hold {
            let end = hold.finish(&world.database, &world.doors, &targets, &step, || true);
            world.run(end).expect_err("somebody is in the way");
        } else {
            let (database, doors) = (&world.database, &world.doors);
            let moved = move_reads(database, doors, &targets, 1, &step, || true);
            world.run(moved).expect_err("somebody is in the way");
        }
        admin.run("COMMIT");
        for server in [&ground.coordinator, &ground.workers[0], &ground.workers[1]] {
            let row = Ground::row(server, 1);
            assert_eq!(row, ground.address(1).to_string(), "{}", server.name());
            assert_eq!(Ground::backends(server, &holder(1)), 0);
        }
    }
}

/// It would come to its own end only after several rounds.
#[test]
fn a_door_whose_rows_somebody_sits_on_is_not_waited_for() {
    let ground = ground();
    let world = World::new(&ground);
    let doors = [ground.address(2)];
    let mut admin = Session::open(&ground.workers[1], "admin");
    admin.run("BEGIN; LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE");
    let step = ground.a_move(1, DEAD_PORT);
    let moved = move_reads(&world.database, &world.doors, &doors, 1, &step, || true);
    let finished = world.run(moved).expect("reads are moved");
    let [left] = &finished.left_out[..] else {
        panic!("{finished:?}");
    };
    assert_eq!(
        left.error, "not done 300 ms after the coordinator",
        "its own end was not waited for"
    );
    admin.run("COMMIT");
}

#[test]
fn a_door_in_recovery_is_none() {
    let ground = ground();
    let standby = standby(&ground, "standby");
    // Reads of group 2 are there.
    let doors: [HostPort; 1] = [standby.address().parse().expect("an address")];
    ground.session("ground").run(&format!(
        "UPDATE pg_dist_node SET nodeport = {} WHERE groupid = 2",
        doors[0].port
    ));
    let world = World::new(&ground);
    let step = ground.a_move(1, DEAD_PORT);
    let moved = move_reads(&world.database, &world.doors, &doors, 1, &step, || true);
    let finished = world.run(moved).expect("reads are moved");
    assert_eq!(finished.left_out, []);
    assert!(finished.plain, "a resync is owed");
    for end in ["release", "finish"] {
        let hold = world.hold(1, &doors);
        assert_eq!((hold.doors(), hold.left_out()), (vec![], vec![]));
        world.move_reads(&hold, &doors, &step);
        hold.leader_is_gone();
        if end == "release" {
            assert_eq!(world.release(hold), DoorNews::default());
        } else {
            let end = hold.finish(&world.database, &world.doors, &doors, &step, || true);
            assert_eq!(world.run(end).expect("the end").left_out, []);
        }
    }
    // Else Citus would refuse every DDL.
    assert_eq!(marked(&ground), "");
}

#[test]
fn a_coordinator_that_cannot_be_held_leaves_no_door_held() {
    let ground = ground();
    let world = World::new(&ground);
    let mut own = Session::open(&ground.coordinator, "citus-sync: another instance");
    own.run(&format!("BEGIN; {}", ground.write(1, "in the way")));
    let order = world.order(1, &[ground.address(2)]);
    let taken = Hold::take(&world.database, &world.doors, &order);
    world.run(taken).expect_err("somebody is in the way");
    let (port, write) = (ground.workers[1].port(), ground.write_beside(1, "free"));
    world.run(async {
        let writer = tokio::task::spawn_blocking(move || {
            let mut client = lab::connect(port, "postgres").expect("a client");
            client
                .batch_execute("SET lock_timeout = '30s'")
                .expect("set");
            client.batch_execute(&write)
        });
        writer.await.expect("a writer").expect("nothing is held");
    });
}
