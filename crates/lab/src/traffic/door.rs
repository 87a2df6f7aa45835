//! Where clients enter. In: a scope, or a port. Out: the port to connect to,
//! found anew for each connection, as a proxy would.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::scope::Scope;

/// A node through which statements are sent.
#[derive(Clone)]
pub(crate) struct Door {
    name: Arc<str>,
    find: Arc<dyn Fn() -> Result<u16> + Send + Sync>,
}

impl Door {
    /// The leader of a scope, by etcd's leader key.
    pub(crate) fn leader_of(scope: &Scope) -> Self {
        let (etcd, path) = (scope.etcd.clone(), scope.path("leader"));
        let name = scope.name().to_owned();
        let ports: BTreeMap<String, u16> = scope
            .members()
            .iter()
            .map(|member| (member.name().to_owned(), member.port()))
            .collect();
        let find = move || {
            let leader = etcd
                .get(&path)?
                .with_context(|| format!("scope {name} has no leader now"))?
                .value;
            ports
                .get(&leader)
                .copied()
                .with_context(|| format!("unknown leader {leader}"))
        };
        Self {
            name: scope.name().into(),
            find: Arc::new(find),
        }
    }

    /// Whoever listens on this port.
    pub(crate) fn port(port: u16) -> Self {
        Self {
            name: format!("port {port}").into(),
            find: Arc::new(move || Ok(port)),
        }
    }

    /// The scope's name, or the port.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where to connect to now.
    pub(crate) fn find(&self) -> Result<u16> {
        (self.find)()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Door").field(&self.name).finish()
    }
}
