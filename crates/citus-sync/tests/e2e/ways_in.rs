//! Every way in to a held group: its own leader, and functions that Citus delegates to it (rule 8).

use std::thread;

use lab::postgres::Client;
use lab::wait_for;
use serde_json::json;

use crate::daemon::{Daemon, SOON};
use crate::fixture::{coordinator, in_sync, key_of_group, laboratory, scope};

/// What the writes of these scenarios leave.
const NOTE: &str = "written in a hold";

/// Waits until a session of this name waits for a lock.
fn wait_blocked(daemon: &Daemon, observer: &mut Client, name: &str) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE application_name LIKE $1 AND wait_event_type = 'Lock'";
    let waits = wait_for("the writer to wait", SOON, || {
        let count: i64 = observer.query_one(waiting, &[&name])?.get(0);
        Ok(count == 1)
    });
    daemon.expect(waits);
}

#[test]
fn a_write_through_the_groups_own_leader_waits_until_the_hold_is_over() {
    let lab = laboratory();
    if !lab.flavour().is_citus() {
        eprintln!("skipped: the stand-in's workers take no queries");
        return;
    }
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let key = key_of_group(&mut coordinator(&lab, "second"), 1);
    let leader = scope(&lab, "wk1").leader().expect("a leader");
    let answer = daemon.hold(1);
    assert!(answer.reads_moved_to.is_some(), "{answer:?}");
    let mut writer = leader.connect("second").expect("the leader");
    let mut observer = leader.connect("second").expect("the leader");
    let write = format!(
        "SET application_name = 'at the leader'; \
         INSERT INTO ledger VALUES ({key}, '{NOTE}') ON CONFLICT (id) DO UPDATE SET note = '{NOTE}'"
    );
    thread::scope(|threads| {
        let write = threads.spawn(move || writer.batch_execute(&write));
        wait_blocked(&daemon, &mut observer, "at the leader");
        daemon.release(1);
        let written = write.join().expect("the thread");
        written.unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
    });
    in_sync(&lab, &daemon);
}

/// They run on the worker: once reads have moved they would meet a standby, and fail with 25006.
/// `read_move: false` keeps them where they can wait.
#[test]
fn a_delegated_function_waits_in_a_hold_where_reads_stay() {
    let lab = laboratory();
    if !lab.flavour().is_citus() {
        eprintln!("skipped: the stand-in delegates no functions");
        return;
    }
    let daemon = Daemon::start_by(&lab, &json!({"read_move": false}));
    in_sync(&lab, &daemon);
    let mut client = coordinator(&lab, "second");
    let key = key_of_group(&mut client, 1);
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION note_it(k bigint) RETURNS void LANGUAGE plpgsql AS \
             $$BEGIN INSERT INTO ledger VALUES (k, 'delegated') \
             ON CONFLICT (id) DO UPDATE SET note = 'delegated'; END$$; \
             SELECT create_distributed_function('note_it(bigint)', 'k', colocate_with := 'ledger')",
        )
        .expect("a distributed function");
    let leader = scope(&lab, "wk1").leader().expect("a leader");
    let mut observer = leader.connect("second").expect("the leader");
    daemon.hold(1);
    let call = format!("SELECT note_it({key})");
    thread::scope(|threads| {
        let call = threads.spawn(move || client.batch_execute(&call));
        wait_blocked(&daemon, &mut observer, "citus_internal%");
        daemon.release(1);
        let called = call.join().expect("the thread");
        called.unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
    });
    let mut client = coordinator(&lab, "second");
    client
        .batch_execute("DROP FUNCTION note_it(bigint)")
        .expect("it is gone");
    in_sync(&lab, &daemon);
}
