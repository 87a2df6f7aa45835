//! The end of the application. In: what its writers were promised. Out: whether
//! the tables keep the promise.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use postgres::Client;

use super::book::Book;
use super::stream::{Kind, Stream};
use crate::cluster::Lab;
use crate::wait::wait_until;

/// Citus recovers distributed transactions that were torn apart once a minute.
const RECOVERED: Duration = Duration::from_secs(100);

/// Checks all books; returns how many writes were checked.
pub(super) fn verify<'a>(
    lab: &Lab,
    books: impl Iterator<Item = (&'a Stream, &'a Book)>,
) -> Result<usize> {
    let citus = lab.flavour().is_citus();
    let mut checked = 0;
    let mut sessions: BTreeMap<String, Client> = BTreeMap::new();
    let mut last_writes: BTreeMap<String, BTreeMap<i64, i64>> = BTreeMap::new();
    for (stream, book) in books {
        let database = &*stream.database;
        checked += match (stream.kind, citus) {
            (_, false) => {
                if !last_writes.contains_key(database) {
                    last_writes.insert(database.into(), of_the_stand_in(lab, database)?);
                }
                book.check_last(&last_writes[database])
            }
            (kind, true) => {
                if !sessions.contains_key(database) {
                    let session = lab.coordinator().connect(database)?;
                    sessions.insert(database.into(), session);
                }
                let session = sessions.get_mut(database).context("a session")?;
                if kind == Kind::WriteAll {
                    marks(session, book)
                } else {
                    journal(session, book)
                }
            }
        }
        .with_context(|| stream.to_string())?;
    }
    Ok(checked)
}

fn journal(session: &mut Client, book: &Book) -> Result<usize> {
    let rows = session.query(
        "SELECT number FROM journal WHERE key = ANY ($1) AND writer = $2",
        &[&book.keys, &book.writer],
    )?;
    let found: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    book.check_all(&found)
}

/// A row in each shard, and all of them had to be written at once.
fn marks(session: &mut Client, book: &Book) -> Result<usize> {
    wait_until(
        "every shard to have what was acknowledged",
        RECOVERED,
        || {
            let row = session.query_one(
                "SELECT min(number), max(number) FROM marks WHERE writer = $1",
                &[&book.writer],
            )?;
            let (min, max): (i64, i64) = (row.get(0), row.get(1));
            let checked = book.check_last(&BTreeMap::from([(0, min)]))?;
            book.check_last(&BTreeMap::from([(0, max)]))?;
            anyhow::ensure!(
                min == max,
                "shards disagree: some have {min}, some have {max}"
            );
            Ok(Some(checked))
        },
    )
}

/// The stand-in's tables are on the workers only.
fn of_the_stand_in(lab: &Lab, database: &str) -> Result<BTreeMap<i64, i64>> {
    let mut found = BTreeMap::new();
    for scope in lab.workers() {
        let mut client = scope.connect(database)?;
        for row in client.query("SELECT id, note FROM ledger", &[])? {
            let note: Option<String> = row.get(1);
            if let Some(number) = note.and_then(|note| note.parse().ok()) {
                found.insert(row.get(0), number);
            }
        }
    }
    Ok(found)
}
