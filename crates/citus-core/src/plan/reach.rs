//! What is known of addresses beyond the group's own view: whether the coordinator reaches them, and
//! what the other groups of the formation have. Leaf types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcs_watch::HostPort;
use serde::{Deserialize, Serialize};

/// Whether the coordinator reaches an address, as it said when it was asked ahead of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is being asked for the first time.
    Asking,
    /// It does, and what the server there said through it, where Citus can ask that.
    Yes(Option<Answerer>),
    /// It does not, and why.
    No(Unreached),
}

/// The server that answered the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answerer {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// `pg_postmaster_start_time()`, in microseconds since 1970 by the server's own clock. No two
    /// servers were started in the same microsecond, so it tells whether two addresses lead to one
    /// server.
    pub started: i64,
}

/// Why the coordinator does not reach an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    /// What kind of failure it is.
    pub kind: UnreachedKind,
    /// The coordinator's own words.
    pub error: String,
}

/// What keeps the coordinator from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnreachedKind {
    /// No server listens there.
    Refused,
    /// No answer came in time.
    Timeout,
    /// The host name has no address there.
    Name,
    /// One side wants TLS and the other has none, or a certificate is not trusted.
    Tls,
    /// The server does not let the coordinator's role in.
    Authentication,
    /// Anything else.
    Other,
}

impl UnreachedKind {
    /// From libpq's words, or the server's.
    pub fn from_error(error: &str) -> Self {
        let error = error.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
        // A server without the TLS that `pg_hba.conf` wants says "no pg_hba.conf entry …, no
        // encryption": which of the two it is, its words decide.
        if says(&["could not translate host name", "name or service not known"]) {
            Self::Name
        } else if says(&[
            "pg_hba.conf",
            "password",
            "authentication",
            "role \"",
            "gssapi",
        ]) {
            Self::Authentication
        } else if says(&["ssl", "tls", "certificate"]) {
            Self::Tls
        } else if says(&[
            "timeout",
            "timed out",
            "could not establish connection after",
        ]) {
            Self::Timeout
        } else if says(&["refused"]) {
            Self::Refused
        } else {
            Self::Other
        }
    }

    /// The word for logs, tables and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Name => "name",
            Self::Tls => "tls",
            Self::Authentication => "authentication",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.kind.name(), self.error)
    }
}

/// What one group of the formation lets the others know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Its scope.
    pub scope: String,
    /// Where its members are; none until its view was read.
    pub members: Option<Vec<HostPort>>,
    /// Its leader, while that is known to take writes.
    pub leader: Option<NeighbourLeader>,
    /// A hold of it stands.
    pub held: bool,
    /// Databases in which its row was found to be its own.
    pub own: BTreeSet<String>,
    /// Databases in which its row may go to that leader, for all that is known of who answers there.
    pub proven: BTreeSet<String>,
}

/// A leader that takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourLeader {
    /// Where it is.
    pub address: HostPort,
    /// `mod_revision` of its leader key.
    pub revision: i64,
}

/// What is known of addresses beyond the group's own view.
#[derive(Clone, Debug, Default)]
pub struct AddressFacts {
    /// The row has a name or an address that follows the leader by itself (`address: fixed`): it is
    /// never rewritten.
    pub fixed: bool,
    /// The other groups of the formation.
    pub neighbours: Arc<BTreeMap<i32, Neighbour>>,
    /// Databases in which the group's row was found at a member of its own scope since this program
    /// began: there this group number means this scope.
    pub own: BTreeSet<String>,
    /// What the coordinator says it reaches, by database. An address that is missing cannot be asked
    /// about.
    pub reach: BTreeMap<String, BTreeMap<HostPort, Reach>>,
}

impl AddressFacts {
    /// What the coordinator says of an address in one database.
    pub fn reach_of(&self, database: &str, address: &HostPort) -> Option<&Reach> {
        self.reach.get(database)?.get(address)
    }

    /// Why the coordinator does not reach an address, if it said that it does not.
    pub fn unreached(&self, database: &str, address: &HostPort) -> Option<&Unreached> {
        match self.reach_of(database, address) {
            Some(Reach::No(why)) => Some(why),
            _ => None,
        }
    }
}
