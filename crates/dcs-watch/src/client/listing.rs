//! One list of all scopes, for commands that look once and end.

use std::collections::BTreeMap;

use super::etcd::{Connection, EtcdError};
use super::settings::{Settings, SettingsError};
use crate::event::Event;
use crate::key::ScopeId;
use crate::store::Store;
use crate::view::{Freshness, ScopeView};

/// What to do when etcd has no key under the namespace.
pub(crate) const NO_KEY_HINT: &str = "either Patroni uses another namespace, or it writes to API v2 \
     (its configuration says `etcd:` where `etcd3:` is needed)";

/// Why there is no list. Displayed without control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No endpoint answered in time.
    #[error("no etcd endpoint answered ({})", each(.tried))]
    Unreachable {
        /// Each endpoint with its error.
        tried: Vec<(String, String)>,
    },
    /// etcd refused the user, or the lack of one.
    #[error(
        "etcd {endpoint} refused: {error}; check the etcd user, its password, and that its role may read {namespace}"
    )]
    AuthFailed {
        /// The endpoint.
        endpoint: String,
        /// etcd's message, escaped and cut to a bound.
        error: String,
        /// The namespace that was to be read.
        namespace: String,
    },
    /// etcd answered, but there is nothing under the namespace.
    #[error(
        "etcd {endpoint} has no key under {namespace} in API v3: {}",
        NO_KEY_HINT
    )]
    Empty {
        /// The endpoint.
        endpoint: String,
        /// The namespace that was read.
        namespace: String,
    },
}

fn each(tried: &[(String, String)]) -> String {
    let each = tried
        .iter()
        .map(|(endpoint, error)| format!("{endpoint}: {error}"));
    each.collect::<Vec<_>>().join("; ")
}

/// Reads one linearizable list of all scopes, from the first endpoint that answers. Every request
/// is bounded by [`Settings::request_timeout`].
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
