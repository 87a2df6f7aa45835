//! The transactions that change `pg_dist_node`: what each begins with, and how it ends.

use std::time::Duration;

use super::error::StepError;
use crate::session::{AnswerRow, Connection, SqlError};

/// A move does not wait for the disk, nor for the coordinator's synchronous standby, which may be
/// the very thing that is gone. Lost with a crash, it is as if it had never been made: we connect
/// anew to the coordinator's next leader, read its rows, and make the move again.
pub(super) const UNSYNCED: &str = "SET LOCAL synchronous_commit = off";

/// How long a step may wait for locks that met no other session yet: for so long it may hold up
/// other groups, too.
pub(super) const MOMENT: &str = "SET LOCAL lock_timeout = '50ms'";

/// How long `pg_dist_node` is waited for, with this group's writers held. A resync of metadata on
/// a healthy cluster takes 16 ms (p95) to 61 ms (`docs/citus.md`).
pub(super) const LONGER: &str = "SET LOCAL lock_timeout = '250ms'";
pub(super) const LONGER_WAIT: Duration = Duration::from_millis(250);

/// The last question before rows change: whether the step is still right.
pub(super) fn ensure(still_right: &impl Fn() -> bool) -> Result<(), StepError> {
    if still_right() {
        Ok(())
    } else {
        Err(StepError::Superseded)
    }
}

/// Runs a batch that ends in `COMMIT`, and gives the rows of all its queries. The server stops at
/// the first error, so an error that it reports means that nothing was committed. Only when no
/// answer comes at all do we not know.
pub(super) async fn commit(
    session: &mut Connection,
    text: &str,
) -> Result<Vec<AnswerRow>, StepError> {
    match session.rows(text).await {
        Ok(rows) => Ok(rows),
        Err(error @ SqlError::Server { .. }) if !error.breaks_the_connection() => Err(error.into()),
        Err(error) => Err(StepError::Ambiguous(error)),
    }
}

/// How long a session may take to give its locks back before it is dropped, which gives them back
/// as well as soon as the server hears of it.
const RELEASE: Duration = Duration::from_secs(1);

/// Gives the locks of an open transaction back.
pub(super) async fn roll_back(session: &mut Connection) -> Result<(), SqlError> {
    session.run_within("ROLLBACK", RELEASE).await
}
