//! A hold of the coordinator: an open transaction in which writes to one group's shards wait. The
//! entry nodes are held beside it, each in a transaction of its own (`entry_node_holds.rs`).
//!
//! It ends in one of three ways: rolled back (`hold_release.rs`), with the move of its row
//! (`hold_finish.rs`), or lost with the coordinator, which keeps the entry nodes held.
//!
//! It does not touch `pg_dist_node` until its end, so that groups are held side by side. The
//! server itself ends it at its deadline (rule 2): what was held is given back even if this process
//! is frozen, or its host is gone.

use std::time::Instant;

use super::error::StepError;
use super::locking::{Locked, lock};
use super::order::HoldOrder;
use super::place::Place;
use crate::session::{Database, Leased, Share};

/// An open hold of the coordinator. Dropping it closes its session, which releases everything.
#[derive(Debug)]
pub struct Hold {
    pub(super) group: i32,
    pub(super) deadline: Instant,
    pub(super) coordinator: Leased,
    /// Reference tables are held by a session that all holds here share.
    pub(super) reference_tables: Option<Share>,
    /// The sessions that had to be ended for it, in words.
    pub(super) terminated: Vec<String>,
}

impl Hold {
    /// Takes the group's locks on the coordinator. May be dropped half-way: then nothing stays held.
    ///
    /// # Errors
    ///
    /// The coordinator cannot be held. Nothing is held then.
    pub async fn take(database: &Database, order: &HoldOrder) -> Result<Self, StepError> {
        let deadline = Instant::now() + order.left;
        let dialect = database.dialect()?;
        let name = order.session_name();
        let locks = order.locks(&dialect, &name, deadline);
        let (mut coordinator, _) = database.acquire_for_hold().await?;
        let Locked {
            terminated,
            reference_tables,
        } = lock(&mut coordinator, &Place::Coordinator(database), &locks).await?;
        Ok(Self {
            group: order.group,
            deadline,
            coordinator,
            reference_tables,
            terminated,
        })
    }

    /// Completes when the coordinator's holding session closes: the coordinator is gone, or its
    /// own timeouts ended the hold.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        self.coordinator.closing()
    }

    /// The sessions that had to be ended for it, in words.
    pub fn terminated(&self) -> &[String] {
        &self.terminated
    }
}
