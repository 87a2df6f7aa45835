//! Which database cluster a server belongs to, and whether it has the shards of a group. Leaf types.

use std::collections::BTreeMap;
use std::fmt;

use dcs_watch::{HostPort, SystemId};
use serde::{Deserialize, Serialize};

use crate::topology::COORDINATOR_GROUP;

/// What a server says of the database cluster that it serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its system identifier; `None` while it was not asked, and where our role may not ask.
    pub system: Option<SystemId>,
    /// The timeline of the log that it writes; `None` in recovery.
    pub timeline: Option<u32>,
}

/// The database cluster with whose leader a group was last in sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownCluster {
    /// The leader's system identifier, if our role may ask for it.
    pub system: Option<SystemId>,
    /// When its scope was made: the `create_revision` of Patroni's `initialize` key; `None` if there
    /// was no such key.
    pub created: Option<i64>,
}

/// How many of a group's shards are at a server, in one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardCount {
    /// Shards that the coordinator's metadata has in this group.
    pub expected: u64,
    /// Of these, tables that are there.
    pub found: u64,
    /// The first that is not there.
    pub missing: Option<u64>,
    /// The group that the server takes itself for (`pg_dist_local_group`); `None` if it has no Citus,
    /// and between `pg_upgrade` and `citus_finish_pg_upgrade()`. A worker without metadata says 0.
    pub serves: Option<i32>,
    /// Whether it is the very server on which the coordinator was asked.
    pub is_coordinator: bool,
}

impl ShardCount {
    /// Whether all of the group's shards are at the server at `address`, which has this system
    /// identifier; `known` is that of the cluster that has them, as far as is known.
    ///
    /// # Errors
    ///
    /// Why the group's row must not be pointed there.
    pub fn judge(
        &self,
        group: i32,
        address: &HostPort,
        system: Option<SystemId>,
        known: Option<SystemId>,
    ) -> Result<(), Box<Unproven>> {
        let address = address.clone();
        if self.is_coordinator {
            return Err(Box::new(Unproven::Coordinator { address }));
        }
        if self.found < self.expected {
            return Err(Box::new(Unproven::Missing {
                address,
                group,
                found: self.found,
                expected: self.expected,
                first: self.missing,
                system,
                known,
            }));
        }
        match self.serves {
            // 0 is also what a worker without metadata says.
            Some(serves) if serves != group && serves != COORDINATOR_GROUP => {
                Err(Box::new(Unproven::OtherGroup {
                    address,
                    group,
                    serves,
                }))
            }
            _ => Ok(()),
        }
    }
}

/// The counts, by database and server; or why there is none.
pub type ShardCounts = BTreeMap<(String, HostPort), Result<ShardCount, String>>;

/// Why a server that leads a scope is not known to have the group's shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "shards")]
pub enum Unproven {
    /// They were not counted yet, or could not be.
    NotCounted {
        /// The server.
        address: HostPort,
        /// Why not.
        error: Option<String>,
    },
    /// Some are not there.
    Missing {
        /// The server.
        address: HostPort,
        /// Citus `groupid`.
        group: i32,
        /// So many of them are there.
        found: u64,
        /// So many belong there.
        expected: u64,
        /// The first that is not there.
        first: Option<u64>,
        /// The server's system identifier.
        system: Option<SystemId>,
        /// That of the cluster which has the shards, if it is known.
        known: Option<SystemId>,
    },
    /// The server takes itself for that of another group.
    OtherGroup {
        /// The server.
        address: HostPort,
        /// Citus `groupid`.
        group: i32,
        /// What it says.
        serves: i32,
    },
    /// The server is the coordinator.
    Coordinator {
        /// The server.
        address: HostPort,
    },
}

impl Unproven {
    /// The server.
    pub fn address(&self) -> &HostPort {
        match self {
            Self::NotCounted { address, .. }
            | Self::Missing { address, .. }
            | Self::OtherGroup { address, .. }
            | Self::Coordinator { address } => address,
        }
    }
}

/// Both identifiers, for people.
struct Identifiers(Option<SystemId>, Option<SystemId>);

impl fmt::Display for Identifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |id: Option<SystemId>| id.map_or_else(|| "not known".to_owned(), |id| id.to_string());
        let (system, known) = (name(self.0), name(self.1));
        write!(
            f,
            "Its system identifier is {system}, that of the cluster at the row {known}"
        )
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCounted {
                address,
                error: None,
            } => write!(
                f,
                "{address} is being asked whether it has the group's shards"
            ),
            Self::NotCounted {
                address,
                error: Some(error),
            } => write!(
                f,
                "it is not known whether {address} has the group's shards: {error}"
            ),
            Self::Missing {
                address,
                group,
                found,
                expected,
                first,
                system,
                known,
            } => {
                write!(
                    f,
                    "{address} has {found} of the {expected} shards of group {group}"
                )?;
                if let Some(first) = first {
                    write!(f, " (shard {first} is not there)")?;
                }
                let identifiers = Identifiers(*system, *known);
                write!(
                    f,
                    ": the row is not pointed there. {identifiers}; was the scope made anew? \
                     Restore the data there, or let a member that has it lead; to give the shards \
                     up, move the row by hand (citus_update_node)"
                )
            }
            Self::OtherGroup {
                address,
                group,
                serves,
            } => write!(
                f,
                "{address} says that it serves group {serves}, not {group} \
                 (pg_dist_local_group): the row is not pointed there; fix the member's \
                 connect_address, or the scope's group in the configuration"
            ),
            Self::Coordinator { address } => write!(
                f,
                "{address} is the coordinator itself: the row is not pointed there; fix the \
                 member's connect_address"
            ),
        }
    }
}
