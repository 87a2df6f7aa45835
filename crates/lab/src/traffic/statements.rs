//! The statements of the application, and the tables that they need. In: a kind of statement
//! and a key. Out: SQL with its parameters.
//!
//! With Citus a write appends a row to `journal`, with a number that the client uses
//! once. There is no `ON CONFLICT` and no unique index, so a statement that was executed
//! twice leaves two rows. The stand-in has no planner, but a function that writes the last
//! number to `ledger` and one that reads it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postgres::Client;

use super::stream::Kind;
use crate::citus::Flavour;
use crate::session::Request;
use crate::wait::wait_until;

/// While Citus copies a moved row to its workers, no table can be distributed.
const SYNCED: Duration = Duration::from_secs(60);
/// The advisory lock that `create_tables` takes. Any number will do that nothing else locks.
const TABLES_LOCK: i64 = 0x7472_6166_6669_6300;
/// The keys to choose from, enough for every shard.
const KEYS: &str = "generate_series(1::bigint, 2000) key";

/// The statement of `kind` for one key of one writer.
pub(crate) fn request(kind: Kind, citus: bool, key: i64, writer: i64, number: i64) -> Request {
    let (sql, parameters) = match (kind, citus) {
        (Kind::Write, true) => (
            "INSERT INTO journal (key, writer, number) VALUES ($1, $2, $3)",
            vec![key, writer, number],
        ),
        (Kind::Read, true) => (
            "SELECT max(number)::text FROM journal WHERE key = $1 AND writer = $2",
            vec![key, writer],
        ),
        (Kind::WriteAll, _) => (
            "UPDATE marks SET number = $2 WHERE writer = $1",
            vec![writer, number],
        ),
        (Kind::ReadAll, _) => ("SELECT count(*)::text FROM customers", Vec::new()),
        (Kind::Write, false) => (
            "SELECT citus_stand_in_write('ledger', $1, ($2::bigint)::text)::text",
            vec![key, number],
        ),
        (Kind::Read, false) => ("SELECT citus_stand_in_read('ledger', $1)", vec![key]),
    };
    Request { sql, parameters }
}

/// Creates the application's own tables where they are not there yet.
pub(crate) fn create_tables(client: &mut Client, flavour: &Flavour) -> Result<()> {
    if !flavour.is_citus() {
        return Ok(());
    }
    // Another application may start at the same time.
    client.execute("SELECT pg_advisory_lock($1)", &[&TABLES_LOCK])?;
    let created = wait_until("the application's tables", SYNCED, || {
        let row = client.query_one("SELECT to_regclass('marks') IS NOT NULL", &[])?;
        if !row.get::<_, bool>(0) {
            client.batch_execute(
                "BEGIN;
                 CREATE TABLE journal (key bigint, writer bigint, number bigint);
                 CREATE INDEX ON journal (key, writer, number);
                 CREATE TABLE marks (key bigint, writer bigint, number bigint, PRIMARY KEY (key, writer));
                 SELECT create_distributed_table('journal', 'key', colocate_with => 'ledger');
                 SELECT create_distributed_table('marks', 'key', colocate_with => 'ledger');
                 COMMIT",
            )
            .or_else(|error| client.batch_execute("ROLLBACK").and(Err(error)))?;
        }
        Ok(Some(()))
    });
    client.execute("SELECT pg_advisory_unlock($1)", &[&TABLES_LOCK])?;
    created
}

/// Keys whose shard lies on `group`.
pub(crate) fn keys_of(client: &mut Client, group: u32, count: usize) -> Result<Vec<i64>> {
    let rows = client.query(
        &format!(
            "SELECT key FROM {KEYS} \
             JOIN pg_dist_placement ON shardid = get_shard_id_for_distribution_column('ledger', key) \
             WHERE groupid = $1 LIMIT $2"
        ),
        &[&i32::try_from(group)?, &i64::try_from(count)?],
    )?;
    ensure!(
        rows.len() == count,
        "group {group} has no {count} keys of 2000"
    );
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A row for this writer in every shard of `marks`.
pub(crate) fn create_marks(client: &mut Client, writer: i64) -> Result<()> {
    let keys: Vec<i64> = client
        .query(
            &format!(
                "SELECT min(key) FROM {KEYS} GROUP BY get_shard_id_for_distribution_column('marks', key)"
            ),
            &[],
        )?
        .iter()
        .map(|row| row.get(0))
        .collect();
    for key in keys {
        client
            .execute("INSERT INTO marks VALUES ($1, $2, 0)", &[&key, &writer])
            .context("a row to be written in every shard")?;
    }
    Ok(())
}

/// The answer to [`Kind::ReadAll`]: no client writes to that table.
pub(crate) fn count(client: &mut Client) -> Result<i64> {
    Ok(client
        .query_one("SELECT count(*) FROM customers", &[])?
        .get(0))
}
