//! What is known of one scope from etcd.
//!
//! Enters: parsed values with their revisions (the fold is in [`crate::store`]). Leaves: a
//! [`ScopeView`], one consistent picture with its own freshness.
//!
//! Names and other values in a view are exact: text for people must escape and cut them
//! ([`crate::text`]). [`Problem`] and [`Freshness`] hold text that is safe to print.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::key::ScopeId;
use crate::text::excerpt;
use crate::value::{ClusterConfig, FailoverRequest, HostPort, Lsn, Member, SyncState, SystemId};

/// Bytes of the reason for a stale view that are displayed.
const REASON_BYTES: usize = 500;

/// A value with the etcd revisions at which it was last put and first created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The etcd revision of the put that wrote it.
    pub mod_revision: i64,
    /// The etcd revision at which the key was created. A leader key that was deleted and put again
    /// has a new one even when the name is the same.
    pub create_revision: i64,
}

/// Whether a view is what etcd says now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Freshness {
    /// etcd has not answered yet.
    Unknown,
    /// The view is complete, and etcd answered within the silence limit.
    Fresh,
    /// The view is what etcd said last; etcd has been silent or unreachable since. Not a reason to
    /// change anything.
    Stale {
        /// Why, for people.
        reason: String,
    },
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Fresh => f.write_str("fresh"),
            Self::Stale { reason } => write!(f, "stale: {}", excerpt(reason, REASON_BYTES)),
        }
    }
}

/// At which revisions the keys of a scope were last put; `None` for a key that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRevisions {
    /// The leader key's.
    pub leader: Option<i64>,
    /// The key of the synchronous standbys.
    pub sync: Option<i64>,
}

impl KeyRevisions {
    /// Those that a view knows.
    pub fn of(view: &ScopeView) -> Self {
        Self {
            leader: view.leader.as_ref().map(|leader| leader.mod_revision),
            sync: view.sync.as_ref().map(|sync| sync.mod_revision),
        }
    }
}

/// A key or value of the scope that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The beginning of the key, escaped and cut to a bound.
    pub key: String,
    /// What is wrong with the key or its value, escaped and cut to a bound.
    pub what: String,
    /// The etcd revision at which it was written.
    pub mod_revision: i64,
}

/// What is known of one scope from etcd.
///
/// A value that cannot be read counts as absent, never as what it was before: with a malformed
/// leader key the leader is unknown, and a malformed member has no address. Each malformed value is
/// listed in [`problems`](Self::problems) for as long as it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScopeView {
    /// The scope.
    pub scope: ScopeId,
    /// The name of the member that holds the leader key.
    pub leader: Option<Versioned<String>>,
    /// The id of the lease that the leader key ends with; 0 when there is none.
    pub leader_lease: i64,
    /// The members by name. In a view from the store `mod_revision` is that of a member's last put.
    /// In a view from a subscription it is that of the last put that mattered: heartbeats wake no
    /// subscriber.
    pub members: BTreeMap<String, Versioned<Member>>,
    /// The synchronous standbys.
    pub sync: Option<Versioned<SyncState>>,
    /// A switchover or failover that was requested; none when the key requests nothing.
    pub failover: Option<Versioned<FailoverRequest>>,
    /// The dynamic configuration.
    pub config: Option<Versioned<ClusterConfig>>,
    /// The members that may vouch for the leader without etcd, each with its REST address.
    pub failsafe: Option<Versioned<BTreeMap<String, String>>>,
    /// The system identifier of the scope's database cluster; none before the first member has
    /// finished its bootstrap, and where the `initialize` key is gone or cannot be read. A scope
    /// that was made anew has another `create_revision`, whatever the identifier is.
    pub system: Option<Versioned<SystemId>>,
    /// The leader's position in the write-ahead log when its Patroni last wrote the position to
    /// etcd: the number that Patroni compares with `maximum_lag_on_failover`. None when Patroni
    /// wrote none, or one that cannot be read.
    ///
    /// The position is older than the view. Patroni asks its PostgreSQL once a round and writes the
    /// answer if it changed. So a healthy leader was there up to `loop_wait` ago (10 s unless
    /// configured), or longer while Patroni waits for etcd or PostgreSQL (up to `retry_timeout`).
    /// For a leader that crashed it is the position up to that long *before* the crash: commits in
    /// between are not counted. After a clean stop it is that of the last checkpoint. It stays that
    /// of the old leader until the new one has finished a round. A view that is not fresh adds its
    /// own age. In a standby cluster it is how far the leader of that cluster has received or
    /// replayed.
    ///
    /// A change of the position alone wakes no subscriber; a subscription that is read for another
    /// reason has the newest position.
    pub last_position: Option<Lsn>,
    /// Whether this view is what etcd says now.
    pub freshness: Freshness,
    /// Rises by one when etcd's history is not the one known before (another cluster, a restored or
    /// wiped one). From then on the view must not be trusted until the members themselves agree.
    pub lineage: u64,
    /// Keys and values that could not be read, in the order of their keys.
    pub problems: Vec<Problem>,
}

impl ScopeView {
    /// The view of a scope of which nothing is known yet.
    pub fn empty(scope: ScopeId) -> Self {
        Self {
            scope,
            leader: None,
            leader_lease: 0,
            members: BTreeMap::new(),
            sync: None,
            failover: None,
            config: None,
            failsafe: None,
            system: None,
            last_position: None,
            freshness: Freshness::Unknown,
            lineage: 0,
            problems: Vec::new(),
        }
    }

    /// The member that holds the leader key, if it has a member key too.
    pub fn leader_member(&self) -> Option<&Member> {
        let leader = self.leader.as_ref()?;
        Some(&self.members.get(&leader.value)?.value)
    }

    /// Where the holder of the leader key listens.
    pub fn leader_address(&self) -> Option<&HostPort> {
        self.leader_member()?.address.as_ref()
    }

    /// Whether Patroni is paused in this scope.
    pub fn is_paused(&self) -> bool {
        self.config
            .as_ref()
            .is_some_and(|config| config.value.paused)
    }

    /// Whether etcd has any key of Patroni's for this scope; a position alone does not count.
    pub fn exists(&self) -> bool {
        self.leader.is_some()
            || !self.members.is_empty()
            || self.sync.is_some()
            || self.config.is_some()
            || self.failover.is_some()
            || self.failsafe.is_some()
            || self.system.is_some()
    }

    /// Whether the views differ in nothing that a subscriber must be woken for. Revisions of members
    /// and of problems may differ, and the leader's position, as they do with every heartbeat.
    /// Everything else counts.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        fn values(view: &ScopeView) -> impl Iterator<Item = (&String, &Member)> {
            view.members
                .iter()
                .map(|(name, member)| (name, &member.value))
        }
        fn problems(view: &ScopeView) -> impl Iterator<Item = (&String, &String)> {
            view.problems
                .iter()
                .map(|problem| (&problem.key, &problem.what))
        }
        self.scope == other.scope
            && self.leader == other.leader
            && self.leader_lease == other.leader_lease
            && self.sync == other.sync
            && self.failover == other.failover
            && self.config == other.config
            && self.failsafe == other.failsafe
            && self.system == other.system
            && self.freshness == other.freshness
            && self.lineage == other.lineage
            && values(self).eq(values(other))
            && problems(self).eq(problems(other))
    }
}
