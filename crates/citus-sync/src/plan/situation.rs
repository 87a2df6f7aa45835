//! Everything a decision may look at. Whoever decides gathers it; whoever reads a decision can
//! print it.

use std::collections::BTreeMap;

use dcs_watch::{HostPort, ScopeView};
use serde::{Deserialize, Serialize};

use super::Rows;

/// What a member itself said over SQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeState {
    /// Not asked yet, or asked and not answered yet.
    Unknown,
    /// `pg_is_in_recovery() = false` on a connection that is still open.
    Writable,
    /// `pg_is_in_recovery() = true`: a standby, or a leader that is still being promoted.
    InRecovery,
    /// No connection, or it closed; with the error.
    Unreachable(String),
}

/// A member's answer and what it is an answer to.
///
/// An answer counts only for the leader key it was asked for: a member that led before, was
/// demoted and leads again must answer again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where the question went.
    pub address: HostPort,
    /// `mod_revision` of the leader key the question was asked for.
    pub leader_revision: i64,
    /// The answer.
    pub state: ProbeState,
}

/// Whether this formation's rows may be changed by us at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writes {
    /// Yes.
    Allowed,
    /// Patroni's own Citus integration changes them (rule 11).
    PatroniManages,
    /// The operator asked for watching only (`policy.write: never`).
    ObserveOnly,
}

/// The inputs of one decision about one group.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// Citus `groupid`.
    pub group: i32,
    /// What etcd says of the group's scope.
    pub view: &'a ScopeView,
    /// What the member that holds the leader key says; `None` before the first question.
    pub probe: Option<&'a Probe>,
    /// The lineage of etcd's history (see [`ScopeView::lineage`]) under which this group was last
    /// found settled; `None` before the first time, when there is nothing to mistrust it against.
    pub trusted_lineage: Option<u64>,
    /// What members at the addresses of present rows say; needed only while the lineage is new.
    pub row_probes: &'a BTreeMap<HostPort, ProbeState>,
    /// The rows of every configured database, by database name.
    pub rows: &'a BTreeMap<String, Rows>,
    /// Add a missing group with `citus_add_node`.
    pub register: bool,
    /// Whether we may write.
    pub writes: Writes,
}

impl Situation<'_> {
    /// Whether etcd's history is the one we trusted last, or the first we see.
    pub fn lineage_is_trusted(&self) -> bool {
        self.trusted_lineage
            .is_none_or(|trusted| trusted == self.view.lineage)
    }

    /// The leader's answer, if it is one to the present leader key at its present address.
    pub fn leader_answer(&self) -> &ProbeState {
        const UNKNOWN: &ProbeState = &ProbeState::Unknown;
        let (Some(leader), Some(address), Some(probe)) =
            (&self.view.leader, self.view.leader_address(), self.probe)
        else {
            return UNKNOWN;
        };
        if probe.leader_revision == leader.mod_revision && probe.address == *address {
            &probe.state
        } else {
            UNKNOWN
        }
    }
}
