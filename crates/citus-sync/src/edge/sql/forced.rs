//! A move with somebody in the way, for a role that may not change `pg_dist_node` itself: Citus's own
//! `force` terminates who stays, other groups' holds included.

use std::time::Instant;

use super::Connection;
use super::steps::{Phases, StepError, commit, ensure, in_the_way};
use super::update::{Change, LONGER, UNSYNCED, cancel_metadata_sync, name_holders};
use citus_core::sql::batch;

/// Rounds of waiting before the error is given back, to be retried after a pause.
const ROUNDS: u32 = 4;

/// One such move.
pub(super) struct Forced<'a> {
    session: &'a mut Connection,
    change: Change<'a>,
    /// Sessions in the way are terminated.
    terminating: bool,
}

impl<'a> Forced<'a> {
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
                Err(error) if in_the_way(&error) => {
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
        // Whoever is in the way is terminated within a moment; statement_timeout bounds the rest.
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
