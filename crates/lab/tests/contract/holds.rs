//! Holds, read moves and resyncs: what stops whom, on the coordinator and on
//! the workers that clients enter through, and how each of them ends.

use anyhow::{Result, ensure};

use crate::Case;
use crate::ground::{DEAD_PORT, Ground, Pending, RESYNC, Session, sqlstate};

pub(crate) const CASES: &[Case] = &[
    (
        "holds of two groups stand side by side, and keep writers of a reference table waiting",
        two_holds,
    ),
    (
        "a writer that waits in one hold is in the way of whoever asks for the same shards after it",
        queued_between_holds,
    ),
    (
        "a hold on a worker keeps that worker's clients waiting and nobody else's",
        door_hold,
    ),
    (
        "under a hold a read move takes the reads at once, and the held writes follow it",
        read_move,
    ),
    (
        "a read move on a worker is seen by the next read there, and nowhere else",
        door_read_move,
    ),
    (
        "a writer of a reference table is in the way of ExclusiveLock on pg_dist_node, not of a read move",
        reference_writer,
    ),
    (
        "a resync by way of a row that nobody sees takes no shard lock, and mends the workers",
        light_resync,
    ),
    (
        "who is in the way of a hold is named by pg_blocking_pids, and can be terminated",
        blockers,
    ),
    (
        "a hold that waits less than deadlock_timeout gives way to a writer that it blocks",
        gives_way,
    ),
    (
        "the server ends a hold at its deadline, whatever became of its client",
        deadline,
    ),
    (
        "a hold's deadline can be set anew from inside it",
        new_deadline,
    ),
];

/// Locks a group's shards of one kind: those of reference tables or the rest.
fn lock(mode: i32, group: usize, reference: bool) -> String {
    let is = if reference { "=" } else { "<>" };
    format!(
        "SELECT lock_shard_metadata({mode}, array_agg(p.shardid ORDER BY p.shardid))
         FROM pg_dist_placement p JOIN pg_dist_shard USING (shardid) JOIN pg_dist_partition t USING (logicalrelid)
         WHERE p.groupid = {group} AND t.repmodel {is} 't' HAVING count(*) > 0"
    )
}

/// A hold: nothing of it waits longer than `wait_ms` for one lock.
fn hold(group: usize, wait_ms: u32) -> String {
    format!(
        "BEGIN; SET LOCAL lock_timeout = {wait_ms}; {}; {}",
        lock(7, group, false),
        lock(3, group, true)
    )
}

/// Ends the transaction `ms` after its beginning, if nothing more is said in it.
fn end_after(ms: u32) -> String {
    format!(
        "SELECT set_config('idle_in_transaction_session_timeout', greatest(1, {ms} - (1000 * extract(epoch FROM
         clock_timestamp() - transaction_timestamp()))::int)::text, true)"
    )
}

/// Moves the reads of a group, on the node that it is sent to.
fn move_reads(group: usize, port: u16) -> String {
    format!(
        "BEGIN; SET LOCAL lock_timeout = '5s'; LOCK TABLE pg_dist_node IN SHARE ROW EXCLUSIVE MODE;
         UPDATE pg_dist_node SET nodeport = {port} WHERE groupid = {group} AND noderole = 'primary'; COMMIT"
    )
}

/// A client's write to the reference table of [`with_reference_table`].
fn write_reference(ground: &Ground) -> &'static str {
    if ground.flavour.is_citus() {
        "INSERT INTO countries VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    } else {
        "SELECT citus_stand_in_write('countries', 1, 'x')"
    }
}

fn with_reference_table(ground: &Ground, case: impl Fn() -> Result<()>) -> Result<()> {
    let mut session = ground.session()?;
    session.run("CREATE TABLE countries (id bigint PRIMARY KEY, name text)")?;
    session.run("SELECT create_reference_table('countries')")?;
    let outcome = case();
    // Whoever still has it is on his way out.
    session.run("DROP TABLE countries")?;
    outcome
}

fn goes_nowhere(pending: Pending) -> Result<()> {
    let (_, outcome) = pending.outcome()?;
    let code = outcome.as_ref().err().map(sqlstate);
    ensure!(code.as_deref() == Some("08006"), "{outcome:?}");
    Ok(())
}

fn two_holds(ground: &Ground) -> Result<()> {
    with_reference_table(ground, || {
        let mut one = ground.session()?;
        let mut two = ground.session()?;
        one.run(&hold(1, 5000))?;
        two.run(&hold(2, 5000))?;
        let writer = ground.start_and_block(write_reference(ground))?;
        let read = if ground.flavour.is_citus() {
            "SELECT name FROM countries WHERE id = 1"
        } else {
            "SELECT citus_stand_in_read('countries', 1)"
        };
        ground
            .session()?
            .run(&format!("SET statement_timeout = '5s'; {read}"))?;
        // A pause asks for more than another group's hold leaves.
        ground.session()?.refused(
            &format!(
                "BEGIN; SET LOCAL lock_timeout = '200ms'; {}",
                ground.pause_group(0)
            ),
            "55P03",
            "lock timeout",
        )?;
        one.run("ROLLBACK")?;
        // The other one's hold is enough.
        ground.wait_blocked(writer.pid)?;
        two.run("ROLLBACK")?;
        writer.succeeds().map(drop)
    })
}

fn queued_between_holds(ground: &Ground) -> Result<()> {
    with_reference_table(ground, || {
        let mut one = ground.session()?;
        one.run(&hold(1, 5000))?;
        let writer = ground.start_and_block(write_reference(ground))?;
        // The first hold leaves it room, PostgreSQL's queue does not.
        let two = ground.session()?.start(&hold(2, 2000))?;
        ground.wait_blocked(two.pid)?;
        let by = ground
            .session()?
            .one(&format!("SELECT pg_blocking_pids({})::text", two.pid))?;
        ensure!(by == format!("{{{}}}", writer.pid), "{by}");
        let (_, outcome) = two.outcome()?;
        let code = outcome.as_ref().err().map(sqlstate);
        ensure!(code.as_deref() == Some("55P03"), "{outcome:?}");
        one.run("ROLLBACK")?;
        writer.succeeds().map(drop)
    })
}

fn door_hold(ground: &Ground) -> Result<()> {
    let mut door = ground.door(2)?;
    door.run(&hold(1, 5000))?;
    let writer = ground.start_and_block_at(2, &ground.write(1, "held at the door")?)?;
    for mut free in [ground.session()?, ground.door(1)?] {
        free.run("SET lock_timeout = '5s'")?;
        free.run(&ground.write(1, "free")?)?;
    }
    let mut other = ground.door(2)?;
    other.run("SET lock_timeout = '5s'")?;
    other.run(&ground.write(2, "another group")?)?;
    let value = other.one(&ground.read(1)?)?;
    ensure!(value == "free", "{value}");
    door.run("ROLLBACK")?;
    writer.succeeds()?;
    let value = other.one(&ground.read(1)?)?;
    ensure!(value == "held at the door", "{value}");
    Ok(())
}

fn read_move(ground: &Ground) -> Result<()> {
    let mut reader = ground.session()?;
    reader.run(&ground.write(1, "before")?)?;
    reader.run(&ground.read(1)?)?;
    let mut holding = ground.session()?;
    holding.run(&hold(1, 5000))?;
    let before = ground.start_and_block(&ground.write(1, "waits since before")?)?;
    ground.session()?.run(&move_reads(1, DEAD_PORT))?;
    let nowhere = format!("127.0.0.1:{DEAD_PORT} failed");
    reader.refused(&ground.read(1)?, "08006", &nowhere)?;
    let after = ground.start_and_block(&ground.write(1, "waits since after")?)?;
    holding.run("ROLLBACK")?;
    goes_nowhere(before)?;
    goes_nowhere(after)?;
    ground.session()?.run(&move_reads(1, ground.port(1)))?;
    let value = reader.one(&ground.read(1)?)?;
    ensure!(value == "before", "{value}");
    Ok(())
}

fn door_read_move(ground: &Ground) -> Result<()> {
    let mut reader = ground.door(2)?;
    reader.run(&ground.write(1, "there")?)?;
    reader.run(&ground.read(1)?)?;
    ground.door(2)?.run(&move_reads(1, DEAD_PORT))?;
    let nowhere = format!("127.0.0.1:{DEAD_PORT} failed");
    reader.refused(&ground.read(1)?, "08006", &nowhere)?;
    let value = ground.session()?.one(&ground.read(1)?)?;
    ensure!(value == "there", "{value}");
    Ok(())
}

fn reference_writer(ground: &Ground) -> Result<()> {
    with_reference_table(ground, || {
        let mut writer = ground.session()?;
        writer.run(&format!("BEGIN; {}", write_reference(ground)))?;
        let mut session = ground.session()?;
        session.refused(
            "BEGIN; SET LOCAL lock_timeout = '200ms'; LOCK TABLE pg_dist_node IN EXCLUSIVE MODE",
            "55P03",
            "lock timeout",
        )?;
        session.run("ROLLBACK")?;
        session.run(&move_reads(1, DEAD_PORT))?;
        session.run(&move_reads(1, ground.port(1)))?;
        writer.run("COMMIT")
    })
}

fn light_resync(ground: &Ground) -> Result<()> {
    let mut holding = ground.session()?;
    holding.run(&hold(1, 5000))?;
    let mut writer = ground.session()?;
    writer.run(&format!("BEGIN; {}", ground.write(2, "open")?))?;
    let port = "SELECT nodeport FROM pg_dist_node WHERE groupid = 0";
    let mut door = ground.door(2)?;
    door.run(&move_reads(0, DEAD_PORT))?;
    let mut session = ground.session()?;
    session.run(RESYNC)?;
    let shards = session.one(
        "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
    )?;
    ensure!(shards == "0", "{shards} shard locks");
    let unsynced = session
        .one("SELECT count(*) FROM pg_dist_node WHERE hasmetadata AND NOT metadatasynced")?;
    ensure!(unsynced == "2", "{unsynced} of two workers are marked");
    let rows = ground.session()?.one("SELECT count(*) FROM pg_dist_node")?;
    ensure!(rows == "3", "others see {rows} rows");
    session.run("COMMIT")?;
    ground.sync()?;
    let found = door.one(port)?;
    ensure!(found == ground.port(0).to_string(), "{found}");
    let rows = door.one("SELECT count(*) FROM pg_dist_node")?;
    ensure!(rows == "3", "{rows} rows");
    holding.run("ROLLBACK")?;
    writer.run("COMMIT")
}

fn blockers(ground: &Ground) -> Result<()> {
    let mut writer = ground.session()?;
    writer.run(&format!("BEGIN; {}", ground.write(1, "in the way")?))?;
    let holding = ground.start_and_block(&hold(1, 30_000))?;
    let late = ground.start_and_block(&ground.write(1, "late")?)?;
    let mut session = ground.session()?;
    let mut blocked_by = |pid: i32| session.one(&format!("SELECT pg_blocking_pids({pid})::text"));
    let found = blocked_by(holding.pid)?;
    ensure!(found == format!("{{{}}}", writer.pid), "{found}");
    // Newcomers wait behind the hold that waits.
    let found = blocked_by(late.pid)?;
    ensure!(found == format!("{{{}}}", holding.pid), "{found}");
    session.run(&format!(
        "SELECT pg_terminate_backend(pid) FROM unnest(pg_blocking_pids({})) AS pid",
        holding.pid
    ))?;
    let mut holding = holding.succeeds()?;
    let Err(error) = writer.run("COMMIT") else {
        anyhow::bail!("the writer's session is still alive");
    };
    ensure!(
        ["57P01", ""].contains(&sqlstate(&error).as_str()),
        "{error:?}"
    );
    ground.wait_blocked(late.pid)?;
    holding.run("ROLLBACK")?;
    late.succeeds().map(drop)
}

/// Two keys of group 1 on different shards: writes of the earlier and of the
/// later one.
fn early_and_late(ground: &Ground) -> Result<(String, String)> {
    let rows = ground.session()?.rows(
        "SELECT get_shard_id_for_distribution_column('kv', k), min(k) FROM generate_series(1, 100) k
         JOIN pg_dist_placement ON shardid = get_shard_id_for_distribution_column('kv', k)
         WHERE groupid = 1 GROUP BY 1 ORDER BY 1",
    )?;
    ensure!(rows.len() == 4, "{} shards with keys", rows.len());
    let write = |row: &Vec<String>| ground.write_key(&row[1], "x");
    Ok((write(&rows[0]), write(&rows[3])))
}

fn gives_way(ground: &Ground) -> Result<()> {
    let (early, late) = early_and_late(ground)?;
    let mut writer = ground.session()?;
    writer.run(&format!("BEGIN; {late}"))?;
    let holding = ground.start_and_block(&hold(1, 300))?;
    // The hold has the earlier shard already and waits for the later one.
    let writer = writer.start(&early)?;
    let (mut holding, outcome) = holding.outcome()?;
    let code = outcome.as_ref().err().map(sqlstate);
    ensure!(code.as_deref() == Some("55P03"), "{outcome:?}");
    writer.succeeds()?.run("COMMIT")?;
    holding.run("ROLLBACK")?;
    holding.run(&hold(1, 5000))
}

fn deadline(ground: &Ground) -> Result<()> {
    let mut holding = ground.session()?;
    holding.run(&format!("{}; {}", hold(1, 5000), end_after(300)))?;
    // Nobody says anything more; the writer gets through all the same.
    ground
        .start(&ground.write(1, "after the deadline")?)?
        .succeeds()?;
    ended(holding)
}

fn new_deadline(ground: &Ground) -> Result<()> {
    let mut holding = ground.session()?;
    holding.run(&format!("{}; {}", hold(1, 5000), end_after(60_000)))?;
    let writer = ground.start_and_block(&ground.write(1, "at last")?)?;
    // Every statement starts the idle time anew, with what is set then.
    holding.run("SET LOCAL idle_in_transaction_session_timeout = 300")?;
    writer.succeeds()?;
    ended(holding)
}

/// The server has ended this session for being idle in a transaction.
fn ended(mut session: Session) -> Result<()> {
    let Err(error) = session.run("SELECT 1") else {
        anyhow::bail!("the holding session is still alive");
    };
    // The words are lost when the connection was gone before they were read.
    ensure!(
        ["25P03", ""].contains(&sqlstate(&error).as_str()),
        "{error:?}"
    );
    Ok(())
}
