//! Who writes while a hold is taken: short transactions are waited for, long ones end; what a lost
//! session left prepared is cleared away; and reference tables tie no two groups together.

use std::thread;

use lab::postgres::Client;
use lab::{Lab, wait_for};
use serde_json::json;

use crate::daemon::{Daemon, SOON};
use crate::fixture::{coordinator, in_sync, key_of_group, laboratory, make_whole, scope, switch};

/// A session on the coordinator with an open transaction that has written to group 1.
fn open_writer(lab: &Lab, name: &str) -> Client {
    let mut writer = coordinator(lab, "second");
    let key = key_of_group(&mut writer, 1);
    let write = if lab.flavour().is_citus() {
        format!(
            "INSERT INTO ledger VALUES ({key}, '{name}') \
             ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note"
        )
    } else {
        format!("SELECT citus_stand_in_write('ledger', {key}, '{name}')")
    };
    writer
        .batch_execute(&format!("SET application_name = '{name}'; BEGIN; {write}"))
        .expect("an open transaction");
    writer
}

#[test]
fn a_transaction_that_stays_open_is_ended_after_the_cooldown_and_named() {
    let lab = laboratory();
    let daemon = Daemon::start_by(&lab, &json!({"lock_cooldown": "1s"}));
    in_sync(&lab, &daemon);
    let mut writer = open_writer(&lab, "nightly");
    daemon.hold(1);
    assert!(
        writer.batch_execute("COMMIT").is_err(),
        "it was terminated:\n{}",
        daemon.log()
    );
    daemon.release(1);
    in_sync(&lab, &daemon);
    daemon.wait_logged(&["terminated pid", "nightly", "database=\"second\""]);
    let transition = daemon.transition(1);
    let second = &transition.databases["second"];
    assert!(
        second.terminated.len() == 1 && second.terminated[0].contains("nightly"),
        "{transition:#?}"
    );
    assert!(
        transition.databases["postgres"].terminated.is_empty(),
        "{transition:#?}"
    );
    let counted = |database: &str| {
        let database = format!("database=\"{database}\"");
        daemon
            .metric("citus_sync_sessions_terminated_total", &[&database])
            .expect("metrics")
    };
    assert_eq!((counted("postgres"), counted("second")), (0, 1));
}

#[test]
fn a_transaction_that_ends_in_time_is_waited_for() {
    let lab = laboratory();
    // Longer than anything here is waited for.
    let daemon = Daemon::start_by(
        &lab,
        &json!({"lock_cooldown": "50s", "statement_timeout": "59s", "hold_timeout": "59s"}),
    );
    in_sync(&lab, &daemon);
    let mut writer = open_writer(&lab, "short");
    thread::scope(|threads| {
        let holding = threads.spawn(|| daemon.hold(1));
        let mut observer = coordinator(&lab, "second");
        let waits = wait_for("the hold to wait for the writer", SOON, || {
            let waiting = "SELECT count(*) FROM pg_stat_activity \
                 WHERE application_name = 'citus-sync: hold group 1' \
                 AND datname = 'second' AND wait_event_type = 'Lock'";
            Ok(observer.query_one(waiting, &[])?.get::<_, i64>(0) == 1)
        });
        daemon.expect(waits);
        let hold = daemon.group(1).expect("a report").hold.expect("a hold");
        assert_eq!(hold.databases["second"], "taking");
        writer.batch_execute("COMMIT").expect("its commit");
        holding.join().expect("the thread");
    });
    daemon.wait_logged(&["writes are held", "database=\"second\"", "terminated=0"]);
    daemon.release(1);
    in_sync(&lab, &daemon);
    let transition = daemon.transition(1);
    for database in transition.databases.values() {
        assert!(database.terminated.is_empty(), "{transition:#?}");
    }
}

#[test]
fn prepared_transactions_of_a_lost_session_are_recovered_after_a_switchover() {
    let lab = laboratory();
    if !lab.flavour().is_citus() {
        eprintln!("skipped: {} leaves nothing prepared", lab.flavour());
        return;
    }
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    // Citus itself would find it within a minute; here it does not look.
    let mut admin = coordinator(&lab, "postgres");
    let mut own_recovery = |sql: &str| {
        admin.execute(sql, &[]).expect(sql);
        admin
            .execute("SELECT pg_reload_conf()", &[])
            .expect("reloaded");
    };
    own_recovery("ALTER SYSTEM SET citus.recover_2pc_interval = '1d'");
    // What a session of the coordinator leaves when it dies. No process has the id in its name.
    let wk1 = scope(&lab, "wk1");
    wk1.connect("second")
        .expect("the leader")
        .batch_execute(
            "BEGIN; CREATE TABLE left_behind (); PREPARE TRANSACTION 'citus_0_4194304_1_0'",
        )
        .expect("prepared");
    switch(&lab, "wk1");
    in_sync(&lab, &daemon);
    daemon.wait_logged(&[
        "recovered prepared transactions",
        "database=\"second\"",
        "count=1",
    ]);
    let mut client = wk1.connect("second").expect("the new leader");
    let left: i64 = client
        .query_one("SELECT count(*) FROM pg_prepared_xacts", &[])
        .expect("prepared transactions")
        .get(0);
    assert_eq!(left, 0);
    let counted = daemon.metric(
        "citus_sync_prepared_transactions_recovered_total",
        &["database=\"second\""],
    );
    assert_eq!(counted.expect("metrics"), 1, "{}", daemon.log());
    own_recovery("ALTER SYSTEM RESET citus.recover_2pc_interval");
    make_whole(&lab);
}

#[test]
fn two_groups_are_held_at_once_although_a_reference_table_is_in_both() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let write = if lab.flavour().is_citus() {
        "UPDATE currencies SET rate = rate + 1 WHERE code = 1"
    } else {
        // The stand-in writes to no reference table, but takes the locks that such a write takes.
        "BEGIN; SELECT lock_shard_metadata(5, array_agg(shardid)) FROM pg_dist_shard \
         WHERE logicalrelid = 'currencies'::regclass; COMMIT"
    };
    daemon.hold(1);
    let mut client = coordinator(&lab, "second");
    thread::scope(|threads| {
        let write = threads.spawn(move || client.batch_execute(write));
        let mut observer = coordinator(&lab, "second");
        let waits = wait_for("the writer to wait", SOON, || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lab' \
                 AND wait_event_type = 'Lock'";
            Ok(observer.query_one(waiting, &[])?.get::<_, i64>(0) == 1)
        });
        daemon.expect(waits);
        // The writer is not in the way of this hold, although the table is in both groups.
        let answer = daemon.hold(2);
        assert_eq!(answer.held, lab.databases(), "{answer:?}");
        daemon.release(1);
        daemon.wait_let_go(1);
        // Still held by the other group.
        assert!(!write.is_finished());
        daemon.release(2);
        let written = write.join().expect("the thread");
        written.unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
    });
    in_sync(&lab, &daemon);
    for group in [1, 2] {
        let transition = daemon.transition(group);
        for database in transition.databases.values() {
            assert!(database.terminated.is_empty(), "{transition:#?}");
        }
        let scope = format!("scope=wk{group}");
        daemon.wait_logged(&["hold over, kept", &scope]);
    }
}
