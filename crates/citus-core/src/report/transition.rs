//! A transition: one event of a group, from its first news to the last release.

use std::collections::BTreeMap;

use dcs_watch::HostPort;
use serde::{Deserialize, Serialize};

/// The body of `/api/v1/history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Oldest first.
    pub transitions: Vec<Transition>,
}

/// One event of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Which Citus cluster.
    pub formation: String,
    /// Citus `groupid`.
    pub group: i32,
    /// Its Patroni scope.
    pub scope: String,
    /// What it was.
    pub kind: TransitionKind,
    /// When it began, RFC 3339.
    pub at: String,
    /// The leader before it.
    pub from: Option<HostPort>,
    /// The leader after it.
    pub to: Option<HostPort>,
    /// Why, in words.
    pub reason: String,
    /// How it ended.
    pub outcome: TransitionOutcome,
    /// When each thing happened, in whichever database came last.
    pub phases: PhaseTimes,
    /// Each database.
    pub databases: BTreeMap<String, DatabaseTransition>,
}

/// What a transition was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    /// Asked for, and another member led afterwards; or Patroni was asked for it, and the leader that
    /// had stopped for it led again.
    Switchover,
    /// Asked for, and the leader that had stopped led again.
    Restart,
    /// No request came before it.
    Failover,
    /// A hold during which the leader neither stopped nor changed.
    Hold,
    /// A row that was not its leader's, without anything else.
    Move,
}

impl TransitionKind {
    /// The word for logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Restart => "restart",
            Self::Failover => "failover",
            Self::Hold => "hold",
            Self::Move => "move",
        }
    }
}

/// How a transition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionOutcome {
    /// The rows are the new leader's.
    Followed,
    /// The rows are the old leader's, still or again.
    Kept,
    /// The hold's deadline came first.
    Expired,
}

impl TransitionOutcome {
    /// The word for logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::Kept => "kept",
            Self::Expired => "expired",
        }
    }
}

/// When each thing happened, in microseconds since the transition began; none where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTimes {
    /// The request was seen: in etcd, or over HTTP.
    pub requested_us: Option<u64>,
    /// Writes were held, in every database.
    pub held_us: Option<u64>,
    /// Reads went to a standby, in every database.
    pub reads_moved_us: Option<u64>,
    /// The old leader answered no more.
    pub leader_gone_us: Option<u64>,
    /// Another leader key was seen.
    pub leader_key_us: Option<u64>,
    /// The leader took writes.
    pub writable_us: Option<u64>,
    /// The rows were the leader's, in every database.
    pub committed_us: Option<u64>,
    /// Writes went on, in every database.
    pub released_us: Option<u64>,
}

/// What can happen in a transition, in the usual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the fields of PhaseTimes say it")]
pub enum Phase {
    Requested,
    Held,
    ReadsMoved,
    LeaderGone,
    LeaderKey,
    Writable,
    Committed,
    Released,
}

impl Phase {
    /// The word for labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Held => "held",
            Self::ReadsMoved => "reads_moved",
            Self::LeaderGone => "leader_gone",
            Self::LeaderKey => "leader_key",
            Self::Writable => "writable",
            Self::Committed => "committed",
            Self::Released => "released",
        }
    }
}

impl PhaseTimes {
    /// Those that happened, in the usual order, each with its microseconds.
    pub fn happened(&self) -> impl Iterator<Item = (Phase, u64)> + use<> {
        [
            (Phase::Requested, self.requested_us),
            (Phase::Held, self.held_us),
            (Phase::ReadsMoved, self.reads_moved_us),
            (Phase::LeaderGone, self.leader_gone_us),
            (Phase::LeaderKey, self.leader_key_us),
            (Phase::Writable, self.writable_us),
            (Phase::Committed, self.committed_us),
            (Phase::Released, self.released_us),
        ]
        .into_iter()
        .filter_map(|(phase, time)| Some((phase, time?)))
    }
}

/// A transition in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseTransition {
    /// Writes were held.
    pub held_us: Option<u64>,
    /// Reads went to a standby.
    pub reads_moved_us: Option<u64>,
    /// The row was the leader's.
    pub committed_us: Option<u64>,
    /// Writes went on.
    pub released_us: Option<u64>,
    /// Entry nodes that followed.
    pub entry_nodes: usize,
    /// Entry nodes that did not, each as `10.0.0.3:5432: error`.
    pub skipped: Vec<String>,
    /// Sessions that were ended because they were in the way, or whose statement was, in words.
    pub terminated: Vec<String>,
    /// What went wrong last.
    pub error: Option<String>,
}
