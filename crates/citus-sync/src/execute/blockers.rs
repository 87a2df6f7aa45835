//! The sessions that are in the way of one of ours that waits for locks: asks PostgreSQL which they
//! are, from a second session, and ends those that may be ended.
//!
//! We terminate them ourselves, because what Citus offers for it (`force`) cannot tell writers from
//! another group's hold, takes a background worker each time, and does not say which it terminated.

use std::collections::BTreeSet;
use std::time::Duration;

use citus_core::sql::{terminate_blockers, untangle_blockers};
use dcs_watch::text::{NAME_BYTES, excerpt};

use crate::session::{Connection, SqlError};

/// How long a look may take, terminating included.
const LOOK: Duration = Duration::from_secs(1);

/// The sessions in the way of one backend.
pub(super) struct Blockers {
    query: String,
    /// No session is terminated, and that we may not cancel a statement is no error: there is time
    /// left.
    pub(super) gently: bool,
    /// Process ids of those that were told to end.
    seen: BTreeSet<String>,
    /// Those that were there at the last look and were not ended, in words.
    spared: Vec<String>,
}

impl Blockers {
    /// While the cooldown runs: only statements are cancelled that waiting cannot get out of our
    /// way.
    pub(super) fn cancelled(pid: i32) -> Self {
        Self::new(untangle_blockers(pid), true)
    }

    /// Once the cooldown is over.
    pub(super) fn terminated(pid: i32) -> Self {
        Self::new(terminate_blockers(pid), false)
    }

    fn new(query: String, gently: bool) -> Self {
        Self {
            query,
            gently,
            seen: BTreeSet::new(),
            spared: Vec::new(),
        }
    }

    /// Ends those that may be ended; gives each once, in words.
    pub(super) async fn end(&mut self, session: &mut Connection) -> Result<Vec<String>, SqlError> {
        let rows = session.rows_within(&self.query, LOOK).await;
        if self.gently && rows.as_ref().is_err_and(SqlError::is_about_rights) {
            return Ok(vec![]);
        }
        let rows = rows.map_err(|error| {
            if error.is_about_rights() {
                error.saying(
                    "a session is in the way that our role may not terminate: grant it \
                     pg_signal_backend, or make it a superuser",
                )
            } else {
                error
            }
        })?;
        // None, when we have given up waiting meanwhile: then those of the look before count.
        if !rows.is_empty() {
            self.spared.clear();
        }
        let mut ended = Vec::new();
        for row in rows {
            let (Some(pid), Some(blocker)) = (row.get(0), row.get(1)) else {
                continue;
            };
            // A role's name may hold anything.
            let blocker = excerpt(blocker, NAME_BYTES).into_owned();
            if row.get(2) != Some("t") {
                self.spared.push(blocker);
            } else if self.seen.insert(pid.to_owned()) {
                ended.push(blocker);
            }
        }
        Ok(ended)
    }

    /// The error, with those that were not ended.
    pub(super) fn name(&self, error: SqlError) -> SqlError {
        if self.spared.is_empty() {
            error
        } else {
            error.saying(&format!("in the way: {}", self.spared.join(", ")))
        }
    }
}
