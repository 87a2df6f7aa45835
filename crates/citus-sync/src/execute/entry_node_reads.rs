//! The reads of an entry node that follow a read move later than the coordinator's: whether the
//! standby has what was written through the entry node, and the move of its row.

use std::time::Duration;

use citus_core::plan::Move;
use citus_core::sql::{FLUSH, FLUSHED, has_replayed};
use dcs_watch::HostPort;
use tokio::time::sleep;

use super::error::StepError;
use super::order::{Change, Inside};
use crate::session::{Database, EntryNodeSessions, SqlError};

/// Pause between questions how far a standby is.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Completes when the standby shows whatever was written at the leader up to now.
///
/// # Errors
///
/// That cannot be known.
pub(super) async fn catch_up(
    sessions: &EntryNodeSessions,
    database: &Database,
    step: &Move,
) -> Result<(), SqlError> {
    let mut leader = sessions.open(&step.from, &database.name).await?;
    let mut standby = sessions.open(&step.to, &database.name).await?;
    // What is on its disk may end before what was acknowledged last.
    leader.rows(FLUSH).await?;
    let rows = leader.rows(FLUSHED).await?;
    let flushed = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
    let question = has_replayed(flushed);
    while !standby.boolean(&question).await? {
        sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// Moves the row at an entry node, on a session beside the one that may hold it.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the row is as it was.
pub(super) async fn follow_read_move(
    sessions: &EntryNodeSessions,
    database: &Database,
    group: i32,
    entry_node: &HostPort,
    step: &Move,
) -> Result<(), StepError> {
    let dialect = database.dialect()?;
    let change = Change {
        database: &database.name,
        dialect: &dialect,
        group,
        step,
    };
    let mut session = sessions.session(entry_node, &database.name).await?;
    change.make(&mut session, Inside::Own, || true).await?;
    sessions.put_back(&database.name, session);
    Ok(())
}
