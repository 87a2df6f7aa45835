//! Has Citus tell its workers of a row that a plain UPDATE changed: what a move leaves to be done,
//! later and on its own.
//!
//! One message: marks the workers as out of sync, and commits. Citus does the rest, right after and
//! in its own time.

use std::time::Instant;

use citus_core::outcome::Phases;
use citus_core::sql::batch;

use super::conclude::conclude;
use super::error::StepError;
use super::transaction::{MOMENT, UNSYNCED, commit, ensure};
use crate::session::Database;

/// Tells Citus to sync the metadata of all workers again, in one transaction that waits for no lock
/// longer than a moment and wants none on any shard. Citus does it right after, in its own time.
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
        Phases::in_one(committed)
    })
}
