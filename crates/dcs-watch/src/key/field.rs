//! Which of Patroni's keys a key is.

use std::fmt;

use crate::text::{NAME_BYTES, excerpt};

/// Which of Patroni's keys it is.
///
/// `Display` writes the rest of the key's path, as in `members/pg1`, with control characters escaped
/// and a name cut after [`NAME_BYTES`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `leader`: the name of the member that holds the leader lock.
    Leader,
    /// `members/<name>`: what a member says of itself.
    Member(String),
    /// `sync`: the synchronous standbys.
    Sync,
    /// `failover`: a switchover or failover that was requested.
    Failover,
    /// `config`: the dynamic configuration, `pause` among it.
    Config,
    /// `status`: positions in the write-ahead log, the leader's among them; changes all the time.
    Status,
    /// `optime/leader`: the leader's position, where Patroni before 2.1 wrote it, and newer
    /// Patroni does for as long as such a member is in the cluster.
    Optime,
    /// `history`: past timelines.
    History,
    /// `initialize`: the system identifier, empty while the first member bootstraps.
    Initialize,
    /// `failsafe`: the members that may vouch for the leader while etcd is away.
    Failsafe,
    /// Anything else in the scope's folder; ignored, and no problem.
    Other(String),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Member(name) => write!(f, "members/{}", excerpt(name, NAME_BYTES)),
            Self::Sync => f.write_str("sync"),
            Self::Failover => f.write_str("failover"),
            Self::Config => f.write_str("config"),
            Self::Status => f.write_str("status"),
            Self::Optime => f.write_str("optime/leader"),
            Self::History => f.write_str("history"),
            Self::Initialize => f.write_str("initialize"),
            Self::Failsafe => f.write_str("failsafe"),
            Self::Other(rest) => f.write_str(&excerpt(rest, NAME_BYTES)),
        }
    }
}

/// [`Field`], borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldRef<'a> {
    Leader,
    Member(&'a str),
    Sync,
    Failover,
    Config,
    Status,
    Optime,
    History,
    Initialize,
    Failsafe,
    Other(&'a str),
}

impl FieldRef<'_> {
    pub(super) fn to_field(self) -> Field {
        match self {
            Self::Leader => Field::Leader,
            Self::Member(name) => Field::Member(name.to_owned()),
            Self::Sync => Field::Sync,
            Self::Failover => Field::Failover,
            Self::Config => Field::Config,
            Self::Status => Field::Status,
            Self::Optime => Field::Optime,
            Self::History => Field::History,
            Self::Initialize => Field::Initialize,
            Self::Failsafe => Field::Failsafe,
            Self::Other(rest) => Field::Other(rest.to_owned()),
        }
    }
}
