//! A read move while a hold is open: entry nodes that were not held in time follow later
//! (`deferred_follower.rs`).

use citus_core::outcome::Finished;
use citus_core::plan::Move;
use dcs_watch::HostPort;

use super::entry_nodes::EntryNodes;
use super::error::StepError;
use super::known_entry_nodes::Known;
use super::read_move::move_reads;
use crate::session::Database;

/// Moves reads while a hold is open; `Hold::reads` gives one.
#[derive(Clone, Debug)]
pub struct ReadsUnderHold {
    pub(super) database: Database,
    pub(super) entry_nodes: EntryNodes,
    pub(super) group: i32,
    pub(super) known: Known,
}

impl ReadsUnderHold {
    /// As [`move_reads`], but entry nodes that were not held in time follow when they are held and
    /// the standby has what was written through them, when the leader is gone, or at the end of the
    /// hold. Nothing waits for them, and they do not count as skipped.
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
