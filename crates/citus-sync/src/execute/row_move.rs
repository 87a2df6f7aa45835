//! Changes rows outside of a hold: moves a group's primary row to its leader, adds a row, or fixes
//! a temporary name. What to do was decided; whether it is still right is asked once more right
//! before the rows change.
//!
//! A move, in order:
//!
//! 1. One message on a warm session: the group's shard locks, the lock that orders updates of
//!    `pg_dist_node`, the update, `COMMIT`. Nearly always no session is in the way, and that is
//!    all.
//! 2. Where one is, and our role may change the rows itself: `plain_move.rs`.
//! 3. Where one is, and it may not, Citus has to force its way: `forced_move.rs`.

use std::time::{Duration, Instant};

use citus_core::outcome::{Finished, Phases};
use citus_core::plan::{Move, Register, Repair};
use citus_core::sql::batch;
use dcs_watch::HostPort;

use super::conclude::conclude;
use super::entry_nodes::EntryNodes;
use super::error::StepError;
use super::forced_move::ForcedMove;
use super::order::Change;
use super::plain_move::PlainMove;
use super::transaction::{LONGER, MOMENT, UNSYNCED, commit, ensure};
use crate::session::{Connection, Database};

/// The way that is left for a move when a session is in the way: known from the role's rights and
/// the Citus before anything is tried.
#[derive(Clone, Copy)]
enum WhenInTheWay {
    MovePlainly,
    Force,
}

/// Moves a group's primary row to its leader. `still_right` is asked when all waiting is over. A
/// move that had to be made by a plain UPDATE is made on `targets` as well: Citus tells the entry
/// nodes of any other.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the rows are as they were.
pub async fn row_move(
    database: &Database,
    entry_nodes: &EntryNodes,
    targets: &[HostPort],
    group: i32,
    step: &Move,
    still_right: impl Fn() -> bool,
) -> Result<Finished, StepError> {
    let started = Instant::now();
    let (mut session, dialect) = database.acquire().await?;
    let change = Change {
        database: &database.name,
        dialect: &dialect,
        group,
        step,
    };
    let when_in_the_way = if dialect.moves_plainly() {
        WhenInTheWay::MovePlainly
    } else {
        WhenInTheWay::Force
    };
    let at_once = at_once(&mut session, change, &still_right).await;
    let result = match (at_once, when_in_the_way) {
        (Ok(true), _) => Ok(started.elapsed()),
        (Err(error), _) => Err(error),
        (Ok(false), WhenInTheWay::MovePlainly) => {
            let plain = PlainMove {
                database,
                sessions: entry_nodes.sessions(),
                targets,
                change,
                started,
            };
            return plain.make(session, still_right).await;
        }
        (Ok(false), WhenInTheWay::Force) => {
            let forced = ForcedMove::new(&mut session, change);
            let made = forced.make(started, still_right).await;
            conclude(database, session, &dialect, &made).await;
            return made.map(|phases| Finished {
                phases,
                ..Finished::default()
            });
        }
    };
    conclude(database, session, &dialect, &result).await;
    result.map(finished)
}

/// Adds a group's row. `still_right` is asked right before.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the rows are as they were.
pub async fn register(
    database: &Database,
    step: &Register,
    still_right: impl Fn() -> bool,
) -> Result<Finished, StepError> {
    let started = Instant::now();
    let (mut session, dialect) = database.acquire().await?;
    let written = match dialect.register(step) {
        Some(statement) => {
            write(&mut session, &["BEGIN", &statement, "COMMIT"], &still_right).await
        }
        None => Err(StepError::Unsupported(dialect.version.clone())),
    };
    let result = written.map(|()| started.elapsed());
    conclude(database, session, &dialect, &result).await;
    result.map(finished)
}

/// Gives a row its address back, where a move that was cut off left a temporary name. `still_right`
/// is asked right before.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the rows are as they were.
pub async fn repair(
    database: &Database,
    step: &Repair,
    still_right: impl Fn() -> bool,
) -> Result<Finished, StepError> {
    let started = Instant::now();
    let (mut session, dialect) = database.acquire().await?;
    let mut texts = vec!["BEGIN", LONGER];
    texts.extend(dialect.order());
    let update = dialect.repair(step);
    texts.extend([update.as_str(), "COMMIT"]);
    let written = write(&mut session, &texts, &still_right).await;
    let result = written.map(|()| started.elapsed());
    conclude(database, session, &dialect, &result).await;
    result.map(finished)
}

/// What was done in one message, without waiting for other sessions.
fn finished(committed: Duration) -> Finished {
    Finished {
        phases: Phases::in_one(committed),
        ..Finished::default()
    }
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

/// Everything in one message; false when a session is in the way, and nothing is open then.
async fn at_once(
    session: &mut Connection,
    change: Change<'_>,
    still_right: &impl Fn() -> bool,
) -> Result<bool, StepError> {
    ensure(still_right)?;
    let dialect = change.dialect;
    // The locks on shards that Citus's own update will want anyway.
    let pause = dialect.pause(change.step.nodeid, false);
    let lock = pause.or_else(|| dialect.lock_own_shards(change.group));
    let updates = dialect.updates(change.step, false);
    let mut texts = vec!["BEGIN", MOMENT, UNSYNCED];
    texts.extend(lock.as_deref());
    texts.extend(dialect.order());
    texts.extend(updates.iter().map(String::as_str));
    texts.push("COMMIT");
    match commit(session, &batch(texts)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_about_locks() => {
            session.run("ROLLBACK").await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
