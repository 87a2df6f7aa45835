//! A hold: one open transaction on the coordinator and one on each entry node, in which writes to
//! one group's shards wait.
//!
//! 1. The entry nodes begin to be held, each by a task of its own.
//! 2. The coordinator's session takes the locks. The hold stands as soon as it has them.
//! 3. Entry nodes that are just about done are waited for; the others join when they are done.
//!
//! It ends in one of three ways: rolled back (`hold_release.rs`), with the move of its row
//! (`hold_finish.rs`), or lost with the coordinator, which keeps the entry nodes held.
//!
//! It does not touch `pg_dist_node` until its end, so that groups are held side by side. The
//! server itself ends it at its deadline (rule 2): what was held is given back even if this process
//! is frozen, or its host is gone.

use std::time::{Duration, Instant};

use citus_core::outcome::{EntryNodeNews, Skipped};
use dcs_watch::HostPort;

use super::entry_nodes::EntryNodes;
use super::error::StepError;
use super::held_entry_nodes::HeldEntryNodes;
use super::locking::{Locked, lock};
use super::order::HoldOrder;
use super::place::Place;
use super::reads_under_hold::ReadsUnderHold;
use super::taking::Taking;
use crate::session::{Database, Leased, Share};

/// How long a hold that has the coordinator waits for entry nodes that are just about done. The
/// switchover waits for the hold.
const GRACE: Duration = Duration::from_millis(30);

/// An open hold. Dropping it closes its sessions, which releases everything.
#[derive(Debug)]
pub struct Hold {
    pub(super) group: i32,
    pub(super) deadline: Instant,
    pub(super) coordinator: Leased,
    /// Reference tables are held by a session that all holds here share.
    pub(super) reference_tables: Option<Share>,
    pub(super) entry_nodes: EntryNodes,
    pub(super) held: HeldEntryNodes,
    /// The sessions that had to be ended on the coordinator, in words.
    pub(super) terminated: Vec<String>,
}

impl Hold {
    /// Holds coordinator and entry nodes concurrently. It is there as soon as the coordinator is
    /// held, and those entry nodes that are done a moment later; the others go on being taken, and
    /// join it when they are. Entry nodes that were [kept](Hold::keep_entry_nodes) are held
    /// already. May be dropped half-way: then nothing else stays held.
    ///
    /// # Errors
    ///
    /// The coordinator cannot be held. Nothing is held then, but for entry nodes that were kept.
    pub async fn take(
        database: &Database,
        entry_nodes: &EntryNodes,
        order: &HoldOrder,
    ) -> Result<Self, StepError> {
        let deadline = Instant::now() + order.left;
        let dialect = database.dialect()?;
        let taking = Taking::begin(database, entry_nodes, &dialect, order, deadline);
        let name = order.session_name();
        let locks = order.locks(&dialect, &name, deadline);
        let (mut coordinator, _) = database.acquire_for_hold().await?;
        let Locked {
            terminated,
            reference_tables,
        } = lock(&mut coordinator, &Place::Coordinator(database), &locks).await?;
        let held = taking.taken();
        held.settle(GRACE).await;
        Ok(Self {
            group: order.group,
            deadline,
            coordinator,
            reference_tables,
            entry_nodes: entry_nodes.clone(),
            held,
            terminated,
        })
    }

    /// Completes when the coordinator's holding session closes: the coordinator is gone, or its
    /// own timeouts ended the hold.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        self.coordinator.closing()
    }

    /// Completes when it is known of each entry node whether it is held, or when the hold is over.
    pub fn entry_nodes_are_known(&self) -> impl Future<Output = ()> + Send + 'static {
        self.held.in_sync()
    }

    /// Completes when no entry node is about to be held, or about to follow a read move; or when
    /// the hold is over.
    pub fn entry_nodes_are_quiet(&self) -> impl Future<Output = ()> + Send + 'static {
        self.held.quiet()
    }

    /// Whether no entry node is about to be held, or about to follow a read move.
    pub fn is_quiet(&self) -> bool {
        self.held.is_quiet()
    }

    /// The entry nodes that are held by now.
    pub fn entry_nodes(&self) -> Vec<HostPort> {
        self.held.held()
    }

    /// The entry nodes that could not be held, and why.
    pub fn skipped(&self) -> Vec<Skipped> {
        self.held.skipped()
    }

    /// The entry nodes that are being taken, and may join yet.
    pub fn entry_nodes_under_way(&self) -> Vec<HostPort> {
        self.held.under_way()
    }

    /// What became of the entry nodes, as far as it was not reported yet.
    pub fn entry_node_news(&self) -> EntryNodeNews {
        self.held.news()
    }

    /// The sessions that had to be ended, in words, entry nodes included.
    pub fn terminated(&self) -> Vec<String> {
        let coordinator = self.terminated.iter().cloned();
        coordinator.chain(self.held.terminated()).collect()
    }

    /// The sessions that had to be ended on the coordinator, in words.
    pub fn terminated_at_coordinator(&self) -> &[String] {
        &self.terminated
    }

    /// The leader takes no writes any more: reads of entry nodes that are not held follow those
    /// that were moved.
    pub fn leader_is_gone(&self) {
        self.held.leader_is_gone();
    }

    /// What moves reads while this hold is open.
    pub fn reads(&self, database: &Database) -> ReadsUnderHold {
        ReadsUnderHold {
            database: database.clone(),
            entry_nodes: self.entry_nodes.clone(),
            group: self.group,
            known: self.held.known(),
        }
    }

    /// The coordinator closed its session. The entry nodes stay held until this group is held again
    /// in this database, it is [let go](EntryNodes::let_go), or the deadline passes: reads may be
    /// at a standby by now, where their writes would fail.
    pub fn keep_entry_nodes(self, database: &Database) {
        let key = (self.group, database.name.clone());
        self.entry_nodes.keep(key, self.held);
    }
}
