//! What a client sends, over and over: which statement, over which protocol, through
//! which entry node, to which database, for which group.

use std::fmt;
use std::sync::Arc;

use crate::session::Protocol;

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Writes a row: one shard, one group.
    Write,
    /// Reads a row: one shard, one group.
    Read,
    /// Writes rows in all shards, in one distributed transaction. Citus only.
    WriteAll,
    /// Reads all shards. Citus only.
    ReadAll,
}

impl Kind {
    /// True for a statement that concerns a single group.
    pub fn is_single(self) -> bool {
        matches!(self, Self::Write | Self::Read)
    }

    /// True for a statement that changes something.
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::WriteAll)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::WriteAll => "multi-shard write",
            Self::ReadAll => "multi-shard read",
        })
    }
}

/// Clients of one kind. Two clients that agree in all of this are one stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// What it does.
    pub kind: Kind,
    /// How it is sent.
    pub protocol: Protocol,
    /// The entry node: the scope whose leader it is, or a port.
    pub entry_node: Arc<str>,
    /// In which database.
    pub database: Arc<str>,
    /// The worker group that has the row; none for statements of all groups.
    pub group: Option<u32>,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            protocol,
            entry_node,
            database,
            group,
        } = self;
        match group {
            Some(group) => write!(f, "group {group} ")?,
            None => f.write_str("all groups ")?,
        }
        write!(f, "{kind}, {protocol}, {database}, through {entry_node}")
    }
}
