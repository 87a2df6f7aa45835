//! Holds, read moves and resyncs: which statements they block, on the coordinator and on
//! other entry nodes, and how each of them ends.

use anyhow::{Result, ensure};

use crate::fixture::{Case, DEAD_PORT, Fixture, Pending, RESYNC, Session, sqlstate};

pub(crate) const CASES: &[Case] = &[
    (
        "holds of two groups do not wait for each other, and both block writers of a reference table",
        two_holds,
    ),
    (
        "a writer that waits in one hold blocks a later hold of the same shards",
        queued_between_holds,
    ),
    (
        "a hold on one entry node blocks only the clients of that node",
        entry_node_hold,
    ),
    (
        "during a hold a read move moves the reads at once, and the held writes afterwards",
        read_move,
    ),
    (
        "a read move on one entry node moves the next read there, and none elsewhere",
        entry_node_read_move,
    ),
    (
        "a writer of a reference table blocks ExclusiveLock on pg_dist_node, but not a read move",
        reference_writer,
    ),
    (
        "a resync through a row that no other transaction sees takes no shard lock, and fixes the workers' rows",
        light_resync,
    ),
    (
        "pg_blocking_pids names the sessions that block a hold, and they can be terminated",
        blockers,
    ),
    (
        "a hold with a lock_timeout below deadlock_timeout ends its deadlock with a writer",
        gives_way,
    ),
    (
        "the server ends a hold at its deadline, even if its client is silent",
        deadline,
    ),
    ("a hold can change its own deadline", new_deadline),
];

/// Locks the shards of a group: those of reference tables, or the others.
fn lock(mode: i32, group: usize, reference: bool) -> String {
    let is = if reference { "=" } else { "<>" };
    format!(
        "SELECT lock_shard_metadata({mode}, array_agg(p.shardid ORDER BY p.shardid))
         FROM pg_dist_placement p JOIN pg_dist_shard USING (shardid) JOIN pg_dist_partition t USING (logicalrelid)
         WHERE p.groupid = {group} AND t.repmodel {is} 't' HAVING count(*) > 0"
    )
}

/// Takes a hold. It waits for each lock for `wait_ms` at most.
fn hold(group: usize, wait_ms: u32) -> String {
    format!(
        "BEGIN; SET LOCAL lock_timeout = {wait_ms}; {}; {}",
        lock(7, group, false),
        lock(3, group, true)
    )
}

/// Makes the server end the transaction `ms` after its beginning, if no statement follows.
fn end_after(ms: u32) -> String {
    format!(
        "SELECT set_config('idle_in_transaction_session_timeout', greatest(1, {ms} - (1000 * extract(epoch FROM
         clock_timestamp() - transaction_timestamp()))::int)::text, true)"
    )
}

/// Moves the reads of a group on the node where it is executed.
fn move_reads(group: usize, port: u16) -> String {
    format!(
        "BEGIN; SET LOCAL lock_timeout = '5s'; LOCK TABLE pg_dist_node IN SHARE ROW EXCLUSIVE MODE;
         UPDATE pg_dist_node SET nodeport = {port} WHERE groupid = {group} AND noderole = 'primary'; COMMIT"
    )
}

/// A client's write to the reference table of [`with_reference_table`].
fn write_reference(fixture: &Fixture) -> &'static str {
    if fixture.flavour.is_citus() {
        "INSERT INTO countries VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    } else {
        "SELECT citus_stand_in_write('countries', 1, 'x')"
    }
}

fn with_reference_table(fixture: &Fixture, case: impl Fn() -> Result<()>) -> Result<()> {
    let mut session = fixture.session()?;
    session.run("CREATE TABLE countries (id bigint PRIMARY KEY, name text)")?;
    session.run("SELECT create_reference_table('countries')")?;
    let outcome = case();
    // A session that still uses the table is ending.
    session.run("DROP TABLE countries")?;
    outcome
}

fn fails_at_the_dead_port(pending: Pending) -> Result<()> {
    let (_, outcome) = pending.outcome()?;
    let code = outcome.as_ref().err().map(sqlstate);
    ensure!(code.as_deref() == Some("08006"), "{outcome:?}");
    Ok(())
}

fn two_holds(fixture: &Fixture) -> Result<()> {
    with_reference_table(fixture, || {
        let mut one = fixture.session()?;
        let mut two = fixture.session()?;
        one.run(&hold(1, 5000))?;
        two.run(&hold(2, 5000))?;
        let writer = fixture.start_and_block(write_reference(fixture))?;
        let read = if fixture.flavour.is_citus() {
            "SELECT name FROM countries WHERE id = 1"
        } else {
            "SELECT citus_stand_in_read('countries', 1)"
        };
        fixture
            .session()?
            .run(&format!("SET statement_timeout = '5s'; {read}"))?;
        // A pause takes locks that conflict with the hold of another group.
        fixture.session()?.refused(
            &format!(
                "BEGIN; SET LOCAL lock_timeout = '200ms'; {}",
                fixture.pause_group(0)
            ),
            "55P03",
            "lock timeout",
        )?;
        one.run("ROLLBACK")?;
        // The other hold still blocks it.
        fixture.wait_blocked(writer.pid)?;
        two.run("ROLLBACK")?;
        writer.succeeds().map(drop)
    })
}

fn queued_between_holds(fixture: &Fixture) -> Result<()> {
    with_reference_table(fixture, || {
        let mut one = fixture.session()?;
        one.run(&hold(1, 5000))?;
        let writer = fixture.start_and_block(write_reference(fixture))?;
        // The first hold does not block the second, but PostgreSQL queues it behind the writer.
        let two = fixture.session()?.start(&hold(2, 2000))?;
        fixture.wait_blocked(two.pid)?;
        let by = fixture
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

fn entry_node_hold(fixture: &Fixture) -> Result<()> {
    let mut entry_node = fixture.entry_node(2)?;
    entry_node.run(&hold(1, 5000))?;
    let writer = fixture.start_and_block_at(2, &fixture.write(1, "held at the entry node")?)?;
    for mut free in [fixture.session()?, fixture.entry_node(1)?] {
        free.run("SET lock_timeout = '5s'")?;
        free.run(&fixture.write(1, "free")?)?;
    }
    let mut other = fixture.entry_node(2)?;
    other.run("SET lock_timeout = '5s'")?;
    other.run(&fixture.write(2, "another group")?)?;
    let value = other.one(&fixture.read(1)?)?;
    ensure!(value == "free", "{value}");
    entry_node.run("ROLLBACK")?;
    writer.succeeds()?;
    let value = other.one(&fixture.read(1)?)?;
    ensure!(value == "held at the entry node", "{value}");
    Ok(())
}

fn read_move(fixture: &Fixture) -> Result<()> {
    let mut reader = fixture.session()?;
    reader.run(&fixture.write(1, "before")?)?;
    reader.run(&fixture.read(1)?)?;
    let mut holding = fixture.session()?;
    holding.run(&hold(1, 5000))?;
    let before = fixture.start_and_block(&fixture.write(1, "sent before the move")?)?;
    fixture.session()?.run(&move_reads(1, DEAD_PORT))?;
    let nowhere = format!("127.0.0.1:{DEAD_PORT} failed");
    reader.refused(&fixture.read(1)?, "08006", &nowhere)?;
    let after = fixture.start_and_block(&fixture.write(1, "sent after the move")?)?;
    holding.run("ROLLBACK")?;
    fails_at_the_dead_port(before)?;
    fails_at_the_dead_port(after)?;
    fixture.session()?.run(&move_reads(1, fixture.port(1)))?;
    let value = reader.one(&fixture.read(1)?)?;
    ensure!(value == "before", "{value}");
    Ok(())
}

fn entry_node_read_move(fixture: &Fixture) -> Result<()> {
    let mut reader = fixture.entry_node(2)?;
    reader.run(&fixture.write(1, "there")?)?;
    reader.run(&fixture.read(1)?)?;
    fixture.entry_node(2)?.run(&move_reads(1, DEAD_PORT))?;
    let nowhere = format!("127.0.0.1:{DEAD_PORT} failed");
    reader.refused(&fixture.read(1)?, "08006", &nowhere)?;
    let value = fixture.session()?.one(&fixture.read(1)?)?;
    ensure!(value == "there", "{value}");
    Ok(())
}

fn reference_writer(fixture: &Fixture) -> Result<()> {
    with_reference_table(fixture, || {
        let mut writer = fixture.session()?;
        writer.run(&format!("BEGIN; {}", write_reference(fixture)))?;
        let mut session = fixture.session()?;
        session.refused(
            "BEGIN; SET LOCAL lock_timeout = '200ms'; LOCK TABLE pg_dist_node IN EXCLUSIVE MODE",
            "55P03",
            "lock timeout",
        )?;
        session.run("ROLLBACK")?;
        session.run(&move_reads(1, DEAD_PORT))?;
        session.run(&move_reads(1, fixture.port(1)))?;
        writer.run("COMMIT")
    })
}

fn light_resync(fixture: &Fixture) -> Result<()> {
    let mut holding = fixture.session()?;
    holding.run(&hold(1, 5000))?;
    let mut writer = fixture.session()?;
    writer.run(&format!("BEGIN; {}", fixture.write(2, "open")?))?;
    let port = "SELECT nodeport FROM pg_dist_node WHERE groupid = 0";
    let mut entry_node = fixture.entry_node(2)?;
    entry_node.run(&move_reads(0, DEAD_PORT))?;
    let mut session = fixture.session()?;
    session.run(RESYNC)?;
    let shards = session.one(
        "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
    )?;
    ensure!(shards == "0", "{shards} shard locks");
    let unsynced = session
        .one("SELECT count(*) FROM pg_dist_node WHERE hasmetadata AND NOT metadatasynced")?;
    ensure!(unsynced == "2", "{unsynced} of two workers are marked");
    let rows = fixture
        .session()?
        .one("SELECT count(*) FROM pg_dist_node")?;
    ensure!(rows == "3", "other sessions see {rows} rows");
    session.run("COMMIT")?;
    fixture.sync()?;
    let found = entry_node.one(port)?;
    ensure!(found == fixture.port(0).to_string(), "{found}");
    let rows = entry_node.one("SELECT count(*) FROM pg_dist_node")?;
    ensure!(rows == "3", "{rows} rows");
    holding.run("ROLLBACK")?;
    writer.run("COMMIT")
}

fn blockers(fixture: &Fixture) -> Result<()> {
    let mut writer = fixture.session()?;
    writer.run(&format!("BEGIN; {}", fixture.write(1, "in the way")?))?;
    let holding = fixture.start_and_block(&hold(1, 30_000))?;
    let late = fixture.start_and_block(&fixture.write(1, "late")?)?;
    let mut session = fixture.session()?;
    let mut blocked_by = |pid: i32| session.one(&format!("SELECT pg_blocking_pids({pid})::text"));
    let found = blocked_by(holding.pid)?;
    ensure!(found == format!("{{{}}}", writer.pid), "{found}");
    // A later writer waits behind the waiting hold.
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
    fixture.wait_blocked(late.pid)?;
    holding.run("ROLLBACK")?;
    late.succeeds().map(drop)
}

/// Writes to the first and to the last shard of group 1.
fn early_and_late(fixture: &Fixture) -> Result<(String, String)> {
    let rows = fixture.session()?.rows(
        "SELECT get_shard_id_for_distribution_column('kv', k), min(k) FROM generate_series(1, 100) k
         JOIN pg_dist_placement ON shardid = get_shard_id_for_distribution_column('kv', k)
         WHERE groupid = 1 GROUP BY 1 ORDER BY 1",
    )?;
    ensure!(rows.len() == 4, "{} shards with keys", rows.len());
    let write = |row: &Vec<String>| fixture.write_key(&row[1], "x");
    Ok((write(&rows[0]), write(&rows[3])))
}

fn gives_way(fixture: &Fixture) -> Result<()> {
    let (early, late) = early_and_late(fixture)?;
    let mut writer = fixture.session()?;
    writer.run(&format!("BEGIN; {late}"))?;
    let holding = fixture.start_and_block(&hold(1, 300))?;
    // The hold has the first shard already, and waits for the last one.
    let writer = writer.start(&early)?;
    let (mut holding, outcome) = holding.outcome()?;
    let code = outcome.as_ref().err().map(sqlstate);
    ensure!(code.as_deref() == Some("55P03"), "{outcome:?}");
    writer.succeeds()?.run("COMMIT")?;
    holding.run("ROLLBACK")?;
    holding.run(&hold(1, 5000))
}

fn deadline(fixture: &Fixture) -> Result<()> {
    let mut holding = fixture.session()?;
    holding.run(&format!("{}; {}", hold(1, 5000), end_after(300)))?;
    // The holding session stays silent, and the writer succeeds all the same.
    fixture
        .start(&fixture.write(1, "after the deadline")?)?
        .succeeds()?;
    ended(holding)
}

fn new_deadline(fixture: &Fixture) -> Result<()> {
    let mut holding = fixture.session()?;
    holding.run(&format!("{}; {}", hold(1, 5000), end_after(60_000)))?;
    let writer = fixture.start_and_block(&fixture.write(1, "at last")?)?;
    // The idle time starts anew after each statement, with the setting of that moment.
    holding.run("SET LOCAL idle_in_transaction_session_timeout = 300")?;
    writer.succeeds()?;
    ended(holding)
}

/// Checks that the server has ended this session because it was idle in a transaction.
fn ended(mut session: Session) -> Result<()> {
    let Err(error) = session.run("SELECT 1") else {
        anyhow::bail!("the holding session is still alive");
    };
    // The SQLSTATE is lost if the connection closed before it was read.
    ensure!(
        ["25P03", ""].contains(&sqlstate(&error).as_str()),
        "{error:?}"
    );
    Ok(())
}
