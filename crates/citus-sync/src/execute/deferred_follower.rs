//! An entry node that is held too late for a read move, or not at all, and so follows later.
//!
//! In: what is known of the hold's entry nodes. Out: that it has followed, or failed to.
//!
//! 1. Waits until the entry node is held, or the leader is gone.
//! 2. Waits until the standby has whatever was written through the entry node before it was held,
//!    or the leader is gone.
//! 3. Moves the entry node's row, on a session beside the one that may hold it. One that fails is
//!    tried again at the end of the hold.

use std::sync::Arc;
use std::time::Duration;

use citus_core::plan::Move;
use citus_core::sql::{Dialect, FLUSHED, has_replayed};
use dcs_watch::HostPort;
use tokio::time::sleep;

use super::error::StepError;
use super::known_entry_nodes::Known;
use super::order::{Change, Inside};
use crate::session::{Database, EntryNodeSessions, SqlError};

/// Pause between questions how far a standby is.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// An entry node that may be held too late for a read move, and follows then.
pub(super) struct DeferredFollower {
    pub(super) database: Database,
    pub(super) sessions: EntryNodeSessions,
    pub(super) dialect: Arc<Dialect>,
    pub(super) group: i32,
    pub(super) entry_node: HostPort,
    pub(super) known: Known,
}

impl DeferredFollower {
    /// For as long as the hold is open.
    pub(super) async fn follow(self) {
        loop {
            self.known
                .wait_for(|state| state.is_due(&self.entry_node))
                .await;
            let mut step = None;
            self.known.tell(|state| {
                if let Some(behind) = state.behind.get_mut(&self.entry_node) {
                    behind.tried = true;
                    step = Some(behind.step.clone());
                }
            });
            let Some(step) = step else {
                return;
            };
            tokio::select! {
                () = self.caught_up(&step) => {}
                () = self.known.wait_for(|state| state.leader_is_gone) => {}
            }
            if self.known.look().over {
                return;
            }
            let moved = self.move_row(&step).await.is_ok();
            self.known.tell(|state| {
                // Unless reads were moved once more meanwhile.
                let behind = state.behind.get_mut(&self.entry_node);
                let Some(behind) = behind.filter(|behind| behind.step == step) else {
                    return;
                };
                if moved {
                    state.behind.remove(&self.entry_node);
                    state.in_time.push(self.entry_node.clone());
                } else {
                    behind.failed = true;
                }
            });
        }
    }

    /// Completes when the standby shows whatever was written through this entry node before it was
    /// held; not at all if that cannot be known.
    async fn caught_up(&self, step: &Move) {
        let known = async {
            let mut leader = self.sessions.open(&step.from, &self.database.name).await?;
            let mut standby = self.sessions.open(&step.to, &self.database.name).await?;
            let rows = leader.rows(FLUSHED).await?;
            let flushed = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
            let question = has_replayed(flushed);
            while !standby.boolean(&question).await? {
                sleep(ASK_AGAIN).await;
            }
            Ok::<(), SqlError>(())
        };
        if known.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// On a session beside the one that may hold the entry node.
    async fn move_row(&self, step: &Move) -> Result<(), StepError> {
        let change = Change {
            database: &self.database.name,
            dialect: &self.dialect,
            group: self.group,
            step,
        };
        let mut session = self
            .sessions
            .session(&self.entry_node, &self.database.name)
            .await?;
        change.make(&mut session, Inside::Own, || true).await?;
        self.sessions.put_back(&self.database.name, session);
        Ok(())
    }
}
