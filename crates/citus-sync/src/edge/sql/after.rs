//! What a move leaves to be done, later and on its own: workers' metadata to be synced again, and
//! prepared transactions to be recovered.

use std::time::{Duration, Instant};

use super::fan_out::conclude;
use super::steps::{MOMENT, Phases, StepError, commit, ensure};
use super::update::UNSYNCED;
use super::{Database, SqlError};
use citus_core::sql::{UNCACHED, batch, set_local};

/// Tells Citus to sync the metadata of all workers again, in one transaction that waits for nobody
/// longer than a moment and wants no lock on any shard. Citus does it right after, in its own time.
/// Where no worker can have metadata there is nothing to do. `group` is any that has a row.
///
/// # Errors
///
/// [`StepError`]; then nothing is under way, and it is still owed.
pub async fn resync(
    database: &Database,
    group: i32,
    still_right: impl Fn() -> bool,
) -> Result<Phases, StepError> {
    let started = Instant::now();
    let (mut session, dialect) = database.acquire().await?;
    let Some(updates) = dialect.resync(group) else {
        database.release(session);
        return if dialect.has_metadata() {
            Err(StepError::NoRights)
        } else {
            Ok(Phases::default())
        };
    };
    let mut texts = vec!["BEGIN", MOMENT, UNSYNCED];
    texts.extend(dialect.order());
    texts.extend(updates.iter().map(String::as_str));
    texts.push("COMMIT");
    let result = match ensure(&still_right) {
        Ok(()) => commit(&mut session, &batch(texts)).await,
        Err(error) => Err(error),
    };
    conclude(database, session, &dialect, &result).await;
    result.map(|_| {
        let committed = started.elapsed();
        Phases {
            locked: committed,
            committed,
            forced: false,
        }
    })
}

/// How long Citus may look for prepared transactions: it asks every worker, and waits for those that
/// accept and never answer.
const RECOVERY: Duration = Duration::from_secs(5);

/// How long it may try to connect to each of them.
const CONNECT: Duration = Duration::from_millis(700);

/// Recovers what a dead session left prepared on the workers; how many transactions it were. One at
/// a time in each database; bounded to a few seconds.
///
/// # Errors
///
/// The coordinator cannot be asked, or some worker did not answer in time.
pub async fn recover_prepared(database: &Database) -> Result<i64, SqlError> {
    let _turn = database.recovering().await;
    let (mut session, dialect) = database.aside().await?;
    let Some(recover) = dialect.recover_prepared() else {
        database.put_back(session);
        return Ok(0);
    };
    let bound = set_local("statement_timeout", RECOVERY);
    let connect = set_local("citus.node_connection_timeout", CONNECT);
    let text = batch(["BEGIN", &bound, &connect, UNCACHED, recover, "COMMIT"]);
    let answer = session
        .rows_within(&text, RECOVERY + Duration::from_secs(1))
        .await;
    if answer.is_err() && session.is_usable() {
        session.run("ROLLBACK").await?;
    }
    database.put_back(session);
    answer?
        .last()
        .and_then(|row| row.get(0)?.parse().ok())
        .ok_or_else(|| SqlError::Answer(format!("no number to {recover}")))
}
