//! Changes `pg_dist_node` and commits, on the coordinator or on an entry node: in a transaction of its own,
//! or in one that holds a group's shards.
//!
//! Whoever sits on `pg_dist_node` for longer than a moment is Citus's own metadata sync at a silent
//! worker: it is cancelled. Anybody else is named in the error, after a few rounds.

use std::time::{Duration, Instant};

use dcs_watch::text::{NAME_BYTES, excerpt};
use tracing::info;

use super::steps::{StepError, commit, ensure, in_the_way};
use super::{Connection, SqlError};
use citus_core::plan::Move;
use citus_core::sql::{CANCEL_METADATA_SYNC, Dialect, HOLDERS, batch, idle_until};

/// A move does not wait for the disk, nor for the coordinator's synchronous standby, which may be the
/// very thing that is gone. Lost with a crash, it is as if it had never been made: whoever leads
/// the coordinator next is connected to afresh, its rows are read, and the move is made again.
pub(super) const UNSYNCED: &str = "SET LOCAL synchronous_commit = off";

/// How long `pg_dist_node` is waited for, with this group's writers held. A resync of metadata on
/// a healthy cluster takes 16 ms (p95) to 61 ms (`docs/citus.md`).
pub(super) const LONGER: &str = "SET LOCAL lock_timeout = '250ms'";
const LONGER_WAIT: Duration = Duration::from_millis(250);

/// Rounds of waiting before the error is given back, to be retried after a pause.
const ROUNDS: u32 = 4;

/// A failed round goes back to here, which keeps the locks of the transaction.
const SAVEPOINT: &str = "SAVEPOINT citus_sync_move";
const BACK: &str = "ROLLBACK TO SAVEPOINT citus_sync_move; RELEASE SAVEPOINT citus_sync_move";

/// Which transaction a change is made in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inside {
    /// One of its own.
    Own,
    /// One that is open and holds locks, until this moment at the latest. They are kept from round to
    /// round, and are gone once the change is made.
    Held(Instant),
}

impl Inside {
    fn begin(self) -> Vec<String> {
        match self {
            Self::Own => vec!["BEGIN".to_owned()],
            Self::Held(deadline) => {
                // The timeout that was set when the locks were taken counts anew after each
                // message, and this one may take as long as the lock is waited for. Before the
                // savepoint: what is set after it is lost with the round.
                let left = deadline.saturating_duration_since(Instant::now());
                let left = left.saturating_sub(LONGER_WAIT);
                vec![idle_until(left), SAVEPOINT.to_owned()]
            }
        }
    }

    fn undo(self) -> &'static str {
        match self {
            Self::Own => "ROLLBACK",
            Self::Held(_) => BACK,
        }
    }
}

/// A move of one row, as it is to be made on one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) database: &'a str,
    pub(super) dialect: &'a Dialect,
    pub(super) group: i32,
    pub(super) step: &'a Move,
}

impl Change<'_> {
    /// Makes it and commits. After an error that is not `Ambiguous` nothing is changed, and the
    /// transaction may still be open.
    pub(super) async fn make(
        self,
        session: &mut Connection,
        inside: Inside,
        still_right: impl Fn() -> bool,
    ) -> Result<(), StepError> {
        let plain = self.dialect.moves_plainly();
        let updates = if plain {
            self.dialect.plain_updates(self.group, self.step)
        } else {
            self.dialect.updates(self.step, false)
        };
        let order = if plain {
            self.dialect.order_plain()
        } else {
            self.dialect.order()
        };
        let is_moved = self.dialect.is_moved(self.group, self.step);
        for round in 1.. {
            ensure(&still_right)?;
            let begin = inside.begin();
            let mut texts: Vec<&str> = begin.iter().map(String::as_str).collect();
            texts.extend([UNSYNCED, LONGER]);
            texts.extend(order);
            texts.extend(updates.iter().map(String::as_str));
            texts.extend([is_moved.as_str(), "COMMIT"]);
            let error = match commit(session, &batch(texts)).await {
                // The last row of all is the answer to `is_moved`.
                Ok(rows) if rows.last().is_some_and(|row| row.get(0) == Some("t")) => return Ok(()),
                Ok(_) => return Err(self.no_such_row().into()),
                Err(error) if in_the_way(&error) => error,
                Err(error) => return Err(error),
            };
            session.run(inside.undo()).await?;
            if round == ROUNDS {
                return Err(name_holders(session, error).await);
            }
            cancel_metadata_sync(session, self.database, self.group).await?;
        }
        Ok(())
    }

    fn no_such_row(self) -> SqlError {
        SqlError::Answer(format!(
            "pg_dist_node has no row of node {} in group {} that could be moved to {}",
            self.step.nodeid, self.group, self.step.to
        ))
    }
}

/// Cancels Citus's metadata sync where it sits on `pg_dist_node`; how many there were.
pub(super) async fn cancel_metadata_sync(
    session: &mut Connection,
    database: &str,
    group: i32,
) -> Result<usize, SqlError> {
    let cancelled = session.rows(CANCEL_METADATA_SYNC).await?.len();
    if cancelled > 0 {
        info!(
            database,
            group,
            "cancelled Citus's metadata sync, which kept pg_dist_node locked: some worker does not \
             answer it (citus.node_connection_timeout bounds its wait)"
        );
    }
    Ok(cancelled)
}

/// The error, with who sits on `pg_dist_node`.
pub(super) async fn name_holders(session: &mut Connection, error: StepError) -> StepError {
    let StepError::Sql(error) = error else {
        return error;
    };
    let rows = session.rows(HOLDERS).await.unwrap_or_default();
    let holders: Vec<_> = rows
        .iter()
        .filter_map(|row| Some(excerpt(row.get(0)?, NAME_BYTES)))
        .collect();
    if holders.is_empty() {
        return error.into();
    }
    let named = format!("pg_dist_node is locked by {}", holders.join(", "));
    error.saying(&named).into()
}
