//! Moves a row outside of any hold, at once, where only the reads of a group are to follow.

use dcs_watch::HostPort;

use super::steps::{Finished, StepError};
use super::{Database, Doors};
use crate::plan::Move;

/// Plain updates outside of any hold, coordinator and doors (`targets`) concurrently. The
/// coordinator decides the result; doors that fail are left out. A row that is right already stays
/// untouched, and only rows of `group` are changed.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the coordinator's rows are as they were.
pub async fn move_reads(
    database: &Database,
    doors: &Doors,
    targets: &[HostPort],
    group: i32,
    step: &Move,
    still_right: impl Fn() -> bool,
) -> Result<Finished, StepError> {
    let _ = (database, doors, targets, group, step, still_right());
    Err(StepError::Unsupported("not built yet".to_owned()))
}
