//! A row of `pg_dist_node`, as one database of the coordinator has it.

use std::sync::Arc;

use dcs_watch::HostPort;
use serde::{Deserialize, Serialize};

use super::COORDINATOR_GROUP;

/// `pg_dist_node.noderole`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// The row queries are routed to; Citus allows one a group.
    Primary,
    /// A replica's row, used under `citus.use_secondary_nodes`.
    Secondary,
    /// A clone of a node (`nodeisclone`, Citus 13.2 and later): a streaming standby that Citus may
    /// promote into a node of its own. It is in no group that has shards; its row has a `groupid`
    /// of its own and `noderole` unavailable (`CitusAddCloneNode` in `node_metadata.c`).
    Clone,
    /// Anything newer than this program.
    Unavailable,
}

impl NodeRole {
    /// From the text of the enum `noderole`.
    pub fn from_text(text: &str) -> Self {
        match text {
            "primary" => Self::Primary,
            "secondary" => Self::Secondary,
            "clone" => Self::Clone,
            _ => Self::Unavailable,
        }
    }
}

/// What we read of one row of `pg_dist_node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `nodeid`: placements and metadata hang on it, so a primary row keeps it for ever (rule 6).
    pub nodeid: i32,
    /// `groupid`: 0 is the coordinator.
    pub groupid: i32,
    /// `nodename` and `nodeport`.
    pub address: HostPort,
    /// `noderole`.
    pub role: NodeRole,
    /// `nodecluster`; `default` nearly everywhere.
    pub cluster: String,
    /// `isactive`.
    pub active: bool,
    /// `hasmetadata`: clients may enter through this node (Citus 11 and later).
    pub has_metadata: bool,
    /// `metadatasynced`: false while the maintenance daemon still has to tell this node.
    pub metadata_synced: bool,
}

/// The first part of the name a row bears inside a swap. Never seen by others: the swap
/// is one transaction. `.invalid` never resolves (RFC 2606).
const TEMPORARY_PREFIX: &str = "citus-sync-swap-";

/// What Patroni's own handler puts behind the name of a row that makes way
/// (`patroni/postgresql/mpp/citus.py`, `PgDistGroup.transition`).
const PATRONI_TEMPORARY_SUFFIX: &str = "-demoted";

impl Row {
    /// The address the row bears while its own is given to another row.
    pub fn temporary_address(&self) -> HostPort {
        HostPort {
            host: format!("{TEMPORARY_PREFIX}{}.invalid", self.nodeid),
            port: self.address.port,
        }
    }

    /// Whether this row's name is one that a swap leaves behind when it was cut off: ours, or
    /// Patroni's.
    pub fn is_temporary(&self) -> bool {
        is_temporary(&self.address)
    }

    /// Whether Citus still has to tell this node of a change.
    pub fn is_unsynced(&self) -> bool {
        self.has_metadata && !self.metadata_synced
    }

    /// Whether clients may enter through this node beside the coordinator.
    pub fn is_entry_node(&self) -> bool {
        self.is_primary() && self.active && self.has_metadata && self.groupid != COORDINATOR_GROUP
    }

    /// Whether this row may give its address to the primary row of this group, and take that one's:
    /// no query is routed to it, or only such as take any standby of the group.
    pub fn makes_way_for(&self, group: i32) -> bool {
        self.role == NodeRole::Clone || self.groupid == group && self.role == NodeRole::Secondary
    }

    /// Whether queries of its group are routed to this row.
    pub fn is_primary(&self) -> bool {
        self.role == NodeRole::Primary
    }
}

/// Whether an address is one that only a swap in progress may bear.
pub(crate) fn is_temporary(address: &HostPort) -> bool {
    address.host.starts_with(TEMPORARY_PREFIX) || address.host.ends_with(PATRONI_TEMPORARY_SUFFIX)
}

/// The rows of one database: unknown until read, and again as soon as an answer was ambiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Not read, with the reason a person can act on.
    Unknown(String),
    /// As read from the coordinator leader, ordered by `nodeid`.
    Known(Arc<[Row]>),
}

impl Rows {
    /// Known rows, from whatever order.
    pub fn known(mut rows: Vec<Row>) -> Self {
        rows.sort_by_key(|row| row.nodeid);
        Self::Known(rows.into())
    }
}
