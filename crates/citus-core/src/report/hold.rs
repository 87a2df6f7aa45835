//! Holds asked for over HTTP: what is asked, what is answered, and the one that stands.

use std::collections::BTreeMap;

use dcs_watch::HostPort;
use serde::{Deserialize, Serialize};

/// Asks for a hold: the body of `POST /api/v1/groups/{group}/hold`. Everything may be omitted,
/// and so may the body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldRequest {
    /// The member that is about to stop. When it does not lead, nothing is held.
    pub member: Option<String>,
    /// How long to hold at most, in milliseconds: no longer than the policy's `hold_timeout`,
    /// which is the default.
    pub timeout_ms: Option<u64>,
    /// When the answer has to be there, in milliseconds; 5000 unless told otherwise.
    pub wait_ms: Option<u64>,
}

/// The answer to a request to hold or to release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAnswer {
    /// Which Citus cluster.
    pub formation: String,
    /// Citus `groupid`.
    pub group: i32,
    /// Its Patroni scope.
    pub scope: String,
    /// What it came to.
    pub outcome: HoldOutcome,
    /// The databases whose writes are held now.
    pub held: Vec<String>,
    /// Where reads go meanwhile, when they were moved.
    pub reads_moved_to: Option<HostPort>,
    /// From the request to this answer, in milliseconds.
    pub took_ms: u64,
    /// Entry nodes that could not be held, or are not held yet, with the reason.
    pub skipped: Vec<String>,
    /// The whole in one sentence, for a log.
    pub message: String,
}

/// What a request to hold or to release came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldOutcome {
    /// Writes are held in every database.
    Held,
    /// Writes are held in some databases.
    Partly,
    /// Writes are not held, or not yet.
    NotHeld,
    /// The member that is about to stop does not lead: nothing to hold.
    NotTheLeader,
    /// What was held is released.
    Released,
    /// Nothing was held.
    NothingHeld,
    /// This group is not to be held: it is only observed, for one.
    Refused,
}

/// A hold that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldReport {
    /// Why, in words.
    pub reason: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// When it ends whatever happens, RFC 3339.
    pub deadline: String,
    /// Each database: `taking` or `held`.
    pub databases: BTreeMap<String, String>,
    /// Where reads go meanwhile, when they were moved.
    pub reads_at: Option<HostPort>,
}

/// The answer to a request that no group reconciler could execute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Of which kind.
    pub error: RefusalKind,
    /// What is wrong and what to do, for a person.
    pub message: String,
    /// With [`RefusalKind::NotActive`]: where the active instance serves, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<HostPort>,
}

/// Why a request was refused before it reached a group reconciler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request itself is not understood.
    BadRequest,
    /// The token is missing or wrong.
    Unauthorized,
    /// This daemon was given no API token, so it takes no orders.
    NoToken,
    /// There is no such group.
    UnknownGroup,
    /// Several formations have such a group.
    Ambiguous,
    /// Another instance is the active one.
    NotActive,
}
