//! The last check of the application. In: the ledgers of its writers. Out: whether the tables
//! have every acknowledged write.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use postgres::Client;

use super::ledger::Ledger;
use super::stream::{Kind, Stream};
use crate::cluster::Lab;
use crate::wait::wait_until;

/// Citus looks once a minute for distributed transactions that were committed on some nodes only.
const RECOVERED: Duration = Duration::from_secs(100);

/// Checks all ledgers. Returns the number of writes checked.
pub(super) fn verify<'a>(
    lab: &Lab,
    ledgers: impl Iterator<Item = (&'a Stream, &'a Ledger)>,
) -> Result<usize> {
    let citus = lab.flavour().is_citus();
    let mut checked = 0;
    let mut sessions: BTreeMap<String, Client> = BTreeMap::new();
    let mut last_writes: BTreeMap<String, BTreeMap<i64, i64>> = BTreeMap::new();
    for (stream, ledger) in ledgers {
        let database = &*stream.database;
        checked += match (stream.kind, citus) {
            (_, false) => {
                if !last_writes.contains_key(database) {
                    last_writes.insert(database.into(), of_the_stand_in(lab, database)?);
                }
                ledger.check_last(&last_writes[database])
            }
            (kind, true) => {
                if !sessions.contains_key(database) {
                    let session = lab.coordinator().connect(database)?;
                    sessions.insert(database.into(), session);
                }
                let session = sessions.get_mut(database).context("a session")?;
                if kind == Kind::WriteAll {
                    marks(session, ledger)
                } else {
                    journal(session, ledger)
                }
            }
        }
        .with_context(|| stream.to_string())?;
    }
    Ok(checked)
}

fn journal(session: &mut Client, ledger: &Ledger) -> Result<usize> {
    let rows = session.query(
        "SELECT number FROM journal WHERE key = ANY ($1) AND writer = $2",
        &[&ledger.keys, &ledger.writer],
    )?;
    let found: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    ledger.check_all(&found)
}

/// Each shard has a row of this writer, and one transaction writes all of them.
fn marks(session: &mut Client, ledger: &Ledger) -> Result<usize> {
    wait_until(
        "every shard to have what was acknowledged",
        RECOVERED,
        || {
            let row = session.query_one(
                "SELECT min(number), max(number) FROM marks WHERE writer = $1",
                &[&ledger.writer],
            )?;
            let (min, max): (i64, i64) = (row.get(0), row.get(1));
            let checked = ledger.check_last(&BTreeMap::from([(0, min)]))?;
            ledger.check_last(&BTreeMap::from([(0, max)]))?;
            anyhow::ensure!(
                min == max,
                "shards disagree: some have {min}, some have {max}"
            );
            Ok(Some(checked))
        },
    )
}

/// Reads the workers: the stand-in has its tables there only.
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
