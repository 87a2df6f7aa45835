//! One look at everything, for commands that look once and end.

use std::collections::BTreeMap;

use super::etcd::{Connection, EtcdError};
use super::settings::{Settings, SettingsError};
use crate::event::Event;
use crate::key::ScopeId;
use crate::store::Store;
use crate::view::{Freshness, ScopeView};

/// Why a list could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No endpoint answered in time.
    #[error("no etcd endpoint answered ({})", each(.tried))]
    Unreachable {
        /// Each endpoint and what came of it.
        tried: Vec<(String, String)>,
    },
    /// etcd refused the user, or wants one.
    #[error(
        "etcd {endpoint} refused: {error}; check the etcd user, its password, and that its role may read {namespace}"
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
        "etcd {endpoint} has no key under {namespace} in API v3: either the namespace is another one, or Patroni writes to API v2 (its configuration says `etcd:` where `etcd3:` is needed)"
    )]
    Empty {
        /// Which endpoint.
        endpoint: String,
        /// What was read.
        namespace: String,
    },
}

fn each(tried: &[(String, String)]) -> String {
    let each = tried
        .iter()
        .map(|(endpoint, error)| format!("{endpoint}: {error}"));
    each.collect::<Vec<_>>().join("; ")
}

/// One linearizable list of all scopes, from the first endpoint that gives it.
pub async fn list_once(settings: &Settings) -> Result<BTreeMap<ScopeId, ScopeView>, ListError> {
    settings.validate()?;
    let mut tried = Vec::new();
    for endpoint in &settings.endpoints {
        match list(settings, endpoint).await {
            Ok(store) if store.key_count() == 0 => {
                return Err(ListError::Empty {
                    endpoint: endpoint.clone(),
                    namespace: settings.namespace.to_string(),
                });
            }
            Ok(store) => {
                return Ok(store
                    .views()
                    .map(|view| (view.scope.clone(), view.clone()))
                    .collect());
            }
            Err(EtcdError {
                refused: true,
                what,
            }) => {
                return Err(ListError::AuthFailed {
                    endpoint: endpoint.clone(),
                    error: what,
                    namespace: settings.namespace.to_string(),
                });
            }
            Err(EtcdError { what, .. }) => tried.push((endpoint.clone(), what)),
        }
    }
    Err(ListError::Unreachable { tried })
}

async fn list(settings: &Settings, endpoint: &str) -> Result<Store, EtcdError> {
    let mut connection = Connection::open(settings, endpoint).await?;
    let mut store = Store::new(settings.namespace.clone());
    store.set_freshness(&Freshness::Fresh);
    store.apply(Event::Init);
    let mut revision = None;
    let mut on = None;
    loop {
        let page = connection.page(settings, on).await?;
        let revision = *revision.get_or_insert(page.header.revision);
        let last = page.records.last().map(|record| record.key.clone());
        for record in page.records {
            store.apply(Event::InitPut(record));
        }
        match last {
            Some(last) if page.more => on = Some((revision, last)),
            _ => {
                store.apply(Event::InitDone { revision });
                return Ok(store);
            }
        }
    }
}
