//! A hold: one open transaction on the coordinator and one on each door, in which writes to one
//! group's shards wait.
//!
//! It does not touch `pg_dist_node` until its end, so that groups are held side by side. The
//! server itself ends it at its deadline (rule 2).

use std::time::Duration;

use dcs_watch::HostPort;

use super::steps::{Finished, LeftOut, StepError};
use super::{Database, Doors};
use crate::plan::Move;

/// What is to be held, in one database.
#[derive(Clone, Debug)]
pub struct HoldOrder {
    /// Citus `groupid`.
    pub group: i32,
    /// How long from now until the deadline.
    pub left: Duration,
    /// How long writers that are in the way are waited for before they are terminated.
    pub cooldown: Duration,
    /// The doors to hold beside the coordinator.
    pub doors: Vec<HostPort>,
    /// For `application_name` in `pg_stat_activity`: "group 1".
    pub name: String,
}

/// An open hold. Dropping it closes its sessions, which releases everything.
#[derive(Debug)]
pub struct Hold {
    left_out: Vec<LeftOut>,
    terminated: Vec<String>,
}

impl Hold {
    /// Holds coordinator and doors concurrently. A door that is not held within 300 ms after the
    /// coordinator is, is left out.
    ///
    /// # Errors
    ///
    /// The coordinator cannot be held. Nothing is held then.
    pub async fn take(
        database: &Database,
        doors: &Doors,
        order: &HoldOrder,
    ) -> Result<Self, StepError> {
        let _ = (database, doors, order);
        Err(StepError::Unsupported("not built yet".to_owned()))
    }

    /// Completes when the coordinator's holding session closes: the coordinator is gone, or its
    /// own timeouts ended the hold.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    /// The doors that are held.
    pub fn doors(&self) -> Vec<HostPort> {
        Vec::new()
    }

    /// The doors that are not, and why.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Who had to be ended, in words.
    pub fn terminated(&self) -> &[String] {
        &self.terminated
    }

    /// Rolls everything back, concurrently. A session that does not answer is dropped.
    pub async fn release(self, database: &Database) {
        let _ = database;
    }

    /// Moves the row inside the holding transaction and commits, doors concurrently. The locks are
    /// gone afterwards, whatever the result. `still_right` is asked right before.
    ///
    /// # Errors
    ///
    /// [`StepError`]; unless it is `Ambiguous`, the coordinator's rows are as they were.
    pub async fn finish(
        self,
        database: &Database,
        doors: &Doors,
        targets: &[HostPort],
        step: &Move,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, StepError> {
        let _ = (database, doors, targets, step, still_right());
        Err(StepError::Unsupported("not built yet".to_owned()))
    }
}
