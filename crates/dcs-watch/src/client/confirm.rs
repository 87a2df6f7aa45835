//! One linearizable read of the keys that say who leads a scope and who is synchronous, for what must
//! not be decided on a watch that lags.
//!
//! Enters: a scope. Leaves: the revisions at which etcd has these keys now ([`KeyRevisions`]), to be
//! compared with those of a view.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::etcd::{Connection, EtcdError};
use super::settings::Settings;
use crate::key::ScopeId;
use crate::view::KeyRevisions;

/// Reads keys of etcd on a connection of its own, which stays open. Cheap to clone.
#[derive(Clone)]
pub struct Confirm {
    settings: Arc<Settings>,
    connection: Arc<Mutex<Option<Connection>>>,
}

impl Confirm {
    /// Nothing is connected yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            connection: Arc::default(),
        }
    }

    /// Reads the keys of one scope, linearizably: a member of etcd that is behind or cut off does not
    /// answer. The endpoints are tried in turn, each within [`Settings::request_timeout`].
    ///
    /// # Errors
    ///
    /// What the last endpoint said, for people.
    pub async fn keys(&self, scope: &ScopeId) -> Result<KeyRevisions, String> {
        let mut open = self.connection.lock().await;
        if let Some(connection) = open.as_mut()
            && let Ok(keys) = self.read(connection, scope).await
        {
            return Ok(keys);
        }
        *open = None;
        let mut last = "no endpoint is configured".to_owned();
        for endpoint in &self.settings.endpoints {
            let answer = match Connection::open(&self.settings, endpoint).await {
                Ok(mut connection) => {
                    let keys = self.read(&mut connection, scope).await;
                    keys.map(|keys| (keys, connection))
                }
                Err(error) => Err(error),
            };
            match answer {
                Ok((keys, connection)) => {
                    *open = Some(connection);
                    return Ok(keys);
                }
                Err(error) => last = format!("etcd {endpoint}: {error}"),
            }
        }
        Err(last)
    }

    async fn read(
        &self,
        connection: &mut Connection,
        scope: &ScopeId,
    ) -> Result<KeyRevisions, EtcdError> {
        let folder = format!("{}{}", self.settings.namespace.as_str(), scope.path());
        let keys = [format!("{folder}/leader"), format!("{folder}/sync")];
        let [leader, sync] = connection.revisions(&self.settings, keys).await?;
        Ok(KeyRevisions { leader, sync })
    }
}
