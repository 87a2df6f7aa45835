//! Everything a decision may look at: what etcd, the members and the rows say, what is held, and
//! what the policy allows.

use std::collections::BTreeMap;

use dcs_watch::{HostPort, KeyRevisions, Lsn, ScopeView};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    ActiveHold, AddressFacts, COORDINATOR_GROUP, Identity, KnownCluster, Progress, Reason,
    RequestedHold, Rows, ShardCounts,
};

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
    /// There is no connection, or it closed; with the error.
    Unreachable(String),
    /// The server is there but answers no question: it has no connection free, or refuses our login.
    Refuses(String),
}

/// How far a member is in the write-ahead log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Written to disk: flushed by a primary, received and flushed by a standby. `None` at a
    /// standby that has not streamed since it was started.
    pub written: Option<Lsn>,
    /// Replayed by a standby; `None` at a primary.
    pub replayed: Option<Lsn>,
    /// A standby that has replayed whatever can be: it found no more of the log anywhere and waits
    /// before it looks again. What it received beyond that is the beginning of a record whose end
    /// died with the primary; there is no whole commit in it.
    pub exhausted: bool,
}

/// A member's answer and what it is an answer to.
///
/// As to whether the member takes writes, an answer counts only for the leader key it was asked
/// for: a member that led before, was demoted and leads again must answer again. As to positions,
/// it counts only for what had happened when it was asked, which its round tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The address that was asked.
    pub address: HostPort,
    /// `mod_revision` of the leader key the question was asked for.
    pub leader_revision: i64,
    /// The round in which the question was asked. A new round begins when a hold is complete, and
    /// when a member is lost: older positions say nothing about either.
    pub round: u64,
    /// The answer.
    pub state: ProbeState,
    /// How far the member is in the write-ahead log.
    pub position: Position,
    /// When its postmaster was started, in microseconds since 1970, by its own clock.
    pub started: Option<i64>,
    /// Which database cluster it serves.
    pub identity: Identity,
}

/// Whether the coordinator reaches a member that we do not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// The coordinator reaches the member: what is broken is between the member and us.
    Reachable,
    /// The coordinator does not reach the member either.
    Unreachable {
        /// The round that began when the coordinator said so.
        round: u64,
    },
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

/// What the policy allows beyond following a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Reads may be sent to a caught-up standby (`policy.read_move`).
    pub read_move: bool,
    /// Reads may be sent to an asynchronous standby that is at most this many bytes of the log
    /// behind; `None`: to no asynchronous standby (`policy.read_move_max_lag`).
    pub max_lag: Option<u64>,
    /// Writes are held on a failover request, and not only when asked (`policy.hold_on_request`).
    pub hold_on_request: bool,
    /// Writes are held when the leader is lost (`policy.hold_on_leader_loss`).
    pub hold_on_leader_loss: bool,
}

/// The inputs of one decision about one group.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// Citus `groupid`.
    pub group: i32,
    /// What etcd says of the group's scope.
    pub view: &'a ScopeView,
    /// The latest answers of members, whatever they were asked for.
    pub answers: &'a BTreeMap<HostPort, Probe>,
    /// What the coordinator says of members that we lost.
    pub reachability: &'a BTreeMap<HostPort, Reachability>,
    /// The lineage of etcd's history (see [`ScopeView::lineage`]) under which this group was last
    /// found in sync; `None` before the first time, when there is nothing to mistrust it against.
    pub trusted_lineage: Option<u64>,
    /// The database cluster with whose leader this group was last found in sync; `None` before the
    /// first time.
    pub known_cluster: Option<KnownCluster>,
    /// How many of the group's shards were counted at servers of clusters that are not known.
    pub shards: &'a ShardCounts,
    /// At which revisions etcd itself has the `leader` and `sync` keys, read linearizably since the
    /// last loss began; `None` until it has answered.
    pub keys: Option<KeyRevisions>,
    /// The rows of every configured database, by database name.
    pub rows: &'a BTreeMap<String, Rows>,
    /// How far each database is in a hold; one that is missing has none.
    pub progress: &'a BTreeMap<String, Progress>,
    /// The hold that is open, in whichever databases.
    pub active_hold: Option<&'a ActiveHold>,
    /// The hold that was asked for with `citus-sync hold` and whose request is not over.
    pub requested_hold: Option<&'a RequestedHold>,
    /// Reasons whose hold reached its deadline: never again for the same one.
    pub given_up: &'a [Reason],
    /// What is known of addresses beyond the view.
    pub addresses: &'a AddressFacts,
    /// Whether a missing group is added with `citus_add_node`.
    pub register: bool,
    /// Whether this program may change the rows.
    pub writes: Writes,
    /// What the policy allows.
    pub limits: Limits,
    /// Whether this program is about to stop: then nothing is held any more.
    pub stopping: bool,
    /// Now, by our clock; only for requests that are scheduled.
    pub now: OffsetDateTime,
}

impl<'a> Situation<'a> {
    /// Whether etcd's history is the one we trusted last, or the first we see.
    pub fn lineage_is_trusted(&self) -> bool {
        self.trusted_lineage
            .is_none_or(|trusted| trusted == self.view.lineage)
    }

    /// What was last heard of a member, whatever it was asked for.
    pub fn state_of(&self, address: &HostPort) -> &'a ProbeState {
        const UNKNOWN: &ProbeState = &ProbeState::Unknown;
        self.answers
            .get(address)
            .map_or(UNKNOWN, |probe| &probe.state)
    }

    /// The leader's answer, if it is one to the present leader key at its present address.
    pub fn leader_answer(&self) -> &'a ProbeState {
        self.leader_probe()
            .map_or(const { &ProbeState::Unknown }, |probe| &probe.state)
    }

    /// The leader's answer to the present leader key, with its position.
    pub fn leader_probe(&self) -> Option<&'a Probe> {
        let leader = self.view.leader.as_ref()?;
        let probe = self.answers.get(self.view.leader_address()?)?;
        (probe.leader_revision == leader.mod_revision).then_some(probe)
    }

    /// Where the group's primary row points in one database, while that is known.
    pub fn row_of(&self, database: &str) -> Option<&'a HostPort> {
        let Rows::Known(rows) = self.rows.get(database)? else {
            return None;
        };
        let own = rows
            .iter()
            .find(|row| row.groupid == self.group && row.is_primary());
        own.map(|row| &row.address)
    }

    /// How far one database is in a hold.
    pub fn progress_of(&self, database: &str) -> Progress {
        self.progress.get(database).copied().unwrap_or_default()
    }

    /// Whether this group can be held at all: the coordinator's own group cannot, because the
    /// session that holds is on the very server that goes down.
    pub fn can_be_held(&self) -> bool {
        self.group != COORDINATOR_GROUP && self.writes == Writes::Allowed
    }
}
