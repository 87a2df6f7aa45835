//! A move with other sessions in the way, for a role that may not change `pg_dist_node` itself:
//! Citus's own `force` terminates those that stay, other groups' holds included.
//!
//! 1. Waits for the writers of the group's own shards, and has Citus terminate those that stay.
//! 2. Moves the row by Citus's own function.
//! 3. Where `pg_dist_node` stays locked, cancels Citus's metadata sync and begins again; where that
//!    is not what has the lock, the next round terminates. After a few rounds the error names the
//!    session that has it.

use std::time::Instant;

use citus_core::outcome::Phases;
use citus_core::sql::batch;

use super::error::StepError;
use super::lock_holders::{cancel_metadata_sync, name_holders};
use super::order::Change;
use super::transaction::{LONGER, UNSYNCED, commit, ensure};
use crate::session::Connection;

/// Rounds of waiting before the error is given back, to be retried after a pause.
const ROUNDS: u32 = 4;

/// One such move.
pub(super) struct ForcedMove<'a> {
    session: &'a mut Connection,
    change: Change<'a>,
    /// Sessions in the way are terminated.
    terminating: bool,
}

impl<'a> ForcedMove<'a> {
    pub(super) fn new(session: &'a mut Connection, change: Change<'a>) -> Self {
        Self {
            session,
            change,
            terminating: false,
        }
    }

    pub(super) async fn make(
        mut self,
        started: Instant,
        still_right: impl Fn() -> bool,
    ) -> Result<Phases, StepError> {
        let mut locked = started.elapsed();
        for round in 1.. {
            self.wait_for_writers().await?;
            locked = started.elapsed();
            ensure(&still_right)?;
            match self.update().await {
                Ok(()) => break,
                Err(error) if error.is_about_locks() => {
                    self.session.run("ROLLBACK").await?;
                    let Change {
                        database, group, ..
                    } = self.change;
                    let cancelled = cancel_metadata_sync(self.session, database, group).await?;
                    if round == ROUNDS {
                        return Err(name_holders(self.session, error).await);
                    }
                    // Neither our own shards nor the sync: writers of a reference table.
                    self.terminating |= cancelled == 0 && round > 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Phases {
            locked,
            committed: started.elapsed(),
            forced: self.terminating,
        })
    }

    /// Waits for the writers of this group's own shards, and terminates those that stay.
    async fn wait_for_writers(&mut self) -> Result<(), StepError> {
        let Change {
            dialect,
            group,
            step,
            ..
        } = self.change;
        if !self.terminating {
            let lock = dialect.lock_own_shards(group);
            let texts = ["BEGIN"].into_iter().chain(lock.as_deref());
            match self.session.run(&batch(texts)).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_lock_timeout() || error.is_deadlock() => {
                    self.session.run("ROLLBACK").await?;
                    self.terminating = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // What is in the way is terminated within a moment; statement_timeout bounds the rest.
        // Without the function to pause, the update itself forces.
        let pause = dialect.pause(step.nodeid, true);
        let texts = ["BEGIN", "SET LOCAL lock_timeout = 0"]
            .into_iter()
            .chain(pause.as_deref());
        self.session.run(&batch(texts)).await?;
        Ok(())
    }

    /// What is left once the writers wait: the order, the update, the commit.
    async fn update(&mut self) -> Result<(), StepError> {
        let Change { dialect, step, .. } = self.change;
        let pause = dialect.pause(step.nodeid, false);
        let forces_itself = self.terminating && pause.is_none();
        let updates = dialect.updates(step, forces_itself);
        let mut texts = vec![UNSYNCED];
        if !forces_itself {
            texts.push(LONGER);
            texts.extend(pause.as_deref());
            // Not ahead of an update that still has to wait for writers (rule 7).
            texts.extend(dialect.order());
        }
        texts.extend(updates.iter().map(String::as_str));
        texts.push("COMMIT");
        commit(self.session, &batch(texts)).await?;
        Ok(())
    }
}
