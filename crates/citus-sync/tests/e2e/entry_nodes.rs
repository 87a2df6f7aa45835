//! Entry nodes that cannot be reached: skipped at once, named and counted, and right again in the
//! end.

use citus_core::report::HoldAnswer;
use lab::{Lab, Scope, wait_for};
use serde_json::json;

use crate::clients::{clients, lost_nothing, nothing_failed};
use crate::daemon::{Daemon, SOON};
use crate::fixture::{
    close_second, coordinator, crash, in_sync, laboratory, make_whole, rows_at, scope,
};

/// Whether `wk2` is an entry node here; says so if it is not.
fn has_entry_nodes(lab: &Lab) -> bool {
    let entry_nodes = lab.entry_nodes("postgres").expect("entry nodes");
    if !entry_nodes.contains(&2) {
        eprintln!("skipped: no worker is an entry node with {}", lab.flavour());
    }
    entry_nodes.contains(&2)
}

/// The hold is complete but for this entry node, in these databases: in the answer, in the log, in
/// the metrics.
fn did_without(daemon: &Daemon, answer: &HoldAnswer, entry_node: &str, databases: &[&str]) {
    assert_eq!(answer.held, ["postgres", "second"], "{answer:?}");
    assert_eq!(answer.skipped.len(), databases.len(), "{answer:?}");
    for database in databases {
        let named = |left: &&String| left.starts_with(&format!("{database}: {entry_node}: "));
        assert_eq!(answer.skipped.iter().filter(named).count(), 1, "{answer:?}");
        let labels = [
            format!("database=\"{database}\""),
            format!("entry_node=\"{entry_node}\""),
        ];
        let labels = [labels[0].as_str(), labels[1].as_str()];
        // The answer may come before the last word of an entry node.
        daemon.wait_logged(&[
            "WARN",
            "skipped an entry node",
            labels[0],
            &format!("entry_node={entry_node}"),
        ]);
        let counted = daemon.metric("citus_sync_entry_nodes_skipped_total", &labels);
        assert!(counted.expect("metrics") >= 1, "{}", daemon.log());
    }
}

/// Waits until an entry node's own row of group 1 is at `address`, in every database.
fn wait_row_at(lab: &Lab, daemon: &Daemon, entry_node: &Scope, address: &str) {
    let right = wait_for("the entry node's own row", SOON, || {
        for database in lab.databases() {
            if rows_at(entry_node, database)?[1].1 != address {
                return Ok(false);
            }
        }
        Ok(true)
    });
    daemon.expect(right);
}

#[test]
fn a_frozen_entry_node_is_skipped_and_gets_the_row_when_it_is_back() {
    let lab = laboratory();
    if !has_entry_nodes(&lab) {
        return;
    }
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
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
    // The group gets another leader, of which the frozen entry node hears nothing.
    let victim = crash(&lab, "wk1");
    let followed = wait_for("the row to follow", SOON, || {
        let group = daemon.group(1)?;
        Ok(group.hold.is_none() && group.leader.is_some_and(|leader| leader != victim))
    });
    daemon.expect(followed);
    traffic.wait_flowing().expect("every client is served");
    frozen.thaw();
    pause(false);
    let leader = scope(&lab, "wk1").leader_address().expect("a leader");
    wait_row_at(&lab, &daemon, scope(&lab, "wk2"), &leader);
    make_whole(&lab);
    in_sync(&lab, &daemon);
    let transition = daemon.transition(1);
    for database in transition.databases.values() {
        let named = database.skipped.iter();
        assert!(
            named
                .filter(|left| left.starts_with(&frozen.address()))
                .count()
                >= 1,
            "{transition:#?}"
        );
    }
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
}

#[test]
fn an_entry_node_that_refuses_one_database_is_held_in_the_other() {
    let lab = laboratory();
    if !has_entry_nodes(&lab) {
        return;
    }
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let entry_node = scope(&lab, "wk2");
    let address = entry_node.leader_address().expect("the entry node");
    let mut admin = entry_node.connect("postgres").expect("the entry node");
    close_second(&mut admin);
    let answer = daemon.hold(1);
    did_without(&daemon, &answer, &address, &["second"]);
    let group = daemon.group(1).expect("a report").hold.expect("a hold");
    assert_eq!(group.databases.len(), 2, "{group:?}");
    daemon.release(1);
    admin
        .batch_execute("ALTER DATABASE second ALLOW_CONNECTIONS true")
        .expect("open again");
    in_sync(&lab, &daemon);
    let transition = daemon.transition(1);
    assert_eq!(transition.databases["postgres"].skipped, [""; 0]);
    assert_eq!(
        transition.databases["postgres"].entry_nodes, 2,
        "{transition:#?}"
    );
    assert_eq!(
        transition.databases["second"].entry_nodes, 1,
        "{transition:#?}"
    );
}

#[test]
fn a_worker_without_metadata_is_no_entry_node() {
    let lab = laboratory();
    if !has_entry_nodes(&lab) {
        return;
    }
    // As it is for workers that were added before Citus 11.
    let tell = |function: &str| {
        let entry_node = scope(&lab, "wk2").leader().expect("the entry node");
        for database in lab.databases() {
            coordinator(&lab, database)
                .execute(
                    &format!("SELECT {function}('127.0.0.1', {})", entry_node.port()),
                    &[],
                )
                .expect(function);
        }
    };
    tell("stop_metadata_sync_to_node");
    let daemon = Daemon::start_by(&lab, &json!({"read_move": true}));
    in_sync(&lab, &daemon);
    let answer = daemon.hold(1);
    assert_eq!(answer.skipped, [""; 0]);
    daemon.release(1);
    in_sync(&lab, &daemon);
    for database in daemon.transition(1).databases.values() {
        assert_eq!(database.entry_nodes, 1, "{database:?}");
    }
    tell("start_metadata_sync_to_node");
    in_sync(&lab, &daemon);
}
