//! What the coordinator is asked beside holds and moves.

use std::sync::Arc;

use citus_sync::execute::{flush_log, readers_are_gone, recover_prepared};
use citus_sync::session::can_reach;
use dcs_watch::HostPort;
use tokio::sync::watch;

use crate::fixture::Fixture;
use crate::servers::{DEAD_PORT, Servers, servers};
use crate::session::Session;

#[test]
fn the_coordinator_says_which_members_it_reaches() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let ask = |address: &HostPort| fixture.run(can_reach(&fixture.database, address));
    assert!(ask(&servers.address(1)).expect("an answer"));
    let nowhere = HostPort {
        host: "127.0.0.1".to_owned(),
        port: DEAD_PORT,
    };
    assert!(!ask(&nowhere).expect("an answer"));
    // It accepts and never answers: the answer comes while it is still frozen.
    servers.workers[0].freeze();
    let frozen = ask(&servers.address(1));
    servers.workers[0].thaw();
    if servers.flavour.is_citus() {
        assert!(!frozen.expect("an answer"));
    } else {
        // The stand-in's wait has whole seconds: our own bound comes first.
        assert!(!frozen.unwrap_or(false));
    }
}

#[test]
fn transactions_that_a_dead_session_left_prepared_are_recovered() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let recover = || fixture.run(recover_prepared(&fixture.database));
    assert_eq!(recover().expect("an answer"), 0);
    if !servers.flavour.is_citus() {
        return;
    }
    // As Citus names them: the coordinator's group, a process that is no more, and two numbers.
    let mut worker = Session::open(&servers.workers[0], "worker");
    worker.run("BEGIN; CREATE TABLE left_behind (); PREPARE TRANSACTION 'citus_0_999999_1_1'");
    assert_eq!(recover().expect("an answer"), 1);
    assert_eq!(worker.one("SELECT count(*) FROM pg_prepared_xacts"), "0");
}

#[test]
fn readers_at_a_leader_are_waited_for_while_a_request_waits() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let (leader, worker) = (servers.address(1), &servers.workers[0]);
    let mut gate = Session::open(worker, "gate");
    gate.run("SELECT pg_advisory_lock(42)");
    let mut reader = Session::open(worker, "reader");
    // As Citus names its sessions on workers.
    reader.run("SET application_name = 'citus_internal gpid=1'");
    let reading = reader.start("SELECT pg_advisory_lock(42)");
    Servers::wait_blocked(worker, "citus_internal gpid=1", 1);

    let (moved, listens) = watch::channel(true);
    let (database, entry_nodes) = (fixture.database.clone(), fixture.entry_nodes.clone());
    let gone = fixture.runtime.spawn(async move {
        let gone = readers_are_gone(&database, &entry_nodes, &leader, listens).await;
        gone.map(|()| leader)
    });
    // A question of its own, on the same machine: there was time to ask.
    fixture
        .run(can_reach(&fixture.database, &servers.address(1)))
        .expect("an answer");
    assert!(!gone.is_finished());
    gate.run("SELECT pg_advisory_unlock(42)");
    let leader = fixture.run(gone).expect("no panic").expect("an answer");
    reading.outcome().expect("it reads");

    // Another one who stays, and nobody who wants to know.
    gate.run("SELECT pg_advisory_lock(43)");
    let mut reader = Session::open(worker, "reader");
    reader.run("SET application_name = 'citus_internal gpid=2'");
    let _reading = reader.start("SELECT pg_advisory_lock(43)");
    Servers::wait_blocked(worker, "citus_internal gpid=2", 1);
    let listens = moved.subscribe();
    let gone = readers_are_gone(&fixture.database, &fixture.entry_nodes, &leader, listens);
    let told = async { drop(moved) };
    fixture
        .run(async { tokio::join!(gone, told) })
        .0
        .expect("an end");
}

/// Else a standby would wait for the rest of a record until PostgreSQL's WAL writer comes by.
#[test]
fn the_log_of_a_leader_is_on_its_disk_once_it_was_flushed() {
    let servers = servers();
    let fixture = Fixture::new(&servers);
    let mut worker = Session::open(&servers.workers[0], "worker");
    worker.run("ALTER SYSTEM SET wal_writer_delay = '10s'");
    worker.run("SELECT pg_reload_conf()");
    worker.run("SELECT pg_logical_emit_message(false, 'scenario', 'not on the disk yet')");
    let end = worker.one("SELECT pg_current_wal_insert_lsn()");
    let (leader, database) = (servers.address(1), Arc::from("postgres"));
    fixture
        .run(flush_log(&fixture.entry_nodes, &leader, &database))
        .expect("flushed");
    let is_there = format!("SELECT pg_current_wal_flush_lsn() >= '{end}'");
    let is_there = worker.one(&is_there);
    worker.run("ALTER SYSTEM RESET wal_writer_delay");
    worker.run("SELECT pg_reload_conf()");
    assert_eq!(is_there, "t");
}
