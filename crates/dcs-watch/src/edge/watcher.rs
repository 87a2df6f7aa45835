//! The task that keeps the views true, and the subscriptions to them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use super::settings::{Settings, SettingsError};
use crate::key::ScopeId;
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
    /// The etcd cluster that answered last.
    pub cluster_id: Option<u64>,
    /// The revision of the last list.
    pub revision: i64,
    /// What went wrong last, in words; none once the watch is open again.
    pub last_error: Option<String>,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Puts and deletes that arrived.
    pub events: AtomicU64,
    /// Times that a scope's subscribers were woken.
    pub published: AtomicU64,
    /// Watches that went on where an earlier one broke off.
    pub resumes: AtomicU64,
    /// Connections that were made anew after a failure.
    pub reconnects: AtomicU64,
    /// Puts under a key that could not be read.
    pub malformed_keys: AtomicU64,
    /// Puts of a value that could not be read.
    pub malformed_values: AtomicU64,
    /// Requests: pages of lists.
    pub list_requests: AtomicU64,
    /// Requests: watches.
    pub watch_requests: AtomicU64,
    /// Requests: signs of life.
    pub progress_requests: AtomicU64,
}

impl Counters {
    /// Lists so far, by reason (a label for a metric), in a fixed order.
    pub fn relists(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// How long ago the views were last known to be what etcd says; none before the first time.
    pub fn view_age(&self) -> Option<Duration> {
        None
    }
}

/// Subscriptions to the views. Cheap to clone.
#[derive(Clone)]
pub struct Views {}

impl Views {
    /// One scope's view; works before the scope exists (an empty view). Woken only when something
    /// changed that matters: leader, a member's address, role, state or tags, sync, failover,
    /// config, freshness, lineage, problems. Not by heartbeats.
    pub fn scope(&self, _id: &ScopeId) -> watch::Receiver<Arc<ScopeView>> {
        unimplemented!()
    }

    /// The scopes that exist; changes only when one comes or goes.
    pub fn scopes(&self) -> watch::Receiver<Arc<BTreeSet<ScopeId>>> {
        unimplemented!()
    }

    /// How the watch itself fares.
    pub fn health(&self) -> watch::Receiver<Health> {
        unimplemented!()
    }

    /// Counts since the start.
    pub fn counters(&self) -> Arc<Counters> {
        unimplemented!()
    }
}

/// Starts the task that keeps the views true until `shutdown` is ready. The task ends only then
/// (or by a panic, which is a bug): whoever starts it watches the handle.
pub fn spawn(
    _settings: Settings,
    _shutdown: impl Future<Output = ()> + Send + 'static,
) -> (Views, JoinHandle<()>) {
    unimplemented!()
}

/// Why a list could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No endpoint answered in time.
    #[error("no etcd endpoint answered: {}", .tried.iter().map(|(endpoint, error)| format!("{endpoint}: {error}")).collect::<Vec<_>>().join("; "))]
    Unreachable {
        /// Each endpoint and what came of it.
        tried: Vec<(String, String)>,
    },
    /// etcd refused the user, or wants one.
    #[error(
        "etcd at {endpoint} refused: {error}; check the etcd user, its password and its role's rights on {namespace}"
    )]
    AuthFailed {
        /// Which endpoint.
        endpoint: String,
        /// In etcd's words.
        error: String,
        /// What was to be read.
        namespace: String,
    },
    /// etcd answered, but there is nothing under the namespace.
    #[error(
        "etcd at {endpoint} has no key under {namespace} in API v3: the namespace is wrong, or Patroni writes to API v2 (its configuration says `etcd:` where `etcd3:` is needed)"
    )]
    Empty {
        /// Which endpoint.
        endpoint: String,
        /// What was read.
        namespace: String,
    },
}

/// One linearizable list of all scopes, from the first endpoint that gives it. For commands that
/// look once and end.
pub async fn list_once(_settings: &Settings) -> Result<BTreeMap<ScopeId, ScopeView>, ListError> {
    unimplemented!()
}
