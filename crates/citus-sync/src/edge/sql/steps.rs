//! Carries out one step of a decision in one database. It makes no choices: what to do was
//! decided; whether it is still right is asked once more right before the rows change.
//!
//! A move is two round trips on a warm session:
//!
//! 1. `BEGIN` and the group's shard locks, with `lock_timeout` = the policy's cooldown. Writers of
//!    this group are waited for here, side by side with other groups' moves.
//! 2. the update and `COMMIT`, in turn with other groups: `citus_update_node` first takes
//!    `RowExclusiveLock` on `pg_dist_node` and then `ExclusiveLock`, so two of them at once
//!    deadlock, and PostgreSQL takes a second to notice.
//!
//! When writers do not finish within the cooldown, the locks are taken by force: Citus terminates
//! who is in the way.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::{Connection, Database, SqlError};
use crate::plan::{Move, Step};
use crate::statements::{Dialect, batch};

/// How long each phase of a step took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Until the group's locks were ours.
    pub locked: Duration,
    /// Until it was this group's turn to touch `pg_dist_node`.
    pub turn: Duration,
    /// Until the commit was acknowledged.
    pub committed: Duration,
    /// Whether sessions in the way were terminated.
    pub forced: bool,
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

/// Carries out a step that writes. `still_right` is asked when all waiting is over.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the rows are as they were.
pub async fn carry_out(
    database: &Database,
    group: i32,
    step: &Step,
    still_right: impl Fn() -> bool,
) -> Result<Phases, StepError> {
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
    result
}

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
    let mut force_update = false;
    let statements = match step {
        Step::Settled | Step::Wait(_) => return Ok(phases),
        Step::Move(step) => {
            let lock = lock_group(session, dialect, group, step).await?;
            phases.forced = lock != Locked::Waited;
            force_update = lock == Locked::NotYet;
            phases.locked = started.elapsed();
            dialect.updates(step, force_update)
        }
        Step::Repair(step) => {
            session.run("BEGIN").await?;
            vec![dialect.repair(step)]
        }
        Step::Register(step) => {
            let statement = dialect.register(step);
            let missing = || StepError::Unsupported(dialect.version.clone());
            session.run("BEGIN").await?;
            vec![statement.ok_or_else(missing)?]
        }
    };

    // With the locks still to be forced, waiting happens inside the update: it must not be
    // waited for in the turn that all groups share (rule 7).
    let _turn = if force_update { None } else { Some(database.turn().await?) };
    phases.turn = started.elapsed();
    if !still_right() {
        return Err(StepError::Superseded);
    }
    // One batch: the server stops at the first error, so an error that it reports means that
    // nothing was committed. Only when no answer comes at all do we not know.
    let mut texts: Vec<&str> = statements.iter().map(String::as_str).collect();
    texts.push("COMMIT");
    match session.run(&batch(texts)).await {
        Ok(()) => {}
        Err(error @ SqlError::Server { .. }) if !error.breaks_the_connection() => {
            return Err(error.into());
        }
        Err(error) => return Err(StepError::Ambiguous(error)),
    }
    phases.committed = started.elapsed();
    Ok(phases)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    /// Every writer finished in time.
    Waited,
    /// Those that did not were terminated.
    Forced,
    /// This Citus can only force inside the update itself.
    NotYet,
}

async fn lock_group(
    session: &mut Connection,
    dialect: &Dialect,
    group: i32,
    step: &Move,
) -> Result<Locked, StepError> {
    let Some(lock) = dialect.lock_group(step.nodeid, group, false) else {
        session.run("BEGIN").await?;
        return Ok(Locked::NotYet);
    };
    match session.run(&batch(["BEGIN", &lock])).await {
        Ok(()) => return Ok(Locked::Waited),
        Err(error) if error.is_lock_timeout() || error.is_deadlock() => {}
        Err(error) => return Err(error.into()),
    }
    match dialect.lock_group(step.nodeid, group, true) {
        // Whoever is in the way is terminated within a moment; statement_timeout bounds the rest.
        Some(lock) => {
            let patience = "SET LOCAL lock_timeout = 0";
            let as_before = "SET LOCAL lock_timeout TO DEFAULT";
            session.run(&batch(["ROLLBACK", "BEGIN", patience, &lock, as_before])).await?;
            Ok(Locked::Forced)
        }
        None => {
            session.run(&batch(["ROLLBACK", "BEGIN", "SET LOCAL lock_timeout = 0"])).await?;
            Ok(Locked::NotYet)
        }
    }
}
