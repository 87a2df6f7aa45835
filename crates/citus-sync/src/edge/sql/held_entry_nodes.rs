//! The entry nodes' part of a hold. Each entry node is held by a task of its own, which begins with the hold and
//! may take longer than the coordinator: an entry node that is slow, silent or busy delays nobody else
//! (rule 9), and its writers are waited for as patiently as the coordinator's.
//!
//! A hold that is lost with the coordinator does not let its entry nodes go: their rows may point at a
//! standby. They are kept for the hold that is taken again, by the same deadline.
//!
//! Enters: the order of a hold, where reads were sent meanwhile, and that the leader is gone. Leaves:
//! the entry nodes that are held by now, those that could not be, and those that have not followed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::entry_nodes::{ENTRY_NODE_PATIENCE, Whose};
use super::hold::HoldOrder;
use super::known_entry_nodes::{EntryNodeNews, Known, LastState, State};
use super::late::DeferredFollower;
use super::locking::{Place, lock};
use super::references::Part;
use super::steps::{Skipped, StepError};
use super::{Connection, Database, EntryNodes};
use citus_core::sql::Dialect;

/// What holds one entry node.
#[derive(Debug)]
pub(super) struct HeldEntryNode {
    pub(super) entry_node: HostPort,
    pub(super) session: Connection,
    pub(super) references: Option<Part>,
}

/// The entry nodes of one hold. Dropping it calls off what is under way and lets go of the rest.
#[derive(Debug)]
pub(super) struct HeldEntryNodes {
    since: Instant,
    tasks: JoinSet<()>,
    known: Known,
}

impl HeldEntryNodes {
    fn none() -> Self {
        Self {
            since: Instant::now(),
            tasks: JoinSet::new(),
            known: Known::default(),
        }
    }

    /// Begins to hold them; those that are `kept` of a hold that was lost are held already.
    pub(super) fn take(
        kept: Option<Self>,
        database: &Database,
        entry_nodes: &EntryNodes,
        dialect: &Arc<Dialect>,
        order: &HoldOrder,
        deadline: Instant,
    ) -> Self {
        let mut all = kept.unwrap_or_else(Self::none);
        let mut missing = Vec::new();
        all.known.tell(|state| {
            let held = |held: &HeldEntryNode| {
                held.session.is_usable() && order.entry_nodes.contains(&held.entry_node)
            };
            state.held.retain(held);
            let missed = order
                .entry_nodes
                .iter()
                .filter(|entry_node| !state.knows(entry_node));
            missing.extend(missed.cloned());
            state.under_way.extend_from_slice(&missing);
        });
        for entry_node in missing {
            let late = DeferredFollower {
                database: database.clone(),
                entry_nodes: entry_nodes.clone(),
                dialect: dialect.clone(),
                group: order.group,
                entry_node: entry_node.clone(),
                known: all.known.clone(),
            };
            all.tasks.spawn(late.follow());
            let (database, entry_nodes, dialect) =
                (database.clone(), entry_nodes.clone(), dialect.clone());
            let (order, known) = (order.clone(), all.known.clone());
            all.tasks.spawn(async move {
                let taken = hold_entry_node(
                    &database,
                    &entry_nodes,
                    &dialect,
                    &order,
                    deadline,
                    &entry_node,
                )
                .await;
                known.tell(|state| state.note(entry_node, taken));
            });
        }
        all
    }

    /// Waits for those that are just about done: they are in time.
    pub(super) async fn settle(&self, grace: Duration) {
        // Those that take longer come later.
        let _ = timeout(grace, self.in_sync()).await;
        self.known.tell(|state| {
            let held = state.held.iter();
            state.in_time = held.map(|held| held.entry_node.clone()).collect();
        });
    }

    /// Completes when it is known of each entry node whether it is held, or when the hold is over.
    pub(super) fn in_sync(&self) -> impl Future<Output = ()> + Send + 'static {
        let known = self.known.clone();
        async move { known.wait_for(|state| state.under_way.is_empty()).await }
    }

    /// Completes when no entry node is about to be held, or about to follow a read move; or when the hold is
    /// over.
    pub(super) fn quiet(&self) -> impl Future<Output = ()> + Send + 'static {
        let known = self.known.clone();
        async move { known.wait_for(State::is_quiet).await }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.known.look().is_quiet()
    }

    pub(super) fn known(&self) -> Known {
        self.known.clone()
    }

    pub(super) fn held(&self) -> Vec<HostPort> {
        let state = self.known.look();
        state
            .held
            .iter()
            .map(|held| held.entry_node.clone())
            .collect()
    }

    /// Those that are being taken.
    pub(super) fn under_way(&self) -> Vec<HostPort> {
        self.known.look().under_way.clone()
    }

    pub(super) fn skipped(&self) -> Vec<Skipped> {
        self.known.look().skipped.clone()
    }

    pub(super) fn terminated(&self) -> Vec<String> {
        self.known.look().terminated.clone()
    }

    /// What was not told yet.
    pub(super) fn news(&self) -> EntryNodeNews {
        let mut news = EntryNodeNews::default();
        self.known.tell(|state| news = state.news());
        news
    }

    /// The leader takes no writes any more: nothing keeps an entry node there.
    pub(super) fn leader_is_gone(&self) {
        self.known.leader_is_gone();
    }

    /// Calls off what is under way; what is held is the caller's to end.
    pub(super) fn end(mut self) -> LastState {
        self.tasks.abort_all();
        let had_time = self.since.elapsed() >= ENTRY_NODE_PATIENCE;
        let mut last = LastState::default();
        self.known.tell(|state| last = state.end(had_time));
        last
    }
}

/// The entry nodes of a hold that is being taken. Unless it comes to that, those of a hold that was lost are
/// kept on.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    entry_nodes: &'a EntryNodes,
    whose: Whose,
    were_kept: bool,
    held: HeldEntryNodes,
}

impl<'a> Taking<'a> {
    pub(super) fn begin(
        database: &Database,
        entry_nodes: &'a EntryNodes,
        dialect: &Arc<Dialect>,
        order: &HoldOrder,
        deadline: Instant,
    ) -> Self {
        let whose = (order.group, database.name.clone());
        let kept = entry_nodes.take_kept(&whose);
        Self {
            entry_nodes,
            whose,
            were_kept: kept.is_some(),
            held: HeldEntryNodes::take(kept, database, entry_nodes, dialect, order, deadline),
        }
    }

    /// The coordinator is held.
    pub(super) fn taken(mut self) -> HeldEntryNodes {
        self.were_kept = false;
        std::mem::replace(&mut self.held, HeldEntryNodes::none())
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if self.were_kept {
            let held = std::mem::replace(&mut self.held, HeldEntryNodes::none());
            self.entry_nodes.keep(self.whose.clone(), held);
        }
    }
}

impl Drop for HeldEntryNodes {
    fn drop(&mut self) {
        // Whoever else knows of them does not keep them.
        let mut held = Vec::new();
        self.known.tell(|state| {
            state.over = true;
            held = std::mem::take(&mut state.held);
        });
    }
}

async fn hold_entry_node(
    database: &Database,
    entry_nodes: &EntryNodes,
    dialect: &Dialect,
    order: &HoldOrder,
    deadline: Instant,
    entry_node: &HostPort,
) -> Result<(HeldEntryNode, Vec<String>), StepError> {
    let mut session = entry_nodes.session(entry_node, &database.name).await?;
    let place = place(entry_nodes, entry_node, database);
    let name = order.session_name();
    let locked = lock(&mut session, &place, &order.locks(dialect, &name, deadline)).await?;
    let held = HeldEntryNode {
        entry_node: entry_node.clone(),
        session,
        references: locked.references,
    };
    Ok((held, locked.terminated))
}

/// An entry node as a place of locks.
pub(super) fn place<'a>(
    entry_nodes: &'a EntryNodes,
    address: &'a HostPort,
    database: &'a Database,
) -> Place<'a> {
    Place::EntryNode {
        entry_nodes,
        address,
        database: &database.name,
    }
}
