//! A move with other sessions in the way, for a role that may change `pg_dist_node` itself.
//!
//! 1. Writers of this group's own shards are waited for a moment more. Other groups wait for
//!    nothing meanwhile, and their holds are no obstacle: neither `pg_dist_node` nor reference
//!    tables are locked (rule 7).
//! 2. The row is moved by a plain UPDATE, whether the writers are gone or not: it needs no locks on
//!    shards, and the leader takes writes already. A writer that hangs on a host that is gone
//!    cannot be ended, and must not keep the others from the new leader.
//! 3. The entry nodes follow; those that do not are marked.
//!
//! Citus tells its workers of no plain UPDATE: a resync is owed.

use std::time::Instant;

use citus_core::outcome::{Finished, Phases};
use dcs_watch::HostPort;

use super::conclude::conclude;
use super::error::StepError;
use super::fan_out::{Signal, Signaller, decide, followers, side_by_side};
use super::locking::try_lock;
use super::order::{Change, Inside, LockOrder};
use super::skipped_mark::mark_skipped;
use crate::session::{Database, EntryNodeSessions, Leased};

/// One such move.
pub(super) struct PlainMove<'a> {
    pub(super) database: &'a Database,
    pub(super) sessions: &'a EntryNodeSessions,
    /// The entry nodes that follow.
    pub(super) targets: &'a [HostPort],
    pub(super) change: Change<'a>,
    /// When the step began.
    pub(super) started: Instant,
}

impl PlainMove<'_> {
    pub(super) async fn make(
        self,
        session: Leased,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, StepError> {
        let (database, change) = (self.database, self.change);
        let (signaller, signal) = Signal::new();
        let followers = followers(self.sessions, database, self.targets, change, &signal);
        let coordinator = self.at_coordinator(session, signaller, still_right);
        let ((locked, committed), skipped) = side_by_side(coordinator, followers).await?;
        mark_skipped(database, change.dialect, &skipped).await;
        Ok(Finished {
            phases: Phases {
                locked: locked.duration_since(self.started),
                committed: committed.duration_since(self.started),
                forced: false,
            },
            skipped,
            terminated: Vec::new(),
            plain: change.dialect.has_metadata(),
        })
    }

    /// When waiting for writers was over, and when the row was moved.
    async fn at_coordinator(
        &self,
        mut session: Leased,
        signaller: Signaller,
        still_right: impl Fn() -> bool,
    ) -> Result<(Instant, Instant), StepError> {
        let (database, change) = (self.database, self.change);
        let name = format!("move group {}", change.group);
        // The server keeps its locks for no longer, the wait for them included.
        let deadline = Instant::now() + database.silence();
        let order = LockOrder {
            dialect: change.dialect,
            group: change.group,
            reference_tables: false,
            name: &name,
            deadline,
            cooldown: database.cooldown(),
        };
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
        let committed = decide(database, session, change, inside, signaller, still_right).await?;
        Ok((locked, committed))
    }
}
