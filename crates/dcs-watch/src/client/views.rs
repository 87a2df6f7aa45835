//! Subscriptions to the views, and what they share with the task that keeps the views true.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use super::counters::{Counters, bump};
use crate::key::{Namespace, ScopeId};
use crate::store::Store;
use crate::value::Lsn;
use crate::view::{Freshness, ScopeView};

/// How the watch itself is doing. Subscribers are woken when one of these changes, not by every
/// event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The freshness of all views.
    pub freshness: Freshness,
    /// See [`ScopeView::lineage`].
    pub lineage: u64,
    /// The endpoint in use, or tried last.
    pub endpoint: String,
    /// The id of the etcd cluster that gave the last list.
    pub cluster_id: Option<u64>,
    /// The etcd revision of the last list.
    pub revision: i64,
    /// The number of keys in the last list. 0 in a fresh view usually means that Patroni writes to
    /// API v2, or under another namespace.
    pub keys: usize,
    /// The last error, for people: escaped, and cut to a bound. None once the watch is open again.
    pub last_error: Option<String>,
}

/// Subscriptions to the views. Cheap to clone.
#[derive(Clone)]
pub struct Views {
    hub: Arc<Mutex<Hub>>,
    counters: Arc<Counters>,
}

impl Views {
    pub(super) fn new(namespace: Namespace, health: Health, counters: Counters) -> Self {
        let hub = Hub {
            store: Store::new(namespace),
            channels: HashMap::new(),
            scopes: watch::Sender::default(),
            health: watch::Sender::new(health),
        };
        Self {
            hub: Arc::new(Mutex::new(hub)),
            counters: Arc::new(counters),
        }
    }

    /// One scope's view; also before the scope exists (an empty view). Subscribers are woken when
    /// something changed that matters: leader, a member's address, role, state or tags, sync,
    /// failover, config, freshness, lineage, problems. Heartbeats wake no subscriber; a new
    /// [position](ScopeView::last_position) is seen when the view is read for another reason.
    pub fn scope(&self, id: &ScopeId) -> watch::Receiver<Arc<ScopeView>> {
        let hub = &mut *self.lock();
        hub.channels
            .entry(id.clone())
            .or_insert_with(|| watch::Sender::new(Arc::new(hub.store.view(id))))
            .subscribe()
    }

    /// The scopes that exist; subscribers are woken when one comes into being or ceases to exist.
    pub fn scopes(&self) -> watch::Receiver<Arc<BTreeSet<ScopeId>>> {
        self.lock().scopes.subscribe()
    }

    /// How the watch itself is doing.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.lock().health.subscribe()
    }

    /// Counts since the start.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Hub> {
        // No code waits or calls out while it holds the lock, so a panic leaves the hub whole.
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the task writes and the subscribers read.
pub(super) struct Hub {
    pub(super) store: Store,
    channels: HashMap<ScopeId, watch::Sender<Arc<ScopeView>>>,
    scopes: watch::Sender<Arc<BTreeSet<ScopeId>>>,
    pub(super) health: watch::Sender<Health>,
}

impl Hub {
    /// Wakes the subscribers of a scope if its view changed in a way that matters.
    pub(super) fn publish(&self, id: &ScopeId, counters: &Counters) {
        let Some(channel) = self.channels.get(id) else {
            return;
        };
        let view = self.store.view(id);
        let woken = channel.send_if_modified(|current| {
            if current.is_equivalent(&view) {
                return false;
            }
            *current = Arc::new(view);
            true
        });
        if woken {
            bump(&counters.published);
        }
    }

    /// [`publish`](Self::publish) for every scope that has a subscriber.
    pub(super) fn publish_all(&self, counters: &Counters) {
        for id in self.channels.keys() {
            self.publish(id, counters);
        }
    }

    /// Wakes the subscribers of the set of scopes.
    pub(super) fn publish_scopes(&self) {
        self.scopes.send_replace(Arc::new(self.store.scopes()));
    }

    /// Sets the leader's position in a scope's view and wakes no subscriber. In place, unless a
    /// reader still has the view: what was read from a subscription never changes.
    pub(super) fn set_position(&self, id: &ScopeId, position: Option<Lsn>) {
        if let Some(channel) = self.channels.get(id) {
            channel.send_if_modified(|current| {
                Arc::make_mut(current).last_position = position;
                false
            });
        }
    }

    /// Drops the channels without a subscriber; a scope may have been read only once.
    pub(super) fn drop_unused(&mut self) {
        self.channels
            .retain(|_, channel| channel.receiver_count() > 0);
    }

    /// The scopes that have a channel.
    #[cfg(test)]
    pub(super) fn channels(&self) -> Vec<&ScopeId> {
        self.channels.keys().collect()
    }
}
