//! What a move does to rows, sessions and the workers' metadata.

use anyhow::{Result, ensure};

use crate::Case;
use crate::ground::{DEAD_PORT, Ground, Session};
use lab::wait_for;

pub(crate) const CASES: &[Case] = &[
    (
        "a write that waited in a hold goes to the new address",
        held_write_follows,
    ),
    (
        "a plain UPDATE is seen by the next query of every session",
        plain_update_is_seen,
    ),
    (
        "a move leaves the nodeid and marks the workers for resync, which then comes",
        resync,
    ),
    (
        "a plain UPDATE marks nobody for resync",
        plain_update_marks_nobody,
    ),
    (
        "primary and secondary swap in one transaction by way of a temporary name",
        swap,
    ),
    ("a swap that fails half-way leaves nothing", failed_swap),
    (
        "a worker that never answers keeps the resync, and so all moves, waiting until it is cancelled",
        silent_worker,
    ),
];

fn held_write_follows(ground: &Ground) -> Result<()> {
    let mut hold = ground.session()?;
    hold.run(&format!("BEGIN; {}", ground.pause_group(1)))?;
    let writer = ground.start_and_block(&ground.write(1, "late")?)?;
    hold.run(&format!("{}; COMMIT", ground.move_group(1, DEAD_PORT)))?;
    let (_, outcome) = writer.outcome()?;
    let Err(error) = outcome else {
        anyhow::bail!("the write went to the old address");
    };
    let refusal = crate::ground::db_error(&error)?;
    let words = format!("connection to the remote node postgres@127.0.0.1:{DEAD_PORT} failed");
    ensure!(
        refusal.code().code() == "08006" && refusal.message().starts_with(&words),
        "{error:?}"
    );
    Ok(())
}

fn plain_update_is_seen(ground: &Ground) -> Result<()> {
    let mut reader = ground.session()?;
    reader.run(&ground.write(1, "seen")?)?;
    let read = ground.read(1)?;
    reader.run(&read)?; // its connection to the worker is open, its plan may be cached
    let mut session = ground.session()?;
    session.run(&format!(
        "UPDATE pg_dist_node SET nodeport = {DEAD_PORT} WHERE groupid = 1"
    ))?;
    reader.refused(&read, "08006", &format!("127.0.0.1:{DEAD_PORT} failed"))?;
    session.run(&format!(
        "UPDATE pg_dist_node SET nodeport = {} WHERE groupid = 1",
        ground.port(1)
    ))?;
    let value = reader.one(&read)?;
    ensure!(value == "seen", "{value}");
    Ok(())
}

fn resync(ground: &Ground) -> Result<()> {
    let mut session = ground.session()?;
    let id = session.one("SELECT nodeid FROM pg_dist_node WHERE groupid = 1")?;
    session.run(&format!("BEGIN; {}", ground.move_group(0, DEAD_PORT)))?;
    let synced = session
        .one("SELECT string_agg(metadatasynced::text, ',' ORDER BY groupid) FROM pg_dist_node")?;
    ensure!(synced == "true,false,false", "{synced}");
    session.run("COMMIT")?;
    ground.sync()?;
    // Every worker now has the coordinator's rows.
    let rows = "SELECT string_agg(nodeid || ' ' || groupid || ' ' || nodename || ':' || nodeport, ', ' ORDER BY nodeid) FROM pg_dist_node";
    let expected = session.one(rows)?;
    ensure!(
        expected.contains(&format!("127.0.0.1:{DEAD_PORT}")),
        "{expected}"
    );
    for (worker, group) in ground.workers.iter().zip(["1", "2"]) {
        let mut there = Session::open(worker.port())?;
        let found = there.one(rows)?;
        ensure!(found == expected, "{}: {found}", worker.name());
        ensure!(there.one("SELECT groupid FROM pg_dist_local_group")? == group);
        ensure!(there.one("SELECT citus_is_coordinator()")? == "f");
    }
    ensure!(session.one("SELECT nodeid FROM pg_dist_node WHERE groupid = 1")? == id);
    Ok(())
}

fn plain_update_marks_nobody(ground: &Ground) -> Result<()> {
    let mut session = ground.session()?;
    session.run(&format!(
        "UPDATE pg_dist_node SET nodeport = {DEAD_PORT} WHERE groupid = 0"
    ))?;
    let synced = session.one("SELECT bool_and(metadatasynced) FROM pg_dist_node")?;
    ensure!(synced == "t");
    for worker in &ground.workers {
        let port = Session::open(worker.port())?
            .one("SELECT nodeport FROM pg_dist_node WHERE groupid = 0")?;
        ensure!(port == ground.port(0).to_string(), "{port}");
    }
    Ok(())
}

/// A group 1 with a secondary at port 2: ids of both, ordered by role.
fn with_secondary(ground: &Ground, session: &mut Session) -> Result<(String, String)> {
    session.run("SELECT citus_add_node('127.0.0.1', 2, 1, 'secondary')")?;
    Ok((
        session
            .one("SELECT nodeid FROM pg_dist_node WHERE groupid = 1 AND noderole = 'primary'")?,
        session
            .one("SELECT nodeid FROM pg_dist_node WHERE groupid = 1 AND noderole = 'secondary'")?,
    ))
    .and_then(|ids| ground.sync().map(|()| ids))
}

fn swap(ground: &Ground) -> Result<()> {
    let mut session = ground.session()?;
    let (primary, secondary) = with_secondary(ground, &mut session)?;
    let port = ground.port(1);
    session.run(&format!(
        "BEGIN;
         SELECT citus_update_node({primary}, 'temporary', 1);
         SELECT citus_update_node({secondary}, '127.0.0.1', {port});
         SELECT citus_update_node({primary}, '127.0.0.1', 2);
         COMMIT"
    ))?;
    let rows = session.rows(
        "SELECT nodeid, nodename, nodeport, noderole FROM pg_dist_node WHERE groupid = 1 ORDER BY noderole",
    )?;
    let port = port.to_string();
    ensure!(
        rows == [
            [primary.as_str(), "127.0.0.1", "2", "primary"],
            [secondary.as_str(), "127.0.0.1", &port, "secondary"],
        ],
        "{rows:?}"
    );
    Ok(())
}

fn failed_swap(ground: &Ground) -> Result<()> {
    let mut session = ground.session()?;
    let (primary, secondary) = with_secondary(ground, &mut session)?;
    let rows =
        "SELECT nodeid, nodename, nodeport, metadatasynced FROM pg_dist_node ORDER BY nodeid";
    let before = session.rows(rows)?;
    session.refused(
        &format!(
            "BEGIN;
             SELECT citus_update_node({primary}, 'temporary', 1);
             SELECT citus_update_node({secondary}, '127.0.0.1', {});",
            ground.port(2) // not its group's
        ),
        "55000",
        "there is already another node",
    )?;
    session.run("ROLLBACK")?;
    let after = session.rows(rows)?;
    ensure!(after == before, "{after:?}");
    Ok(())
}

fn silent_worker(ground: &Ground) -> Result<()> {
    // The one that plays the maintenance daemon where there is none. Its
    // connection to the worker is open already: only then is it interruptible.
    let mut daemon = ground.session()?;
    if !ground.flavour.is_citus() {
        daemon.run(&format!(
            "{}; SELECT citus_stand_in_sync_metadata()",
            ground.move_group(0, DEAD_PORT)
        ))?;
    }
    ground.workers[1].freeze();
    let mut session = ground.session()?;
    session.run(&ground.move_group(0, DEAD_PORT + 1))?;
    let daemon = if ground.flavour.is_citus() {
        None
    } else {
        Some(daemon.start("SELECT citus_stand_in_sync_metadata()")?)
    };
    let holder = lab::wait_until("a resync that is stuck", crate::ground::DEADLINE, || {
        let holders = session.rows(
            "SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE relation = 'pg_dist_node'::regclass AND pg_locks.mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()",
        )?;
        Ok(holders.into_iter().next())
    })?;
    if ground.flavour.is_citus() {
        ensure!(holder[1] == "Citus Metadata Sync Daemon", "{holder:?}");
    }
    session.refused(
        &format!(
            "SET lock_timeout = '100ms'; {}",
            ground.move_group(1, DEAD_PORT)
        ),
        "55P03",
        "lock timeout",
    )?;
    session.run(&format!("SELECT pg_cancel_backend({})", holder[0]))?;
    wait_for("the resync to let go", crate::ground::DEADLINE, || {
        let held = session.one(&format!(
            "SELECT count(*) FROM pg_locks WHERE relation = 'pg_dist_node'::regclass AND mode = 'RowExclusiveLock' AND pid = {}",
            holder[0]
        ))?;
        Ok(held == "0")
    })?;
    ground.workers[1].thaw();
    if let Some(daemon) = daemon {
        let _ = daemon.outcome()?; // cancelled, and that is all
    }
    Ok(())
}
