//! The task that keeps the views true, and the subscriptions to them.
//!
//! Enters: [`Settings`]. Leaves: [`Views`], on which each scope, the set of scopes, and the health
//! of the watch itself can be subscribed to.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::counters::{Counters, bump};
use super::driver::{Reply, Sink, drive};
use super::settings::Settings;
use crate::event::Event;
use crate::key::ScopeId;
use crate::machine::{Known, News};
use crate::store::{Notice, Store};
use crate::value::Lsn;
use crate::view::{Freshness, ScopeView};

/// How the watch itself fares. Changes when one of these does, not with every event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Of all views alike.
    pub freshness: Freshness,
    /// See [`ScopeView::lineage`].
    pub lineage: u64,
    /// The endpoint in use, or tried last.
    pub endpoint: String,
    /// The etcd cluster that gave the last list.
    pub cluster_id: Option<u64>,
    /// The revision of the last list.
    pub revision: i64,
    /// Keys in the last list. None at all in a fresh view usually means that Patroni writes to
    /// API v2, or elsewhere.
    pub keys: usize,
    /// What went wrong last, in words; none once the watch is open again.
    pub last_error: Option<String>,
}

/// What the task writes and subscribers read.
struct Hub {
    store: Store,
    channels: HashMap<ScopeId, watch::Sender<Arc<ScopeView>>>,
    scopes: watch::Sender<Arc<BTreeSet<ScopeId>>>,
    health: watch::Sender<Health>,
}

/// Subscriptions to the views. Cheap to clone.
#[derive(Clone)]
pub struct Views {
    hub: Arc<Mutex<Hub>>,
    counters: Arc<Counters>,
}

impl Views {
    /// One scope's view; works before the scope exists (an empty view). Woken only when something
    /// changed that matters: leader, a member's address, role, state or tags, sync, failover,
    /// config, freshness, lineage, problems. Not by heartbeats: what they say of the leader's
    /// [position](ScopeView::last_position) is seen by whoever borrows the view, for whatever reason.
    pub fn scope(&self, id: &ScopeId) -> watch::Receiver<Arc<ScopeView>> {
        let hub = &mut *self.lock();
        hub.channels
            .entry(id.clone())
            .or_insert_with(|| watch::Sender::new(Arc::new(hub.store.view(id))))
            .subscribe()
    }

    /// The scopes that exist; changes only when one comes or goes.
    pub fn scopes(&self) -> watch::Receiver<Arc<BTreeSet<ScopeId>>> {
        self.lock().scopes.subscribe()
    }

    /// How the watch itself fares.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.lock().health.subscribe()
    }

    /// Counts since the start.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        // Nobody waits or calls out while holding it, so a panic in there leaves it whole.
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the task that keeps the views true until `shutdown` is ready. It ends only then (or by a
/// panic, which is a bug): whoever starts it watches the handle. Needs a tokio runtime with time
/// and I/O; one thread is enough. Settings that cannot work ([`Settings::validate`]) make no task:
/// the views stay unknown, and the health says why.
pub fn spawn(
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> (Views, JoinHandle<()>) {
    let started = Instant::now();
    let health = Health {
        freshness: Freshness::Unknown,
        lineage: 0,
        endpoint: settings.endpoints.first().cloned().unwrap_or_default(),
        cluster_id: None,
        revision: 0,
        keys: 0,
        last_error: settings.validate().err().map(|error| error.to_string()),
    };
    let wrong = health.last_error.clone();
    let hub = Hub {
        store: Store::new(settings.namespace.clone()),
        channels: HashMap::new(),
        scopes: watch::Sender::default(),
        health: watch::Sender::new(health),
    };
    let counters = Arc::new(Counters::new(started));
    let views = Views {
        hub: Arc::new(Mutex::new(hub)),
        counters,
    };
    let mut publisher = Publisher {
        views: views.clone(),
        told: HashSet::new(),
    };
    let task = tokio::spawn(async move {
        if let Some(wrong) = wrong {
            tracing::error!("etcd is not watched: {wrong}");
            shutdown.await;
            return;
        }
        let settings = Arc::new(settings);
        let counters = Arc::clone(&publisher.views.counters);
        drive(&settings, &counters, started, &mut publisher, shutdown).await;
    });
    (views, task)
}

/// Folds what arrives into the store and wakes whom it concerns.
struct Publisher {
    views: Views,
    /// Errors that were told since all was well: an outage is one line for each error, not one for
    /// each try.
    told: HashSet<String>,
}

impl Sink for Publisher {
    fn event(&mut self, event: Event) -> Reply {
        let listed = matches!(event, Event::InitDone { .. });
        let counters = &self.views.counters;
        let hub = &mut *self.views.lock();
        let applied = hub.store.apply(event);
        let (keys, values) = hub.store.malformed();
        counters.malformed_keys.store(keys, Ordering::Relaxed);
        counters.malformed_values.store(values, Ordering::Relaxed);
        applied.notices.iter().for_each(tell);
        for id in &applied.news {
            hub.publish(id, counters);
        }
        for (id, position) in &applied.positions {
            hub.place(id, *position);
        }
        if applied.scopes_changed {
            hub.scopes.send_replace(Arc::new(hub.store.scopes()));
        }
        if listed {
            // Channels that nobody listens to any more; a scope may have been asked for once.
            hub.channels
                .retain(|_, channel| channel.receiver_count() > 0);
        }
        if applied.gap { Reply::Gap } else { Reply::Go }
    }

    fn news(&mut self, news: &News, endpoint: &str, known: &Known) -> Reply {
        match news {
            News::Listing { reason } => tracing::debug!(endpoint, %reason, "listing etcd"),
            News::Listed { revision, keys } => {
                tracing::debug!(endpoint, revision, keys, "listed etcd");
            }
            News::Fresh => tracing::info!(endpoint, "watching etcd"),
            News::Resumed { after } => {
                tracing::info!(endpoint, after, "watching etcd again, nothing was missed");
            }
            News::Broken { error } => {
                if self.told.insert(error.clone()) {
                    tracing::warn!("{error}; trying on");
                } else {
                    tracing::debug!("{error}; trying on");
                }
            }
            News::Stale { reason } => {
                tracing::warn!(endpoint, "the views of all scopes are stale: {reason}");
            }
            News::Lineage { lineage, reason } => tracing::warn!(
                endpoint,
                lineage,
                "{reason}; nothing it says is trusted until the members agree"
            ),
        }
        if matches!(news, News::Fresh | News::Resumed { .. }) {
            self.told.clear();
        }
        let counters = &self.views.counters;
        let hub = &mut *self.views.lock();
        let keys = hub.store.key_count();
        match news {
            News::Fresh => hub.store.set_freshness(&Freshness::Fresh),
            News::Stale { reason } => {
                hub.store.set_freshness(&Freshness::Stale {
                    reason: reason.clone(),
                });
            }
            News::Lineage { lineage, .. } => hub.store.set_lineage(*lineage),
            _ => {}
        }
        // The new lineage reaches the views with the list that begins now, also those of scopes
        // that are in neither list.
        if matches!(news, News::Fresh | News::Stale { .. } | News::Listed { .. }) {
            let all: Vec<_> = hub.channels.keys().cloned().collect();
            for id in &all {
                hub.publish(id, counters);
            }
        }
        hub.health.send_if_modified(|health| {
            let before = health.clone();
            endpoint.clone_into(&mut health.endpoint);
            health.freshness = hub.store.freshness().clone();
            match news {
                News::Listed { revision, .. } => {
                    health.lineage = known.lineage;
                    health.cluster_id = known.cluster_id;
                    health.revision = *revision;
                    health.keys = keys;
                }
                News::Fresh | News::Resumed { .. } => health.last_error = None,
                News::Broken { error } => health.last_error = Some(error.clone()),
                _ => {}
            }
            *health != before
        });
        Reply::Go
    }
}

impl Hub {
    /// Wakes the subscribers of a scope if its view says something else than before.
    fn publish(&self, id: &ScopeId, counters: &Counters) {
        let Some(channel) = self.channels.get(id) else {
            return;
        };
        let view = self.store.view(id);
        let woken = channel.send_if_modified(|current| {
            if current.says_the_same(&view) {
                return false;
            }
            *current = Arc::new(view);
            true
        });
        if woken {
            bump(&counters.published);
        }
    }

    /// Notes the leader's position for whoever looks next, and wakes nobody. In place, unless
    /// somebody holds on to the view: what was taken from a subscription stays what it was.
    fn place(&self, id: &ScopeId, position: Option<Lsn>) {
        if let Some(channel) = self.channels.get(id) {
            channel.send_if_modified(|current| {
                Arc::make_mut(current).last_position = position;
                false
            });
        }
    }
}

fn tell(notice: &Notice) {
    let Notice { scope, problem } = notice;
    let scope = scope.as_ref().map_or_else(String::new, ToString::to_string);
    tracing::warn!(
        scope,
        key = problem.key,
        revision = problem.mod_revision,
        "cannot be read and counts as absent: {}",
        problem.what
    );
}

#[cfg(test)]
mod tests;
