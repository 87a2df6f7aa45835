//! Moves a row where only the reads of a group are to follow, outside of the transactions that may
//! hold its writes.

use std::time::Instant;

use dcs_watch::HostPort;

use super::entry_nodes::side_by_side;
use super::fan_out::{Signal, decide, followers, mark_skipped};
use super::known_entry_nodes::Known;
use super::steps::{Finished, Phases, StepError};
use super::update::{Change, Inside};
use super::{Database, EntryNodes};
use citus_core::plan::Move;

/// Plain updates outside of any hold: the coordinator's row, and as soon as that is moved those of
/// the entry nodes (`targets`), concurrently. The coordinator decides the result; entry nodes that fail or do not
/// follow within 300 ms are skipped. A row that is right already stays untouched, and only rows of
/// `group` are changed. `still_right` is asked right before.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the coordinator's rows are as they were.
pub async fn move_reads(
    database: &Database,
    entry_nodes: &EntryNodes,
    targets: &[HostPort],
    group: i32,
    step: &Move,
    still_right: impl Fn() -> bool,
) -> Result<Finished, StepError> {
    let started = Instant::now();
    let (session, dialect) = database.acquire().await?;
    if !dialect.moves_plainly() {
        database.release(session);
        return Err(StepError::NoRights);
    }
    let change = Change {
        database: &database.name,
        dialect: &dialect,
        group,
        step,
    };
    let (signaller, signal) = Signal::new();
    let followers = followers(entry_nodes, database, targets, change, &signal);
    let coordinator = async {
        let inside = Inside::Own;
        decide(database, session, change, inside, signaller, still_right).await
    };
    let (committed, _, skipped) = side_by_side(coordinator, followers).await?;
    mark_skipped(database, &dialect, &skipped).await;
    let committed = committed.duration_since(started);
    Ok(Finished {
        phases: Phases {
            locked: committed,
            committed,
            forced: false,
        },
        skipped,
        terminated: Vec::new(),
        plain: dialect.has_metadata(),
    })
}

/// Moves reads while a hold is open; see [`Hold::reads`](super::Hold::reads).
#[derive(Clone, Debug)]
pub struct ReadsUnderHold {
    pub(super) database: Database,
    pub(super) entry_nodes: EntryNodes,
    pub(super) group: i32,
    pub(super) known: Known,
}

impl ReadsUnderHold {
    /// As [`move_reads`], but entry nodes that were not held in time follow when they are and the standby
    /// has what was written through them, when the leader is gone, or at the end of the hold. Nobody
    /// waits for them, and they do not count as skipped.
    ///
    /// # Errors
    ///
    /// Those of [`move_reads`].
    pub async fn move_to(
        &self,
        targets: &[HostPort],
        step: &Move,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, StepError> {
        let (database, entry_nodes) = (&self.database, &self.entry_nodes);
        let at_once = self.known.at_once(targets);
        let finished = move_reads(
            database,
            entry_nodes,
            &at_once,
            self.group,
            step,
            still_right,
        )
        .await?;
        let later = targets
            .iter()
            .filter(|entry_node| !at_once.contains(entry_node));
        self.known.follow_later(later.cloned(), step);
        Ok(finished)
    }
}
