//! What a move changes: rows, open sessions and the workers' metadata.

use anyhow::{Result, ensure};

use crate::fixture::{Case, DEAD_PORT, Fixture, Session};
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
        "a move keeps the nodeid and marks the workers for resync, and then the resync comes",
        resync,
    ),
    (
        "a plain UPDATE marks no worker for resync",
        plain_update_marks_no_worker,
    ),
    (
        "a primary and a secondary swap in one transaction, through a temporary name",
        swap,
    ),
    ("a swap that fails half-way changes nothing", failed_swap),
    (
        "a worker that never answers blocks the resync, and so every move, until the resync is cancelled",
        silent_worker,
    ),
    (
        "a session that is named outside of its transactions changes pg_dist_node and lives",
        named_session_lives,
    ),
];

/// Citus 11.2.0 to 12.1.6 crash PostgreSQL when the name is set inside the transaction, by SET LOCAL,
/// and its end takes it back (citus#7791).
fn named_session_lives(fixture: &Fixture) -> Result<()> {
    let change = "UPDATE pg_dist_node SET noderack = noderack";
    let mut session = fixture.session()?;
    let mut bystander = fixture.session()?;
    session.run("SET application_name = 'citus-sync: hold group 1'")?;
    for end in ["COMMIT", "ROLLBACK"] {
        session.run(&format!("BEGIN; {change}; {end}"))?;
        session.run("SELECT 1")?;
    }
    session.run("SET application_name = 'citus-sync'")?;
    session.run("SELECT 1")?;
    bystander.run("SELECT 1")
}

fn held_write_follows(fixture: &Fixture) -> Result<()> {
    let mut hold = fixture.session()?;
    hold.run(&format!("BEGIN; {}", fixture.pause_group(1)))?;
    let writer = fixture.start_and_block(&fixture.write(1, "late")?)?;
    hold.run(&format!("{}; COMMIT", fixture.move_group(1, DEAD_PORT)))?;
    let (_, outcome) = writer.outcome()?;
    let Err(error) = outcome else {
        anyhow::bail!("the write went to the old address");
    };
    let refusal = crate::fixture::db_error(&error)?;
    let words = format!("connection to the remote node postgres@127.0.0.1:{DEAD_PORT} failed");
    ensure!(
        refusal.code().code() == "08006" && refusal.message().starts_with(&words),
        "{error:?}"
    );
    Ok(())
}

fn plain_update_is_seen(fixture: &Fixture) -> Result<()> {
    let mut reader = fixture.session()?;
    reader.run(&fixture.write(1, "seen")?)?;
    let read = fixture.read(1)?;
    reader.run(&read)?; // its connection to the worker is open, its plan may be cached
    let mut session = fixture.session()?;
    session.run(&format!(
        "UPDATE pg_dist_node SET nodeport = {DEAD_PORT} WHERE groupid = 1"
    ))?;
    reader.refused(&read, "08006", &format!("127.0.0.1:{DEAD_PORT} failed"))?;
    session.run(&format!(
        "UPDATE pg_dist_node SET nodeport = {} WHERE groupid = 1",
        fixture.port(1)
    ))?;
    let value = reader.one(&read)?;
    ensure!(value == "seen", "{value}");
    Ok(())
}

fn resync(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    let id = session.one("SELECT nodeid FROM pg_dist_node WHERE groupid = 1")?;
    session.run(&format!("BEGIN; {}", fixture.move_group(0, DEAD_PORT)))?;
    let synced = session
        .one("SELECT string_agg(metadatasynced::text, ',' ORDER BY groupid) FROM pg_dist_node")?;
    ensure!(synced == "true,false,false", "{synced}");
    session.run("COMMIT")?;
    fixture.sync()?;
    // Every worker now has the coordinator's rows.
    let rows = "SELECT string_agg(nodeid || ' ' || groupid || ' ' || nodename || ':' || nodeport, ', ' ORDER BY nodeid) FROM pg_dist_node";
    let expected = session.one(rows)?;
    ensure!(
        expected.contains(&format!("127.0.0.1:{DEAD_PORT}")),
        "{expected}"
    );
    for (worker, group) in fixture.workers.iter().zip(["1", "2"]) {
        let mut there = Session::open(worker.port())?;
        let found = there.one(rows)?;
        ensure!(found == expected, "{}: {found}", worker.name());
        ensure!(there.one("SELECT groupid FROM pg_dist_local_group")? == group);
        ensure!(there.one("SELECT citus_is_coordinator()")? == "f");
    }
    ensure!(session.one("SELECT nodeid FROM pg_dist_node WHERE groupid = 1")? == id);
    Ok(())
}

fn plain_update_marks_no_worker(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run(&format!(
        "UPDATE pg_dist_node SET nodeport = {DEAD_PORT} WHERE groupid = 0"
    ))?;
    let synced = session.one("SELECT bool_and(metadatasynced) FROM pg_dist_node")?;
    ensure!(synced == "t");
    for worker in &fixture.workers {
        let port = Session::open(worker.port())?
            .one("SELECT nodeport FROM pg_dist_node WHERE groupid = 0")?;
        ensure!(port == fixture.port(0).to_string(), "{port}");
    }
    Ok(())
}

/// Adds a secondary at port 2 to group 1. Returns the ids of the primary and the secondary.
fn with_secondary(fixture: &Fixture, session: &mut Session) -> Result<(String, String)> {
    session.run("SELECT citus_add_node('127.0.0.1', 2, 1, 'secondary')")?;
    Ok((
        session
            .one("SELECT nodeid FROM pg_dist_node WHERE groupid = 1 AND noderole = 'primary'")?,
        session
            .one("SELECT nodeid FROM pg_dist_node WHERE groupid = 1 AND noderole = 'secondary'")?,
    ))
    .and_then(|ids| fixture.sync().map(|()| ids))
}

fn swap(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    let (primary, secondary) = with_secondary(fixture, &mut session)?;
    let port = fixture.port(1);
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

fn failed_swap(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    let (primary, secondary) = with_secondary(fixture, &mut session)?;
    let rows =
        "SELECT nodeid, nodename, nodeport, metadatasynced FROM pg_dist_node ORDER BY nodeid";
    let before = session.rows(rows)?;
    session.refused(
        &format!(
            "BEGIN;
             SELECT citus_update_node({primary}, 'temporary', 1);
             SELECT citus_update_node({secondary}, '127.0.0.1', {});",
            fixture.port(2) // an address of another group
        ),
        "55000",
        "there is already another node",
    )?;
    session.run("ROLLBACK")?;
    let after = session.rows(rows)?;
    ensure!(after == before, "{after:?}");
    Ok(())
}

fn silent_worker(fixture: &Fixture) -> Result<()> {
    // This session stands in for the maintenance daemon on the stand-in. Its connection to the worker
    // is already open: only then can the sync be interrupted.
    let mut daemon = fixture.session()?;
    if !fixture.flavour.is_citus() {
        daemon.run(&format!(
            "{}; SELECT citus_stand_in_sync_metadata()",
            fixture.move_group(0, DEAD_PORT)
        ))?;
    }
    fixture.workers[1].freeze();
    let mut session = fixture.session()?;
    session.run(&fixture.move_group(0, DEAD_PORT + 1))?;
    let daemon = if fixture.flavour.is_citus() {
        None
    } else {
        Some(daemon.start("SELECT citus_stand_in_sync_metadata()")?)
    };
    let holder = lab::wait_until("a resync that is stuck", crate::fixture::DEADLINE, || {
        let holders = session.rows(
            "SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE relation = 'pg_dist_node'::regclass AND pg_locks.mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()",
        )?;
        Ok(holders.into_iter().next())
    })?;
    if fixture.flavour.is_citus() {
        ensure!(holder[1] == "Citus Metadata Sync Daemon", "{holder:?}");
    }
    session.refused(
        &format!(
            "SET lock_timeout = '100ms'; {}",
            fixture.move_group(1, DEAD_PORT)
        ),
        "55P03",
        "lock timeout",
    )?;
    session.run(&format!("SELECT pg_cancel_backend({})", holder[0]))?;
    wait_for(
        "the resync to release its lock",
        crate::fixture::DEADLINE,
        || {
            let held = session.one(&format!(
            "SELECT count(*) FROM pg_locks WHERE relation = 'pg_dist_node'::regclass AND mode = 'RowExclusiveLock' AND pid = {}",
            holder[0]
        ))?;
            Ok(held == "0")
        },
    )?;
    fixture.workers[1].thaw();
    if let Some(daemon) = daemon {
        let _ = daemon.outcome()?; // it was cancelled
    }
    Ok(())
}
