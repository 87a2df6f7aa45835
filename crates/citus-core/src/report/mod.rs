//! What the daemon tells and is told over HTTP: the shape of `/api/v1/state`, of holds asked for
//! and of transitions past.
//!
//! Plain values, serialised and read back by the same types.

mod hold;
mod transition;

use std::collections::BTreeMap;

use dcs_watch::HostPort;
use serde::{Deserialize, Serialize};

pub use hold::{HoldAnswer, HoldOutcome, HoldReport, HoldRequest, Refusal, RefusalKind};
pub use transition::{
    DatabaseTransition, History, Phase, PhaseTimes, Transition, TransitionKind, TransitionOutcome,
};

use crate::plan::{Rule, Unreached, Wait, Writes};

/// The whole of `/api/v1/state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// This program's version.
    pub version: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// Whether `/readyz` says 200.
    pub ready: bool,
    /// Why it does not.
    pub not_ready: Vec<String>,
    /// The watch on etcd.
    pub etcd: EtcdReport,
    /// Each Citus cluster.
    pub formations: Vec<FormationReport>,
    /// The last reload of the configuration; none since the start.
    #[serde(default)]
    pub reload: Option<ReloadReport>,
}

/// What came of reading the configuration again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// How many there were since the start.
    pub count: u64,
    /// When it was, RFC 3339.
    pub at: String,
    /// The keys that were taken over.
    pub applied: Vec<String>,
    /// The keys that are taken over with the next start.
    pub needs_restart: Vec<String>,
    /// Why the file could not be used, and nothing was changed.
    pub refused: Option<String>,
}

/// The watch on etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdReport {
    /// The endpoint in use, or tried last.
    pub endpoint: String,
    /// Whether the views are what etcd says now.
    pub fresh: bool,
    /// `fresh`, `unknown`, or `stale: …`.
    pub freshness: String,
    /// The revision of the last list.
    pub revision: i64,
    /// How long ago the views were last known to be what etcd says, in milliseconds.
    pub view_age_ms: Option<u64>,
    /// What went wrong last; none while the watch is open.
    pub last_error: Option<String>,
}

/// One Citus cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormationReport {
    /// Its name.
    pub name: String,
    /// Whether we may change its rows.
    pub writes: Writes,
    /// The coordinator's scope.
    pub coordinator: String,
    /// Each configured database.
    pub databases: Vec<DatabaseReport>,
    /// Each group, the coordinator's own first.
    pub groups: Vec<GroupReport>,
    /// Configured groups whose scope is not known yet, in words.
    pub unresolved: Vec<String>,
}

/// One database of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseReport {
    /// Its name.
    pub name: String,
    /// The coordinator leader that the session is on, once verified.
    pub server: Option<HostPort>,
    /// The Citus it has.
    pub citus: Option<String>,
    /// How many rows `pg_dist_node` has there, while they are known.
    pub rows: Option<usize>,
    /// Rows that the maintenance daemon has not told every worker yet, by `nodeid`.
    pub unsynced: Vec<i32>,
    /// Why its rows are not known.
    pub error: Option<String>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Citus `groupid`.
    pub group: i32,
    /// Its Patroni scope.
    pub scope: String,
    /// The member that holds the leader key.
    pub leader: Option<String>,
    /// Where it is.
    pub address: Option<HostPort>,
    /// Whether it answered that it takes writes, for this leader key.
    pub writable: bool,
    /// How many members have a key.
    pub members: usize,
    /// Patroni is paused.
    pub paused: bool,
    /// Keys of this scope that could not be read.
    pub problems: Vec<String>,
    /// Which row of the decision table matched.
    pub rule: Rule,
    /// Whether every database's row is the writable leader's.
    pub in_sync: bool,
    /// Each database.
    pub databases: BTreeMap<String, GroupDatabaseReport>,
    /// The last move that was executed.
    pub last_move: Option<MoveReport>,
    /// The hold that stands.
    pub hold: Option<HoldReport>,
    /// What the coordinator says of its own way to the members and to the row.
    #[serde(default)]
    pub reach: Vec<ReachReport>,
}

/// Whether the coordinator reaches an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachReport {
    /// In which database it was asked.
    pub database: String,
    /// The member that is there, if it is one's.
    pub member: Option<String>,
    /// The address.
    pub address: HostPort,
    /// The group's row points there.
    pub row: bool,
    /// Why it does not get there; none where it does.
    pub why: Option<Unreached>,
}

/// One group in one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDatabaseReport {
    /// Where the primary row points.
    pub row: Option<HostPort>,
    /// What is to be done, in words.
    pub step: String,
    /// Why not yet.
    pub wait: Option<Wait>,
    /// Nothing is to be done: the row is the writable leader's.
    pub in_sync: bool,
    /// The step is being executed.
    pub running: bool,
    /// The last attempt failed.
    pub retry: Option<RetryReport>,
}

/// A step that failed and will be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryReport {
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// The last error.
    pub error: String,
}

/// A step that was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReport {
    /// When it was committed, RFC 3339.
    pub at: String,
    /// In which database.
    pub database: String,
    /// What was done, in words.
    pub step: String,
    /// From the leader key seen to the leader found writable, in microseconds.
    pub writable_us: u64,
    /// From the leader key seen to the group's locks taken, in microseconds.
    pub locked_us: u64,
    /// From the leader key seen to the commit acknowledged, in microseconds.
    pub committed_us: u64,
    /// Whether sessions that were in the way had to be terminated.
    pub forced: bool,
}
