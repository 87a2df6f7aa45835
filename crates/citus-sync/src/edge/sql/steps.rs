//! Carries out one step of a decision in one database. It makes no choices: what to do was
//! decided; whether it is still right is asked once more right before the rows change.
//!
//! A move is one message on a warm session when nobody is in the way: the group's shard locks,
//! the lock that orders updates of `pg_dist_node`, the update, `COMMIT`. When somebody is:
//!
//! 1. Writers of this group's own shards are waited for a moment more. Other groups wait for nothing
//!    meanwhile, and their holds are no obstacle: neither `pg_dist_node` nor reference tables are
//!    locked (rule 7).
//! 2. The row is moved by a plain UPDATE, whether the writers are gone or not: it needs no locks on
//!    shards, and the leader takes writes already. A writer that hangs on a host that is gone can be
//!    ended by nobody, and must not keep the others from the new leader. The entry nodes follow, and Citus
//!    is told later (`after.rs`).
//!
//! Where our role may not change the rows itself, Citus has to force its way (`forced.rs`).

use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use thiserror::Error;
use tokio_postgres::SimpleQueryRow;

use super::entry_nodes::side_by_side;
use super::fan_out::{Signal, conclude, decide, followers, mark_skipped};
use super::forced::Forced;
use super::locking::{LockOrder, try_lock};
use super::pool::Leased;
use super::update::{Change, Inside, LONGER, UNSYNCED};
use super::{Connection, Database, EntryNodes, SqlError};
use citus_core::plan::Step;
use citus_core::sql::{Dialect, batch};

/// How long each phase of a step took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Until the group's locks were ours, or no longer waited for.
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
    /// The entry nodes that did not follow, and why; at the end of a hold also those that were not held. Each
    /// that its hold has not told of before.
    pub skipped: Vec<Skipped>,
    /// Who was in the way of it and had to be ended, in words; at the end of a hold, whom that has
    /// ended at entry nodes since it was last asked ([`Hold::entry_node_news`](super::Hold::entry_node_news)).
    pub terminated: Vec<String>,
    /// The row was changed by a plain UPDATE, which Citus tells no worker of: a resync is owed.
    pub plain: bool,
}

/// An entry node that a hold or a move did without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it is.
    pub entry_node: HostPort,
    /// Why.
    pub error: String,
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.entry_node, self.error)
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
    /// Our role may not change the rows itself.
    #[error(
        "our role may not change pg_dist_node itself: GRANT INSERT, UPDATE, DELETE ON \
         pg_catalog.pg_dist_node TO it, in this database of the coordinator's members and workers"
    )]
    NoRights,
    /// This Citus has no function for the step.
    #[error("this Citus ({0}) has no function for it: do it by hand")]
    Unsupported(String),
}

impl StepError {
    /// Whether an entry node is none for the moment: reads of its own group are at a standby, and that has no
    /// copy of the metadata that could be changed, nor clients who could write. It needs no word of
    /// ours, and no mark, with which Citus would refuse every DDL: what its group's next leader has to
    /// be told is told by the resync that is owed after each plain move.
    pub(super) fn is_no_entry_node(&self) -> bool {
        matches!(self, Self::Sql(SqlError::InRecovery))
    }
}

/// Carries out a step that writes. `still_right` is asked when all waiting is over. A move that had
/// to be made by a plain UPDATE is made on `targets` as well: Citus tells the entry nodes of any other.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the rows are as they were.
pub async fn carry_out(
    database: &Database,
    entry_nodes: &EntryNodes,
    targets: &[HostPort],
    group: i32,
    step: &Step,
    still_right: impl Fn() -> bool,
) -> Result<Finished, StepError> {
    let started = Instant::now();
    let (mut session, dialect) = database.acquire().await?;
    let result = match step {
        // Holds, read moves and resyncs have functions of their own.
        Step::InSync
        | Step::Wait(_)
        | Step::Hold(_)
        | Step::ReadMove(_)
        | Step::LetGo
        | Step::Resync(_) => {
            database.release(session);
            return Ok(Finished::default());
        }
        Step::Register(step) => match dialect.register(step) {
            Some(statement) => {
                write(&mut session, &["BEGIN", &statement, "COMMIT"], &still_right).await
            }
            None => Err(StepError::Unsupported(dialect.version.clone())),
        },
        Step::Repair(step) => {
            let mut texts = vec!["BEGIN", LONGER];
            texts.extend(dialect.order());
            let update = dialect.repair(step);
            texts.extend([update.as_str(), "COMMIT"]);
            write(&mut session, &texts, &still_right).await
        }
        Step::Move(step) => {
            let change = Change {
                database: &database.name,
                dialect: &dialect,
                group,
                step,
            };
            match at_once(&mut session, change, &still_right).await {
                Ok(true) => Ok(()),
                Ok(false) if dialect.moves_plainly() => {
                    return Patient {
                        database,
                        entry_nodes,
                        targets,
                        change,
                        started,
                    }
                    .make(session, still_right)
                    .await;
                }
                Ok(false) => {
                    let forced = Forced::new(&mut session, change);
                    let made = forced.make(started, still_right).await;
                    conclude(database, session, &dialect, &made).await;
                    return made.map(|phases| Finished {
                        phases,
                        ..Finished::default()
                    });
                }
                Err(error) => Err(error),
            }
        }
    };
    let committed = started.elapsed();
    conclude(database, session, &dialect, &result).await;
    result.map(|()| Finished {
        phases: Phases {
            locked: committed,
            committed,
            forced: false,
        },
        ..Finished::default()
    })
}

async fn write(
    session: &mut Connection,
    texts: &[&str],
    still_right: &impl Fn() -> bool,
) -> Result<(), StepError> {
    ensure(still_right)?;
    commit(session, &batch(texts.iter().copied())).await?;
    Ok(())
}

/// How long a step that met nobody may wait for locks: so long may it hold up other groups, too.
pub(super) const MOMENT: &str = "SET LOCAL lock_timeout = '50ms'";

pub(super) fn ensure(still_right: &impl Fn() -> bool) -> Result<(), StepError> {
    if still_right() {
        Ok(())
    } else {
        Err(StepError::Superseded)
    }
}

/// Runs a batch that ends in `COMMIT`, and gives the rows of all its queries. The server stops at the
/// first error, so an error that it reports means that nothing was committed. Only when no answer
/// comes at all do we not know.
pub(super) async fn commit(
    session: &mut Connection,
    text: &str,
) -> Result<Vec<SimpleQueryRow>, StepError> {
    match session.rows(text).await {
        Ok(rows) => Ok(rows),
        Err(error @ SqlError::Server { .. }) if !error.breaks_the_connection() => Err(error.into()),
        Err(error) => Err(StepError::Ambiguous(error)),
    }
}

/// Whether somebody was in the way, and nothing else is wrong.
pub(super) fn in_the_way(error: &StepError) -> bool {
    matches!(error, StepError::Sql(error) if error.is_lock_timeout() || error.is_deadlock())
}

/// The locks on shards that Citus's own update will want anyway.
pub(super) fn shard_locks(change: Change<'_>, force: bool) -> Option<String> {
    let dialect: &Dialect = change.dialect;
    let pause = dialect.pause(change.step.nodeid, force);
    pause.or_else(|| dialect.lock_own_shards(change.group))
}

/// Everything in one message; false when somebody is in the way, and nothing is open then.
async fn at_once(
    session: &mut Connection,
    change: Change<'_>,
    still_right: &impl Fn() -> bool,
) -> Result<bool, StepError> {
    ensure(still_right)?;
    let lock = shard_locks(change, false);
    let updates = change.dialect.updates(change.step, false);
    let mut texts = vec!["BEGIN", MOMENT, UNSYNCED];
    texts.extend(lock.as_deref());
    texts.extend(change.dialect.order());
    texts.extend(updates.iter().map(String::as_str));
    texts.push("COMMIT");
    match commit(session, &batch(texts)).await {
        Ok(_) => Ok(true),
        Err(error) if in_the_way(&error) => {
            session.run("ROLLBACK").await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A move with somebody in the way.
struct Patient<'a> {
    database: &'a Database,
    entry_nodes: &'a EntryNodes,
    targets: &'a [HostPort],
    change: Change<'a>,
    started: Instant,
}

impl Patient<'_> {
    async fn make(
        self,
        session: Leased,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, StepError> {
        let Self {
            database,
            entry_nodes,
            targets,
            change,
            started,
        } = self;
        let (signaller, signal) = Signal::new();
        let followers = followers(entry_nodes, database, targets, change, &signal);
        let name = format!("move group {}", change.group);
        // The server keeps its locks for no longer, the wait for them included.
        let deadline = Instant::now() + database.silence();
        let order = LockOrder {
            dialect: change.dialect,
            group: change.group,
            references: false,
            name: &name,
            deadline,
            cooldown: database.cooldown(),
        };
        let coordinator = async {
            let mut session = session;
            let inside = match try_lock(&mut session, &order).await {
                Ok(true) => Inside::Held(deadline),
                Ok(false) => Inside::Own,
                Err(error) => {
                    let failed = Err(error);
                    conclude(database, session, change.dialect, &failed).await;
                    return failed;
                }
            };
            let locked = Instant::now();
            let committed =
                decide(database, session, change, inside, signaller, still_right).await?;
            Ok((locked, committed))
        };
        let (decided, _, skipped) = side_by_side(coordinator, followers).await?;
        let (locked, committed) = decided;
        mark_skipped(database, change.dialect, &skipped).await;
        Ok(Finished {
            phases: Phases {
                locked: locked.duration_since(started),
                committed: committed.duration_since(started),
                forced: false,
            },
            skipped,
            terminated: Vec::new(),
            plain: change.dialect.has_metadata(),
        })
    }
}
