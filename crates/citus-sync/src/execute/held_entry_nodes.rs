//! The entry nodes' part of a hold. Each entry node is held by a task of its own, which begins with
//! the hold and may take longer than the coordinator: an entry node that is slow, silent or busy
//! delays no other (rule 9), and its writers are waited for as patiently as the coordinator's.
//!
//! A hold that is lost with the coordinator does not let its entry nodes go: their rows may point
//! at a standby. They are kept for the hold that is taken again, by the same deadline.
//!
//! In: the order of a hold, where reads were sent meanwhile, and that the leader is gone. Out: the
//! entry nodes that are held by now, those that could not be, and those that have not followed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use citus_core::outcome::{EntryNodeNews, Skipped};
use citus_core::sql::Dialect;
use dcs_watch::HostPort;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::deferred_follower::DeferredFollower;
use super::fan_out::ENTRY_NODE_PATIENCE;
use super::held_entry_node::HeldEntryNode;
use super::known_entry_nodes::{Known, LastState, State};
use super::order::HoldOrder;
use crate::session::{Database, EntryNodeSessions};

/// The entry nodes of one hold. Dropping it calls off what is under way and lets go of the rest.
#[derive(Debug)]
pub(super) struct HeldEntryNodes {
    since: Instant,
    tasks: JoinSet<()>,
    known: Known,
}

impl HeldEntryNodes {
    pub(super) fn none() -> Self {
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
        sessions: &EntryNodeSessions,
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
            let follower = DeferredFollower {
                database: database.clone(),
                sessions: sessions.clone(),
                dialect: dialect.clone(),
                group: order.group,
                entry_node: entry_node.clone(),
                known: all.known.clone(),
            };
            all.tasks.spawn(follower.follow());
            let (database, sessions, dialect) =
                (database.clone(), sessions.clone(), dialect.clone());
            let (order, known) = (order.clone(), all.known.clone());
            all.tasks.spawn(async move {
                let taken = HeldEntryNode::take(
                    &database,
                    &sessions,
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

    /// Completes when no entry node is about to be held, or about to follow a read move; or when
    /// the hold is over.
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

    /// What was not reported yet.
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

impl Drop for HeldEntryNodes {
    fn drop(&mut self) {
        // Others may know of them still, and must not keep them.
        let mut held = Vec::new();
        self.known.tell(|state| {
            state.over = true;
            held = std::mem::take(&mut state.held);
        });
    }
}
