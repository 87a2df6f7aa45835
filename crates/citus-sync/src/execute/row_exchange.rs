//! Gives the primary rows of several groups each other's addresses, in one transaction, by way of
//! temporary names. Enters: the rows, and a question whether all of their leaders still have their
//! keys. Leaves: all rows at their leaders, or none changed.
//!
//! 1. As a move: the groups' shard locks, the lock that orders updates, Citus's own updates, `COMMIT`.
//! 2. Where a session is in the way and our role may change the rows itself, by plain updates, which
//!    need no locks on shards: the leaders take writes already, and nothing can be acknowledged
//!    through an address at which another group's server is. Citus is told by the resync.

use std::time::Instant;

use citus_core::outcome::{Finished, Phases};
use citus_core::plan::Exchange;
use citus_core::sql::{Dialect, batch};

use super::conclude::conclude;
use super::error::StepError;
use super::lock_holders::cancel_metadata_sync;
use super::transaction::{LONGER, commit, ensure};
use crate::session::{Connection, Database};

/// Makes it; `still_right` is asked right before rows change.
///
/// # Errors
///
/// [`StepError`]; unless it is `Ambiguous`, the rows are as they were.
pub async fn exchange(
    database: &Database,
    step: &Exchange,
    still_right: impl Fn() -> bool,
) -> Result<Finished, StepError> {
    let started = Instant::now();
    let (mut session, dialect) = database.acquire().await?;
    let made = make(&mut session, database, &dialect, step, &still_right).await;
    conclude(database, session, &dialect, &made).await;
    made.map(|plain| {
        let committed = started.elapsed();
        Finished {
            phases: Phases::in_one(committed),
            plain,
            ..Finished::default()
        }
    })
}

/// Whether it was made by plain updates.
async fn make(
    session: &mut Connection,
    database: &Database,
    dialect: &Dialect,
    step: &Exchange,
    still_right: &impl Fn() -> bool,
) -> Result<bool, StepError> {
    let locks = step.parts.iter().filter_map(|part| {
        let pause = dialect.pause(part.nodeid, false);
        pause.or_else(|| dialect.lock_own_shards(part.group))
    });
    let mut texts: Vec<String> = locks.collect();
    texts.extend(dialect.order().map(str::to_owned));
    texts.extend(dialect.exchange(step));
    let in_the_way = match send(session, &texts, still_right).await {
        Ok(()) => return Ok(false),
        Err(error) if error.is_about_locks() && dialect.moves_plainly() => error,
        Err(error) => return Err(error),
    };
    tracing::debug!(database = %database.name, "exchanged by plain updates: {in_the_way}");
    session.run("ROLLBACK").await?;
    for part in &step.parts {
        cancel_metadata_sync(session, &database.name, part.group).await?;
    }
    let mut texts: Vec<String> = dialect
        .order_plain()
        .map(str::to_owned)
        .into_iter()
        .collect();
    texts.extend(dialect.plain_exchange(step));
    send(session, &texts, still_right).await?;
    Ok(dialect.has_metadata())
}

async fn send(
    session: &mut Connection,
    texts: &[String],
    still_right: &impl Fn() -> bool,
) -> Result<(), StepError> {
    ensure(still_right)?;
    let texts = texts.iter().map(String::as_str);
    let all = ["BEGIN", LONGER].into_iter().chain(texts).chain(["COMMIT"]);
    commit(session, &batch(all)).await?;
    Ok(())
}
