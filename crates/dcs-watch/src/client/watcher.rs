//! The task that keeps the views true.
//!
//! Enters: [`Settings`]. Leaves: [`Views`], on which each scope, the set of scopes, and the health
//! of the watch itself can be subscribed to; and a log of what happens to the watch.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::counters::Counters;
use super::driver::{Reply, Sink, drive};
use super::settings::Settings;
use super::views::{Health, Views};
use crate::event::Event;
use crate::machine::{Known, StreamStatus};
use crate::store::NewProblem;
use crate::view::Freshness;

/// Starts the task that keeps the views true until `shutdown` is ready. The task ends only then, or
/// by a panic, which is a bug: the caller should watch the handle. Needs a tokio runtime with time
/// and I/O; one thread is enough. With settings that cannot work ([`Settings::validate`]) the task
/// contacts no etcd: the views stay unknown, and the health has the error.
pub fn spawn(
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> (Views, JoinHandle<()>) {
    let started = Instant::now();
    let error = settings.validate().err().map(|error| error.to_string());
    let health = Health {
        freshness: Freshness::Unknown,
        lineage: 0,
        endpoint: settings.endpoints.first().cloned().unwrap_or_default(),
        cluster_id: None,
        revision: 0,
        keys: 0,
        last_error: error.clone(),
    };
    let counters = Counters::new(started);
    let views = Views::new(settings.namespace.clone(), health, counters);
    let mut publisher = Publisher::new(views.clone());
    let task = tokio::spawn(async move {
        if let Some(error) = error {
            tracing::error!("etcd is not watched: {error}");
            shutdown.await;
            return;
        }
        let settings = Arc::new(settings);
        let counters = publisher.views.counters();
        drive(&settings, &counters, started, &mut publisher, shutdown).await;
    });
    (views, task)
}

/// Folds the events into the store, and wakes the subscribers that they concern.
struct Publisher {
    views: Views,
    /// Errors that were logged since the watch was last open: an outage is one line for each error,
    /// not one for each try.
    logged: HashSet<String>,
}

impl Publisher {
    fn new(views: Views) -> Self {
        Self {
            views,
            logged: HashSet::new(),
        }
    }

    fn log(&mut self, status: &StreamStatus, endpoint: &str) {
        match status {
            StreamStatus::Listing { reason } => {
                tracing::debug!(endpoint, %reason, "listing etcd");
            }
            StreamStatus::Listed { revision, keys } => {
                tracing::debug!(endpoint, revision, keys, "listed etcd");
            }
            StreamStatus::Fresh => tracing::info!(endpoint, "watching etcd"),
            StreamStatus::Resumed { after } => {
                tracing::info!(endpoint, after, "watching etcd again, no event was missed");
            }
            StreamStatus::Broken { error } => {
                if self.logged.insert(error.clone()) {
                    tracing::warn!("{error}; retrying");
                } else {
                    tracing::debug!("{error}; retrying");
                }
            }
            StreamStatus::Stale { reason } => {
                tracing::warn!(endpoint, "the views of all scopes are stale: {reason}");
            }
            StreamStatus::Lineage { lineage, reason } => tracing::warn!(
                endpoint,
                lineage,
                "{reason}; its views are not trusted until the members agree"
            ),
        }
        if matches!(status, StreamStatus::Fresh | StreamStatus::Resumed { .. }) {
            self.logged.clear();
        }
    }
}

impl Sink for Publisher {
    fn event(&mut self, event: Event) -> Reply {
        let list_is_complete = matches!(event, Event::InitDone { .. });
        let counters = self.views.counters();
        let hub = &mut *self.views.lock();
        let applied = hub.store.apply(event);
        let (keys, values) = hub.store.malformed();
        counters.malformed_keys.store(keys, Ordering::Relaxed);
        counters.malformed_values.store(values, Ordering::Relaxed);
        applied.problems.iter().for_each(log_problem);
        for id in &applied.changed {
            hub.publish(id, &counters);
        }
        for (id, position) in &applied.positions {
            hub.set_position(id, *position);
        }
        if applied.scopes_changed {
            hub.publish_scopes();
        }
        if list_is_complete {
            hub.drop_unused();
        }
        if applied.gap {
            Reply::Gap
        } else {
            Reply::Continue
        }
    }

    fn status(&mut self, status: &StreamStatus, endpoint: &str, known: &Known) -> Reply {
        self.log(status, endpoint);
        let counters = self.views.counters();
        let hub = &mut *self.views.lock();
        match status {
            StreamStatus::Fresh => hub.store.set_freshness(&Freshness::Fresh),
            StreamStatus::Stale { reason } => {
                hub.store.set_freshness(&Freshness::Stale {
                    reason: reason.clone(),
                });
            }
            StreamStatus::Lineage { lineage, .. } => hub.store.set_lineage(*lineage),
            _ => {}
        }
        // A new lineage reaches the views with the list that follows, also those of scopes that are
        // in neither list.
        if matches!(
            status,
            StreamStatus::Fresh | StreamStatus::Stale { .. } | StreamStatus::Listed { .. }
        ) {
            hub.publish_all(&counters);
        }
        let (keys, freshness) = (hub.store.key_count(), hub.store.freshness().clone());
        hub.health.send_if_modified(|health| {
            let before = health.clone();
            endpoint.clone_into(&mut health.endpoint);
            health.freshness = freshness;
            match status {
                StreamStatus::Listed { revision, .. } => {
                    health.lineage = known.lineage;
                    health.cluster_id = known.cluster_id;
                    health.revision = *revision;
                    health.keys = keys;
                }
                StreamStatus::Fresh | StreamStatus::Resumed { .. } => health.last_error = None,
                StreamStatus::Broken { error } => health.last_error = Some(error.clone()),
                _ => {}
            }
            *health != before
        });
        Reply::Continue
    }
}

fn log_problem(new: &NewProblem) {
    let NewProblem { scope, problem } = new;
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
