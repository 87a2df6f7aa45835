//! The whole configuration, and the settings that every formation in it shares.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::formation::Formation;
use super::secret::Secret;

/// Where HTTP is served unless told otherwise: nothing but this host can reach it.
pub(super) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8009);

/// Patroni's own default.
pub(super) const DEFAULT_NAMESPACE: &str = "/service/";

/// Everything the daemon needs to know before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where HTTP is served. Loopback unless told otherwise.
    pub listen: SocketAddr,
    /// What a client must show to have writes held; without one no client can.
    pub token: Option<Secret>,
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
        Self {
            name: None,
            ttl: Duration::from_secs(10),
        }
    }
}
