//! An entry node: a node through which clients send queries. In: a scope, or a port. Out: the
//! port to connect to, looked up for each connection, as a proxy would.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::scope::Scope;

/// A node through which clients send queries.
#[derive(Clone)]
pub(crate) struct EntryNode {
    name: Arc<str>,
    find: Arc<dyn Fn() -> Result<u16> + Send + Sync>,
}

impl EntryNode {
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

    /// The server that listens on this port.
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

    /// The port to connect to now.
    pub(crate) fn find(&self) -> Result<u16> {
        (self.find)()
    }
}

impl fmt::Debug for EntryNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EntryNode").field(&self.name).finish()
    }
}
