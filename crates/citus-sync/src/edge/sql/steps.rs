//! Carries out one step of a decision in one database. It makes no choices: what to do was
//! decided; whether it is still right is asked once more right before the rows change.
//!
//! A move is one message on a warm session when nobody is in the way: the group's shard locks,
//! the lock that orders updates of `pg_dist_node`, the update, `COMMIT`. When somebody is:
//!
//! 1. Writers of this group's own shards are waited for up to the policy's cooldown, then
//!    terminated by Citus. Other groups wait for nothing meanwhile: neither `pg_dist_node` nor
//!    reference tables are locked yet (rule 7).
//! 2. Whoever sits on `pg_dist_node` for longer than a moment is Citus's own metadata sync at a
//!    silent worker: it is cancelled. Anybody else is named in the error.

use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use thiserror::Error;
use tracing::info;

use super::{Connection, Database, Doors, SqlError};
use crate::plan::{Move, Step};
use crate::statements::{BLOCKERS, CANCEL_METADATA_SYNC, Dialect, batch};

/// How long each phase of a step took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Until the group's locks were ours.
    pub locked: Duration,
    /// Until the commit was acknowledged.
    pub committed: Duration,
    /// Whether sessions in the way were terminated.
    pub forced: bool,
}

/// A step that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// How long it took.
    pub phases: Phases,
    /// The doors that did not follow, and why.
    pub left_out: Vec<LeftOut>,
    /// Who was in the way and had to be ended, in words.
    pub terminated: Vec<String>,
    /// The row was changed by a plain UPDATE, which Citus tells no worker of: a resync is owed.
    pub plain: bool,
}

/// A door that a hold or a move did without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub door: HostPort,
    /// Why.
    pub error: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.door, self.error)
    }
}

/// Why a step was not carried out.
#[derive(Debug, Error)]
pub enum StepError {
    /// News came while we waited; the next decision knows them.
    #[error("the situation changed before the rows did")]
    Superseded,
    /// Nothing was changed.
    #[error("{0}")]
    Sql(#[from] SqlError),
    /// The answer to the commit did not arrive: the rows must be read again.
    #[error("the answer to COMMIT did not arrive, the rows are read again: {0}")]
    Ambiguous(SqlError),
    /// This Citus has no function for the step.
    #[error("this Citus ({0}) has no function for it: do it by hand")]
    Unsupported(String),
}

/// Carries out a step that writes. `still_right` is asked when all waiting is over. A move that had
/// to be made by a plain UPDATE is made on `targets` as well: Citus tells the doors of any other.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the rows are as they were.
pub async fn carry_out(
    database: &Database,
    doors: &Doors,
    targets: &[HostPort],
    group: i32,
    step: &Step,
    still_right: impl Fn() -> bool,
) -> Result<Finished, StepError> {
    let _ = (doors, targets);
    let (mut session, dialect) = database.acquire().await?;
    let result = with_session(database, &mut session, &dialect, group, step, still_right).await;
    if result.is_err() && session.is_usable() {
        // Give the locks back at once. If this fails the session is broken and dropped, which
        // gives them back as well.
        let _ = session.run("ROLLBACK").await;
    }
    match &result {
        // Known after: whoever decides next sees what this step did.
        Ok(_) => {
            if let Err(error) = database.refresh(&mut session, &dialect).await {
                database.doubt(&format!("read again after a move: {error}"));
            }
        }
        Err(StepError::Ambiguous(error)) => {
            database.doubt(&format!("read again after an unanswered COMMIT: {error}"));
        }
        // Citus refused: the rows may not be what the decision took them for (a name that somebody
        // else has given away meanwhile). If this fails as well, the retry meets the same error.
        Err(StepError::Sql(_)) if session.is_usable() => {
            let _ = database.refresh(&mut session, &dialect).await;
        }
        Err(_) => {}
    }
    database.release(session);
    result.map(|phases| Finished {
        phases,
        ..Finished::default()
    })
}

/// A move does not wait for the disk, nor for the coordinator's synchronous standby, which may be the
/// very thing that is gone. Lost with a crash, it is as if it had never been made: whoever leads
/// the coordinator next is connected to afresh, its rows are read, and the move is made again.
const UNSYNCED: &str = "SET LOCAL synchronous_commit = off";

/// How long a step that met nobody may wait for locks: so long may it hold up other groups, too.
const MOMENT: &str = "SET LOCAL lock_timeout = '50ms'";

/// How long `pg_dist_node` is waited for, with this group's writers held. A resync of metadata on
/// a healthy cluster takes 16 ms (p95) to 61 ms (`docs/citus.md`).
const LONGER: &str = "SET LOCAL lock_timeout = '250ms'";

/// Rounds of waiting before the error is given back, to be retried after a pause.
const ROUNDS: u32 = 4;

async fn with_session(
    database: &Database,
    session: &mut Connection,
    dialect: &Dialect,
    group: i32,
    step: &Step,
    still_right: impl Fn() -> bool,
) -> Result<Phases, StepError> {
    let started = Instant::now();
    let mut phases = Phases::default();
    match step {
        // Holds and read moves have functions of their own.
        Step::Settled
        | Step::Wait(_)
        | Step::Hold(_)
        | Step::ReadMove(_)
        | Step::LetGo
        | Step::Resync(_) => return Ok(phases),
        Step::Register(step) => {
            let missing = || StepError::Unsupported(dialect.version.clone());
            let statement = dialect.register(step).ok_or_else(missing)?;
            ensure(&still_right)?;
            commit(session, &["BEGIN", &statement, "COMMIT"]).await?;
        }
        Step::Repair(step) => {
            let mut texts = vec!["BEGIN", LONGER];
            texts.extend(dialect.order());
            let update = dialect.repair(step);
            texts.extend([update.as_str(), "COMMIT"]);
            ensure(&still_right)?;
            commit(session, &texts).await?;
        }
        Step::Move(step) => {
            let mut round = Round {
                database,
                session,
                dialect,
                group,
                step,
                forced: false,
            };
            ensure(&still_right)?;
            if !round.at_once().await? {
                round
                    .with_patience(started, &mut phases, &still_right)
                    .await?;
            }
            phases.forced = round.forced;
        }
    }
    phases.committed = started.elapsed();
    if phases.locked.is_zero() {
        phases.locked = phases.committed;
    }
    Ok(phases)
}

fn ensure(still_right: &impl Fn() -> bool) -> Result<(), StepError> {
    if still_right() {
        Ok(())
    } else {
        Err(StepError::Superseded)
    }
}

/// Runs a batch that ends in `COMMIT`. The server stops at the first error, so an error that it
/// reports means that nothing was committed. Only when no answer comes at all do we not know.
async fn commit(session: &mut Connection, texts: &[&str]) -> Result<(), StepError> {
    match session.run(&batch(texts.iter().copied())).await {
        Ok(()) => Ok(()),
        Err(error @ SqlError::Server { .. }) if !error.breaks_the_connection() => Err(error.into()),
        Err(error) => Err(StepError::Ambiguous(error)),
    }
}

/// Whether somebody was in the way, and nothing else is wrong.
fn in_the_way(error: &StepError) -> bool {
    matches!(error, StepError::Sql(error) if error.is_lock_timeout() || error.is_deadlock())
}

/// One move.
struct Round<'a> {
    database: &'a Database,
    session: &'a mut Connection,
    dialect: &'a Dialect,
    group: i32,
    step: &'a Move,
    /// Sessions in the way are terminated.
    forced: bool,
}

impl Round<'_> {
    /// Everything in one message; false when somebody is in the way.
    async fn at_once(&mut self) -> Result<bool, StepError> {
        let lock = self.shard_locks();
        let updates = self.dialect.updates(self.step, false);
        let mut texts = vec!["BEGIN", MOMENT, UNSYNCED];
        texts.extend(lock.as_deref());
        texts.extend(self.dialect.order());
        texts.extend(updates.iter().map(String::as_str));
        texts.push("COMMIT");
        match commit(self.session, &texts).await {
            Ok(()) => Ok(true),
            Err(error) if in_the_way(&error) => {
                self.session.run("ROLLBACK").await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The locks on shards that the update will want anyway.
    fn shard_locks(&self) -> Option<String> {
        let pause = self.dialect.pause(self.step.nodeid, self.forced);
        pause.or_else(|| self.dialect.lock_own_shards(self.group))
    }

    async fn with_patience(
        &mut self,
        started: Instant,
        phases: &mut Phases,
        still_right: &impl Fn() -> bool,
    ) -> Result<(), StepError> {
        for round in 1.. {
            self.wait_for_writers().await?;
            phases.locked = started.elapsed();
            ensure(still_right)?;
            match self.update().await {
                Ok(()) => break,
                Err(error) if in_the_way(&error) => {
                    self.session.run("ROLLBACK").await?;
                    let cancelled = self.session.rows(CANCEL_METADATA_SYNC).await?.len();
                    if cancelled > 0 {
                        info!(
                            database = %self.database.name, group = self.group,
                            "cancelled Citus's metadata sync, which kept pg_dist_node locked: \
                             some worker does not answer it (citus.node_connection_timeout bounds \
                             its wait)"
                        );
                    }
                    if round == ROUNDS {
                        return Err(self.name_blockers(error).await);
                    }
                    // Neither our own shards nor the sync: writers of a reference table.
                    self.forced |= cancelled == 0 && round > 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for the writers of this group's own shards, and terminates those that stay.
    async fn wait_for_writers(&mut self) -> Result<(), StepError> {
        if !self.forced {
            let lock = self.dialect.lock_own_shards(self.group);
            let texts = ["BEGIN"].into_iter().chain(lock.as_deref());
            match self.session.run(&batch(texts)).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_lock_timeout() || error.is_deadlock() => {
                    self.session.run("ROLLBACK").await?;
                    self.forced = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Whoever is in the way is terminated within a moment; statement_timeout bounds the rest.
        // Without the function to pause, the update itself forces.
        let pause = self.dialect.pause(self.step.nodeid, true);
        let texts = ["BEGIN", "SET LOCAL lock_timeout = 0"]
            .into_iter()
            .chain(pause.as_deref());
        self.session.run(&batch(texts)).await?;
        Ok(())
    }

    /// What is left once the writers wait: the order, the update, the commit.
    async fn update(&mut self) -> Result<(), StepError> {
        let pause = self.dialect.pause(self.step.nodeid, false);
        let forces_itself = self.forced && pause.is_none();
        let updates = self.dialect.updates(self.step, forces_itself);
        let mut texts = vec![UNSYNCED];
        if !forces_itself {
            texts.push(LONGER);
            texts.extend(pause.as_deref());
            // Not ahead of an update that still has to wait for writers (rule 7).
            texts.extend(self.dialect.order());
        }
        texts.extend(updates.iter().map(String::as_str));
        texts.push("COMMIT");
        commit(self.session, &texts).await
    }

    /// The error, with who sits on `pg_dist_node`.
    async fn name_blockers(&mut self, error: StepError) -> StepError {
        let StepError::Sql(SqlError::Server { code, message }) = error else {
            return error;
        };
        let rows = self.session.rows(BLOCKERS).await.unwrap_or_default();
        let blockers: Vec<&str> = rows.iter().filter_map(|row| row.get(0)).collect();
        let message = if blockers.is_empty() {
            message
        } else {
            format!(
                "{message}; pg_dist_node is locked by {}",
                blockers.join(", ")
            )
        };
        SqlError::Server { code, message }.into()
    }
}
