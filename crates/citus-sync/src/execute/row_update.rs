//! Changes one row of `pg_dist_node` and commits, on the coordinator or on an entry node: in a
//! transaction of its own, or in one that holds a group's shards.
//!
//! 1. Asks whether the move is still right.
//! 2. Sends, in one message, the order of updates, the update, the question whether the row is
//!    there now, and `COMMIT`.
//! 3. Where `pg_dist_node` stays locked, gives the round back, cancels Citus's metadata sync if
//!    that has the lock, and begins again. After a few rounds the error names the session that has
//!    it.

use std::time::Instant;

use citus_core::sql::{batch, idle_until};

use super::error::StepError;
use super::lock_holders::{cancel_metadata_sync, name_holders};
use super::order::{Change, Inside};
use super::transaction::{LONGER, LONGER_WAIT, UNSYNCED, commit, ensure};
use crate::session::{Connection, SqlError};

/// Rounds of waiting before the error is given back, to be retried after a pause.
const ROUNDS: u32 = 4;

/// A failed round goes back to here, which keeps the locks of the transaction.
const SAVEPOINT: &str = "SAVEPOINT citus_sync_move";
const BACK: &str = "ROLLBACK TO SAVEPOINT citus_sync_move; RELEASE SAVEPOINT citus_sync_move";

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

impl Change<'_> {
    /// Makes it and commits. After an error that is not `Ambiguous` nothing is changed, and the
    /// transaction may still be open.
    pub(super) async fn make(
        self,
        session: &mut Connection,
        inside: Inside,
        still_right: impl Fn() -> bool,
    ) -> Result<(), StepError> {
        let (order, updates) = self.update();
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
                Err(error) if error.is_about_locks() => error,
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

    /// A plain UPDATE where our role may make one, else Citus's own function; and what orders it
    /// among the updates of other groups.
    fn update(self) -> (Option<&'static str>, Vec<String>) {
        if self.dialect.moves_plainly() {
            let updates = self.dialect.plain_updates(self.group, self.step);
            (self.dialect.order_plain(), updates)
        } else {
            let updates = self.dialect.updates(self.step, false);
            (self.dialect.order(), updates)
        }
    }

    fn no_such_row(self) -> SqlError {
        SqlError::Answer(format!(
            "pg_dist_node has no row of node {} in group {} that could be moved to {}",
            self.step.nodeid, self.group, self.step.to
        ))
    }
}
