//! Doors that cannot be reached: left out at once, named and counted, and right again in the end.

use citus_sync::report::HoldAnswer;
use lab::{Lab, Scope, wait_for};
use serde_json::json;

use crate::clients::{clients, lost_nothing, nothing_failed};
use crate::daemon::{Daemon, SOON};
use crate::world::{
    close_second, coordinator, crash, laboratory, make_whole, rows_at, scope, settled,
};

/// Whether `wk2` is a door here; says so if it is not.
fn has_doors(lab: &Lab) -> bool {
    let doors = lab.entry_nodes("postgres").expect("doors");
    if !doors.contains(&2) {
        eprintln!("skipped: no worker is a door with {}", lab.flavour());
    }
    doors.contains(&2)
}

/// The hold is complete but for this door, in these databases: in the answer, in the log, in the metrics.
fn did_without(daemon: &Daemon, answer: &HoldAnswer, door: &str, databases: &[&str]) {
    assert_eq!(answer.held, ["postgres", "second"], "{answer:?}");
    assert_eq!(answer.left_out.len(), databases.len(), "{answer:?}");
    for database in databases {
        let named = |left: &&String| left.starts_with(&format!("{database}: {door}: "));
        assert_eq!(
            answer.left_out.iter().filter(named).count(),
            1,
            "{answer:?}"
        );
        let labels = [
            format!("database=\"{database}\""),
            format!("door=\"{door}\""),
        ];
        let labels = [labels[0].as_str(), labels[1].as_str()];
        // The answer may come before the last word of a door.
        daemon.wait_logged(&[
            "WARN",
            "left out a door",
            labels[0],
            &format!("door={door}"),
        ]);
        let counted = daemon.metric("citus_sync_doors_left_out_total", &labels);
        assert!(counted.expect("metrics") >= 1, "{}", daemon.log());
    }
}

/// Waits until a door's own row of group 1 is at `address`, in every database.
fn wait_row_at(lab: &Lab, daemon: &Daemon, door: &Scope, address: &str) {
    let right = wait_for("the door's own row", SOON, || {
        for database in lab.databases() {
            if rows_at(door, database)?[1].1 != address {
                return Ok(false);
            }
        }
        Ok(true)
    });
    daemon.expect(right);
}

#[test]
fn a_frozen_door_is_left_out_and_told_when_it_is_back() {
    let lab = laboratory();
    if !has_doors(&lab) {
        return;
    }
    let daemon = Daemon::start(&lab);
    settled(&lab, &daemon);
    let traffic = clients(&lab, &[1, 3], None);
    // Paused, so that Patroni does not replace it meanwhile.
    let pause = |paused: bool| {
        scope(&lab, "wk2")
            .configure(&json!({"pause": paused}))
            .expect("configured");
    };
    pause(true);
    let frozen = scope(&lab, "wk2").freeze().expect("frozen");
    // Answered while it is frozen, so not delayed by it.
    let answer = daemon.hold(1);
    did_without(&daemon, &answer, &frozen.address(), &["postgres", "second"]);
    assert!(answer.reads_moved_to.is_some(), "{answer:?}");
    // The group gets another leader, of which the frozen door hears nothing.
    let victim = crash(&lab, "wk1");
    let followed = wait_for("the row to follow", SOON, || {
        let group = daemon.group(1)?;
        Ok(group.hold.is_none() && group.leader.is_some_and(|leader| leader != victim))
    });
    daemon.expect(followed);
    traffic.wait_flowing().expect("everybody is served");
    frozen.thaw();
    pause(false);
    let leader = scope(&lab, "wk1").leader_address().expect("a leader");
    wait_row_at(&lab, &daemon, scope(&lab, "wk2"), &leader);
    make_whole(&lab);
    settled(&lab, &daemon);
    let passage = daemon.passage(1);
    for database in passage.databases.values() {
        let named = database.left_out.iter();
        assert!(
            named
                .filter(|left| left.starts_with(&frozen.address()))
                .count()
                >= 1,
            "{passage:#?}"
        );
    }
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
}

#[test]
fn a_door_that_refuses_one_database_is_held_in_the_other() {
    let lab = laboratory();
    if !has_doors(&lab) {
        return;
    }
    let daemon = Daemon::start(&lab);
    settled(&lab, &daemon);
    let door = scope(&lab, "wk2");
    let address = door.leader_address().expect("the door");
    let mut admin = door.connect("postgres").expect("the door");
    close_second(&mut admin);
    let answer = daemon.hold(1);
    did_without(&daemon, &answer, &address, &["second"]);
    let group = daemon.group(1).expect("a report").hold.expect("a hold");
    assert_eq!(group.databases.len(), 2, "{group:?}");
    daemon.release(1);
    admin
        .batch_execute("ALTER DATABASE second ALLOW_CONNECTIONS true")
        .expect("open again");
    settled(&lab, &daemon);
    let passage = daemon.passage(1);
    assert_eq!(passage.databases["postgres"].left_out, [""; 0]);
    assert_eq!(passage.databases["postgres"].doors, 2, "{passage:#?}");
    assert_eq!(passage.databases["second"].doors, 1, "{passage:#?}");
}

#[test]
fn a_worker_without_metadata_is_no_door() {
    let lab = laboratory();
    if !has_doors(&lab) {
        return;
    }
    // As it is for workers that were added before Citus 11.
    let tell = |function: &str| {
        let door = scope(&lab, "wk2").leader().expect("the door");
        for database in lab.databases() {
            coordinator(&lab, database)
                .execute(
                    &format!("SELECT {function}('127.0.0.1', {})", door.port()),
                    &[],
                )
                .expect(function);
        }
    };
    tell("stop_metadata_sync_to_node");
    let daemon = Daemon::start_by(&lab, &json!({"read_move": true}));
    settled(&lab, &daemon);
    let answer = daemon.hold(1);
    assert_eq!(answer.left_out, [""; 0]);
    daemon.release(1);
    settled(&lab, &daemon);
    for database in daemon.passage(1).databases.values() {
        assert_eq!(database.doors, 1, "{database:?}");
    }
    tell("start_metadata_sync_to_node");
    settled(&lab, &daemon);
}
