//! What an executor is told to do: which locks to take, what to hold, which row to change. Data
//! only.

use std::time::{Duration, Instant};

use citus_core::plan::Move;
use citus_core::sql::{APPLICATION, Dialect, ShardLocks, Shards};

use super::error::StepError;

/// What is to be held, in one database, on the coordinator or on an entry node.
#[derive(Clone, Copy, Debug)]
pub struct HoldOrder {
    /// Citus `groupid`.
    pub group: i32,
    /// How long from now until the deadline.
    pub left: Duration,
    /// How long writers that are in the way are waited for before they are terminated.
    pub cooldown: Duration,
}

impl HoldOrder {
    pub(super) fn session_name(&self) -> String {
        format!("hold group {}", self.group)
    }

    /// The locks that it wants, on the coordinator and on each entry node alike.
    pub(super) fn locks<'a>(
        &self,
        dialect: &'a Dialect,
        name: &'a str,
        deadline: Instant,
    ) -> LockOrder<'a> {
        LockOrder {
            dialect,
            group: self.group,
            reference_tables: true,
            name,
            deadline,
            cooldown: self.cooldown,
        }
    }
}

/// The locks that are wanted.
pub(super) struct LockOrder<'a> {
    pub(super) dialect: &'a Dialect,
    pub(super) group: i32,
    /// Those of reference tables, too.
    pub(super) reference_tables: bool,
    /// What for: "hold group 1".
    pub(super) name: &'a str,
    /// When the server ends the transaction, whatever becomes of us.
    pub(super) deadline: Instant,
    /// How long writers are waited for before they are terminated.
    pub(super) cooldown: Duration,
}

impl LockOrder<'_> {
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The session's name while it has these locks.
    pub(super) fn session_name(&self, shards: Shards) -> String {
        let name = match shards {
            Shards::OfGroup(_) => self.name,
            Shards::OfReferenceTables => "hold reference tables",
        };
        format!("{APPLICATION}: {name}")
    }

    pub(super) fn text(&self, shards: Shards, wait: Duration) -> Result<String, StepError> {
        let locks = ShardLocks {
            shards,
            wait,
            left: self.left(),
        };
        let text = self.dialect.lock_shards(&locks);
        text.ok_or_else(|| StepError::Unsupported(self.dialect.version.clone()))
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

/// Which transaction a change is made in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inside {
    /// One of its own.
    Own,
    /// One that is open and holds locks, until this moment at the latest. They are kept from round
    /// to round, and are gone once the change is made.
    Held(Instant),
}
