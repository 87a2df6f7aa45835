//! Locks: which statement waits for which.

use anyhow::{Result, ensure};

use crate::fixture::{Case, DEAD_PORT, Fixture, Session, sqlstate};

pub(crate) const CASES: &[Case] = &[
    ("a move to the same name and port takes no lock", no_op),
    (
        "a move locks the group's shards and pg_dist_node until commit",
        move_locks,
    ),
    (
        "a move waits for an open write of its group, not of another",
        move_waits_for_writers,
    ),
    (
        "a pause blocks writers of its group, but not readers or other groups",
        pause,
    ),
    (
        "pauses of two groups do not wait for each other",
        two_pauses,
    ),
    (
        "lock_shard_metadata blocks writers of its shards",
        hold_by_shards,
    ),
    (
        "with a reference table, pauses and moves of all groups wait for each other",
        reference_table,
    ),
    (
        "an open move makes another group's move wait, until commit",
        open_move_blocks,
    ),
    (
        "two moves that waited for a third one deadlock",
        three_moves_deadlock,
    ),
    (
        "moves that first pause, then lock the table, do not deadlock",
        three_moves_in_order,
    ),
    (
        "a pause does not wait for another group's open move",
        pause_beside_move,
    ),
    (
        "lock_timeout ends the wait with 55P03 and changes nothing",
        lock_timeout,
    ),
    (
        "force terminates the sessions that block the move, after the cooldown",
        force,
    ),
    (
        "force with a lock_timeout shorter than the cooldown terminates no session",
        force_too_short,
    ),
    (
        "force terminates an open move of another group too",
        force_on_nodes,
    ),
    (
        "plain updates of pg_dist_node exclude each other and moves",
        plain_updates,
    ),
    (
        "a move of the coordinator's own row takes no shard lock",
        group_zero,
    ),
];

/// The locks of a session: the number of advisory ones, and the modes on `pg_dist_node`.
fn held(session: &mut Session) -> Result<(usize, Vec<String>)> {
    let locks = session.rows(
        "SELECT locktype, mode FROM pg_locks WHERE pid = pg_backend_pid() AND granted
         AND (locktype = 'advisory' OR relation = 'pg_dist_node'::regclass) ORDER BY 1, 2",
    )?;
    let advisory = locks.iter().filter(|lock| lock[0] == "advisory").count();
    let nodes = locks
        .into_iter()
        .filter(|lock| lock[0] == "relation" && lock[1] != "AccessShareLock")
        .map(|mut lock| lock.remove(1))
        .collect();
    Ok((advisory, nodes))
}

fn no_op(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run(&format!(
        "BEGIN; {}",
        fixture.move_group(1, fixture.port(1))
    ))?;
    let locks = held(&mut session)?;
    ensure!(locks == (0, vec![]), "{locks:?}");
    let synced = session.one("SELECT bool_and(metadatasynced) FROM pg_dist_node")?;
    ensure!(synced == "t", "marked for resync");
    Ok(())
}

fn move_locks(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run(&format!("BEGIN; {}", fixture.move_group(1, DEAD_PORT)))?;
    let (shards, nodes) = held(&mut session)?;
    ensure!(shards == 4, "{shards} of the group's four shards");
    ensure!(nodes == ["ExclusiveLock", "RowExclusiveLock"], "{nodes:?}");
    // The lock mode is the only thing that SQL cannot imitate.
    let modes = session.one(
        "SELECT string_agg(DISTINCT mode || ' ' || objsubid, ',') FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
    )?;
    let expected = if fixture.flavour.is_citus() {
        "AccessExclusiveLock 8"
    } else {
        "ExclusiveLock 2"
    };
    ensure!(modes == expected, "{modes}");
    // A reader of the rows does not wait, and sees the old ones.
    let row = fixture.row(1)?;
    ensure!(row == format!("127.0.0.1:{}", fixture.port(1)), "{row}");
    Ok(())
}

fn move_waits_for_writers(fixture: &Fixture) -> Result<()> {
    let mut writer = fixture.session()?;
    writer.run(&format!("BEGIN; {}", fixture.write(1, "open")?))?;
    let blocked = fixture.start_and_block(&fixture.move_group(1, DEAD_PORT))?;
    writer.run("COMMIT")?;
    blocked.succeeds()?;
    let mut writer = fixture.session()?;
    writer.run(&format!("BEGIN; {}", fixture.write(2, "open")?))?;
    let mut other = fixture.session()?;
    other.run("SET lock_timeout = '5s'")?;
    other.retry(&fixture.move_group(1, fixture.port(1)))
}

fn pause(fixture: &Fixture) -> Result<()> {
    let mut hold = fixture.session()?;
    let mut reader = fixture.session()?;
    reader.run(&fixture.write(1, "before")?)?;
    hold.run(&format!("BEGIN; {}", fixture.pause_group(1)))?;
    let (shards, nodes) = held(&mut hold)?;
    ensure!(shards == 4 && nodes.is_empty(), "{shards} {nodes:?}");
    let writer = fixture.start_and_block(&fixture.write(1, "after")?)?;
    reader.run("SET lock_timeout = '5s'")?;
    let value = reader.one(&fixture.read(1)?)?;
    ensure!(value == "before", "{value}");
    reader.run(&fixture.write(2, "elsewhere")?)?;
    hold.run("COMMIT")?;
    writer.succeeds()?;
    let value = reader.one(&fixture.read(1)?)?;
    ensure!(value == "after", "{value}");
    Ok(())
}

fn two_pauses(fixture: &Fixture) -> Result<()> {
    let mut one = fixture.session()?;
    let mut two = fixture.session()?;
    one.run(&format!(
        "BEGIN; SET LOCAL lock_timeout = '5s'; {}",
        fixture.pause_group(1)
    ))?;
    two.run(&format!(
        "BEGIN; SET LOCAL lock_timeout = '5s'; {}",
        fixture.pause_group(2)
    ))?;
    let mut zero = fixture.session()?;
    zero.run(&format!(
        "BEGIN; SET LOCAL lock_timeout = '5s'; {}",
        fixture.pause_group(0)
    ))?;
    // A second pause of the same group waits.
    let again = fixture.start_and_block(&fixture.pause_group(1))?;
    one.run("ROLLBACK")?;
    again.succeeds()?;
    Ok(())
}

fn hold_by_shards(fixture: &Fixture) -> Result<()> {
    let mut hold = fixture.session()?;
    hold.run(&format!(
        "BEGIN; SELECT lock_shard_metadata(7, '{}')",
        fixture.shards(1)?
    ))?;
    let writer = fixture.start_and_block(&fixture.write(1, "held")?)?;
    let paused = fixture.start_and_block(&fixture.pause_group(1))?;
    let mut other = fixture.session()?;
    other.run("SET lock_timeout = '5s'")?;
    other.run(&fixture.write(2, "free")?)?;
    hold.run("COMMIT")?;
    writer.succeeds()?;
    paused.succeeds()?;
    // Two locks of a writer's mode do not wait for each other.
    hold.run(&format!(
        "BEGIN; SELECT lock_shard_metadata(5, '{}')",
        fixture.shards(1)?
    ))?;
    other.run(&fixture.write(1, "shared")?)
}

fn reference_table(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run("CREATE TABLE countries (id bigint PRIMARY KEY, name text)")?;
    session.run("SELECT create_reference_table('countries')")?;
    let outcome = (|| {
        let mut hold = fixture.session()?;
        hold.run(&format!("BEGIN; {}", fixture.pause_group(1)))?;
        for tied in [
            fixture.pause_group(2),
            fixture.pause_group(0),
            fixture.move_group(2, DEAD_PORT),
        ] {
            session.refused(
                &format!("SET lock_timeout = '200ms'; {tied}"),
                "55P03",
                "lock timeout",
            )?;
        }
        // A hold of the group's own shards blocks no other group.
        hold.run(&format!(
            "ROLLBACK; BEGIN; SELECT lock_shard_metadata(7, '{}')",
            fixture.shards(1)?
        ))?;
        session.run(&format!(
            "SET lock_timeout = '5s'; BEGIN; {}; ROLLBACK",
            fixture.pause_group(2)
        ))
    })();
    session.run("ROLLBACK; DROP TABLE countries")?;
    outcome
}

fn open_move_blocks(fixture: &Fixture) -> Result<()> {
    let mut open = fixture.session()?;
    open.run(&format!("BEGIN; {}", fixture.move_group(1, DEAD_PORT)))?;
    let other = fixture.start_and_block(&fixture.move_group(2, DEAD_PORT + 1))?;
    open.run("COMMIT")?;
    other.succeeds()?;
    for (group, port) in [(1, DEAD_PORT), (2, DEAD_PORT + 1)] {
        let row = fixture.row(group)?;
        ensure!(row == format!("127.0.0.1:{port}"), "{row}");
    }
    Ok(())
}

fn three_moves_deadlock(fixture: &Fixture) -> Result<()> {
    let mut open = fixture.session()?;
    open.run(&format!("BEGIN; {}", fixture.move_group(1, DEAD_PORT)))?;
    let two = fixture.start_and_block(&fixture.move_group(2, DEAD_PORT + 1))?;
    let zero = fixture.start_and_block(&fixture.move_group(0, DEAD_PORT + 2))?;
    open.run("COMMIT")?;
    let outcomes = [two.outcome()?.1, zero.outcome()?.1];
    let codes: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err().map(sqlstate))
        .collect();
    ensure!(codes == ["40P01"], "{codes:?}");
    Ok(())
}

fn three_moves_in_order(fixture: &Fixture) -> Result<()> {
    let in_order = |group, port| {
        format!(
            "BEGIN; {}; LOCK TABLE pg_catalog.pg_dist_node IN EXCLUSIVE MODE; {}; COMMIT",
            fixture.pause_group(group),
            fixture.move_group(group, port)
        )
    };
    let mut open = fixture.session()?;
    open.run(&format!("BEGIN; {}", fixture.move_group(1, DEAD_PORT)))?;
    let two = fixture.start_and_block(&in_order(2, DEAD_PORT + 1))?;
    let zero = fixture.start_and_block(&in_order(0, DEAD_PORT + 2))?;
    open.run("COMMIT")?;
    two.succeeds()?;
    zero.succeeds()?;
    Ok(())
}

fn pause_beside_move(fixture: &Fixture) -> Result<()> {
    let mut open = fixture.session()?;
    open.run(&format!("BEGIN; {}", fixture.move_group(1, DEAD_PORT)))?;
    let mut other = fixture.session()?;
    other.run(&format!(
        "SET lock_timeout = '5s'; BEGIN; {}",
        fixture.pause_group(2)
    ))
}

fn lock_timeout(fixture: &Fixture) -> Result<()> {
    let mut hold = fixture.session()?;
    hold.run(&format!("BEGIN; {}", fixture.pause_group(1)))?;
    let mut session = fixture.session()?;
    session.run("SET lock_timeout = '100ms'")?;
    let before = fixture.row(1)?;
    let words = "canceling statement due to lock timeout";
    session.refused(&fixture.move_group(1, DEAD_PORT), "55P03", words)?;
    session.refused(&fixture.pause_group(1), "55P03", words)?;
    session.refused(&fixture.write(1, "x")?, "55P03", words)?;
    hold.run("ROLLBACK")?;
    ensure!(fixture.row(1)? == before);
    let timeout = session.one("SHOW lock_timeout")?;
    ensure!(timeout == "100ms", "{timeout}");
    Ok(())
}

fn force(fixture: &Fixture) -> Result<()> {
    let mut writer = fixture.session()?;
    writer.run(&format!("BEGIN; {}", fixture.write(1, "in the way")?))?;
    let pid = writer.pid;
    let mut session = fixture.session()?;
    session.run(&fixture.move_group_with(1, DEAD_PORT, ", force => true, lock_cooldown => 200"))?;
    fixture.wait_gone(pid)?;
    let row = fixture.row(1)?;
    ensure!(row == format!("127.0.0.1:{DEAD_PORT}"), "{row}");
    let Err(error) = writer.run("SELECT 1") else {
        anyhow::bail!("the writer's session is still alive");
    };
    ensure!(
        ["57P01", ""].contains(&sqlstate(&error).as_str()),
        "{error:?}"
    );
    Ok(())
}

fn force_too_short(fixture: &Fixture) -> Result<()> {
    let mut writer = fixture.session()?;
    writer.run(&format!("BEGIN; {}", fixture.write(1, "safe")?))?;
    let mut session = fixture.session()?;
    session.run("SET lock_timeout = '100ms'")?;
    session.refused(
        &fixture.move_group_with(1, DEAD_PORT, ", true, 10000"),
        "55P03",
        "lock timeout",
    )?;
    writer.run("COMMIT")
}

fn force_on_nodes(fixture: &Fixture) -> Result<()> {
    let mut open = fixture.session()?;
    open.run(&format!("BEGIN; {}", fixture.move_group(1, DEAD_PORT)))?;
    let mut session = fixture.session()?;
    session.run(&fixture.move_group_with(2, DEAD_PORT + 1, ", true, 200"))?;
    fixture.wait_gone(open.pid)?;
    let row = fixture.row(1)?;
    ensure!(
        row == format!("127.0.0.1:{}", fixture.port(1)),
        "the open move was rolled back, but {row}"
    );
    Ok(())
}

fn plain_updates(fixture: &Fixture) -> Result<()> {
    let mut open = fixture.session()?;
    let update =
        |group| format!("UPDATE pg_dist_node SET noderack = 'default' WHERE groupid = {group}");
    open.run(&format!("BEGIN; {}", update(1)))?;
    let (_, nodes) = held(&mut open)?;
    ensure!(
        nodes == ["RowExclusiveLock", "ShareRowExclusiveLock"],
        "{nodes:?}"
    );
    let other = fixture.start_and_block(&update(2))?;
    open.run("COMMIT")?;
    other.succeeds()?;
    open.run(&format!("BEGIN; {}", update(1)))?;
    let other = fixture.start_and_block(&fixture.move_group(2, DEAD_PORT))?;
    open.run("COMMIT")?;
    other.succeeds()?;
    Ok(())
}

fn group_zero(fixture: &Fixture) -> Result<()> {
    let mut session = fixture.session()?;
    session.run(&format!("BEGIN; {}", fixture.move_group(0, DEAD_PORT)))?;
    let (shards, nodes) = held(&mut session)?;
    ensure!(shards == 0, "{shards} shard locks");
    ensure!(nodes == ["ExclusiveLock", "RowExclusiveLock"], "{nodes:?}");
    session.run("COMMIT")?;
    let row = fixture.row(0)?;
    ensure!(row == format!("127.0.0.1:{DEAD_PORT}"), "{row}");
    Ok(())
}
