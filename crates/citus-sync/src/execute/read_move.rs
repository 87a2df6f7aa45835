//! Sends the reads of a group to another member, outside of the transactions that may hold its
//! writes.
//!
//! 1. Stops where our role may not change the rows itself: Citus's own function would wait for
//!    writers.
//! 2. Opens the entry nodes' sessions, and moves the coordinator's row by a plain UPDATE.
//! 3. As soon as that is committed, moves the rows of the entry nodes, side by side.
//! 4. Marks the entry nodes that did not follow.

use std::time::Instant;

use citus_core::outcome::{Finished, Phases};
use citus_core::plan::Move;
use dcs_watch::HostPort;

use super::entry_nodes::EntryNodes;
use super::error::StepError;
use super::fan_out::{Signal, decide, followers, side_by_side};
use super::order::{Change, Inside};
use super::skipped_mark::mark_skipped;
use crate::session::Database;

/// Plain updates outside of any hold: the coordinator's row, and as soon as that is moved those of
/// the entry nodes (`targets`), concurrently. The coordinator decides the result; entry nodes that
/// fail or do not follow within 300 ms are skipped. A row that is right already stays untouched,
/// and only rows of `group` are changed. `still_right` is asked right before.
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
    let followers = followers(entry_nodes.sessions(), database, targets, change, &signal);
    let inside = Inside::Own;
    let coordinator = decide(database, session, change, inside, signaller, still_right);
    let (committed, skipped) = side_by_side(coordinator, followers).await?;
    mark_skipped(database, &dialect, &skipped).await;
    let committed = committed.duration_since(started);
    Ok(Finished {
        phases: Phases::in_one(committed),
        skipped,
        terminated: Vec::new(),
        plain: dialect.has_metadata(),
    })
}
