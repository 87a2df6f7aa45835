//! Doors that cannot be had are left out and named, and nobody waits for them (rule 9).

use std::fs;

use citus_sync::edge::sql::{Hold, LeftOut, move_reads};
use dcs_watch::HostPort;
use lab::Postgres;

use crate::ground::{DEAD_PORT, Ground, Session, World, ground};

fn nowhere() -> HostPort {
    HostPort {
        host: "127.0.0.1".to_owned(),
        port: DEAD_PORT,
    }
}

fn sorted(left_out: &[LeftOut]) -> Vec<&HostPort> {
    let mut doors: Vec<&HostPort> = left_out.iter().map(|left| &left.door).collect();
    doors.sort();
    doors
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
    assert_eq!(sorted(hold.left_out()), [&nowhere(), &one]);
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
    assert_eq!(sorted(hold.left_out()), [&nowhere(), &one]);
    world.release(hold);
    ground.workers[0].thaw();
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
    let marked = "SELECT string_agg(nodeport::text, ',') FROM pg_dist_node \
                  WHERE hasmetadata AND NOT metadatasynced AND groupid = 2";
    assert_eq!(
        ground.session("ground").one(marked),
        two.port.to_string(),
        "{one} has been told nothing either, but was no door"
    );
    ground.workers[1].thaw();
}

#[test]
fn a_door_in_recovery_is_none() {
    let ground = ground();
    let standby = Postgres::start(&ground.sandbox, "standby").expect("a server");
    standby.stop().expect("its end");
    let data = standby.log().parent().expect("its folder").join("data");
    fs::write(data.join("standby.signal"), "").expect("a standby");
    standby.start_again().expect("a standby");
    let world = World::new(&ground);
    let door: HostPort = standby.address().parse().expect("an address");
    let hold = world.hold(1, std::slice::from_ref(&door));
    assert_eq!(sorted(hold.left_out()), [&door]);
    let text = hold.left_out()[0].to_string();
    assert!(text.contains("in recovery"), "{text}");
    world.release(hold);
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
