//! What a move meets on its way: news, and Citus itself.

use lab::wait_for;
use serde_json::json;

use crate::bare::Bare;
use crate::daemon::SOON;

#[test]
fn a_move_that_newer_state_supersedes_changes_nothing() {
    let bare = Bare::start();
    let [old, new] = &bare.members;
    bare.put_leader("wk1", old);
    bare.distribute();
    // Patient enough for the whole scenario.
    let daemon = bare.daemon(&json!({
        "lock_cooldown": "50s", "statement_timeout": "59s", "hold_timeout": "59s",
    }));
    bare.wait_row(&daemon, old);

    // A writer that is not done, a new leader, and a move that waits for the writer.
    let mut writer = bare.coordinator.connect("postgres").expect("a writer");
    writer
        .batch_execute(
            "BEGIN; SELECT lock_shard_metadata(7, array_agg(shardid ORDER BY shardid)) \
             FROM pg_dist_placement WHERE groupid = 1",
        )
        .expect("the writer's locks");
    bare.put_leader("wk1", new);
    let mut observer = bare.coordinator.connect("postgres").expect("an observer");
    wait_for("the move to wait for the writer with patience", SOON, || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'citus-sync: move%' \
             AND wait_event_type = 'Lock' AND query LIKE 'BEGIN%lock_shard_metadata%'";
        Ok(observer.query_one(waiting, &[])?.get::<_, i64>(0) == 1)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));

    // The old leader has the key again, and only then the writer lets go.
    bare.put_leader("wk1", old);
    wait_for("the daemon to see it", SOON, || {
        Ok(daemon.group(1)?.leader.as_deref() == Some(old.name()))
    })
    .expect("seen");
    writer
        .batch_execute("ROLLBACK")
        .expect("the writer lets go");

    bare.wait_row(&daemon, old);
    let outcome = |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        daemon
            .metric("citus_sync_steps_total", &[&label])
            .expect("metrics")
    };
    assert_eq!(outcome("superseded"), 1, "{}", daemon.log());
    assert_eq!(
        outcome("committed") + outcome("forced"),
        0,
        "{}",
        daemon.log()
    );
}

/// Citus's metadata sync keeps `pg_dist_node` locked for as long as it waits for a worker that
/// accepts and never answers, 30 s by default (`docs/citus.md`). Here it is played by a session of
/// its name, which gives way only when it is cancelled.
#[test]
fn a_metadata_sync_that_hangs_on_pg_dist_node_is_cancelled() {
    let bare = Bare::start();
    let [old, new] = &bare.members;
    bare.put_leader("wk1", old);
    let daemon = bare.daemon(&json!({}));
    bare.wait_row(&daemon, old);
    let mut sync = bare.coordinator.connect("postgres").expect("the sync");
    sync.batch_execute(
        "SET application_name = 'Citus Metadata Sync Daemon'; BEGIN; \
         LOCK TABLE pg_dist_node IN ROW EXCLUSIVE MODE",
    )
    .expect("its lock");
    let hanging = std::thread::spawn(move || sync.batch_execute("SELECT pg_sleep(3600)"));
    bare.put_leader("wk1", new);
    bare.wait_row(&daemon, new);
    daemon.wait_logged(&["cancelled Citus's metadata sync"]);
    let ended = hanging.join().expect("the thread");
    let error = ended.expect_err("it was cancelled");
    assert!(format!("{error:?}").contains("57014"), "{error:?}");
}
