//! What the operator wants: one [`Config`], whichever file it was written in.
//!
//! Pure: the path, the environment and a way to read files enter as arguments of [`Config::load`];
//! a checked configuration or a [`ConfigError`] that lists every problem leaves.

pub mod secret;
pub mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dcs_watch::key::ScopeId;

pub use secret::{Origin, Secret};
pub use workers::{Discover, Unresolved, Workers};

use crate::policy::Policy;

/// Everything the daemon needs to know before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where HTTP is served. Loopback unless told otherwise.
    pub listen: SocketAddr,
    /// The etcd cluster that Patroni writes to.
    pub etcd: Etcd,
    /// Patroni's namespace, with a slash at both ends.
    pub namespace: String,
    /// The Citus clusters to look after; never empty.
    pub formations: Vec<Formation>,
    /// Who this instance is among several, and how long its lease lasts.
    pub election: Election,
    /// What was accepted but has no effect, or not the one to expect; each names its key.
    pub warnings: Vec<String>,
    /// The file all this was read from.
    pub source: PathBuf,
}

/// How to reach etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// `http://host:port`, at least one, none twice.
    pub endpoints: Vec<String>,
    /// Set together with `password`, or not at all.
    pub username: Option<String>,
    /// Set together with `username`, or not at all.
    pub password: Option<Secret>,
}

/// The election among several instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// This instance's name; the host's when absent.
    pub name: Option<String>,
    /// How long a silent instance is still taken for the active one.
    pub ttl: Duration,
}

impl Default for Election {
    fn default() -> Self {
        Self { name: None, ttl: Duration::from_secs(10) }
    }
}

/// One Citus cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formation {
    /// Unique; the coordinator's scope unless named.
    pub name: String,
    /// Group 0.
    pub coordinator: Coordinator,
    /// The groups from 1 up.
    pub workers: Workers,
    /// Whether groups without a row are added with `citus_add_node`.
    pub register: bool,
    /// Deadlines and permissions.
    pub policy: Policy,
}

/// Group 0 and how to log in to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// Its Patroni scope.
    pub scope: ScopeId,
    /// The Citus databases; at least one, none twice.
    pub databases: Vec<String>,
    /// The role to log in as.
    pub user: String,
    /// Where that role's password is.
    pub password: Password,
}

/// Where a role's password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Nowhere: the server trusts us, or will say that it does not.
    None,
    /// Known.
    Literal(Secret),
    /// To be looked up for each server in this pgpass file.
    Passfile(PathBuf),
}
