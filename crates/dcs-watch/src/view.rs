//! What etcd says of one scope.
//!
//! Enters: parsed values with their revisions (the fold is in [`crate::store`]). Leaves:
//! [`ScopeView`], one consistent picture with its own freshness.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::key::ScopeId;
use crate::value::{ClusterConfig, FailoverRequest, HostPort, Lsn, Member, SyncState};

/// A value with the etcd revisions at which it was last put and first created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The etcd revision of the put that wrote it.
    pub mod_revision: i64,
    /// The etcd revision at which the key came to be; a leader key that was deleted and put again
    /// has a new one even when the name is the same.
    pub create_revision: i64,
}

/// How much a view can be trusted to be what etcd says now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Freshness {
    /// Nothing has been heard from etcd yet.
    Unknown,
    /// Complete, and etcd was heard within the deadline.
    Fresh,
    /// What etcd said last; it has been silent or unreachable since. Not a reason to change
    /// anything.
    Stale {
        /// Why, in words.
        reason: String,
    },
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Fresh => f.write_str("fresh"),
            Self::Stale { reason } => write!(f, "stale: {reason}"),
        }
    }
}

/// A key or value of the scope that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The key (a readable form of it).
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// The etcd revision at which it was written.
    pub mod_revision: i64,
}

/// What etcd says of one scope.
///
/// A value that cannot be read counts as absent, never as what it was before: a malformed leader
/// key means that the leader is unknown, a malformed member that it has no address. Each stands
/// in [`problems`](Self::problems) for as long as it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScopeView {
    /// Whose view it is.
    pub scope: ScopeId,
    /// The name of the member that holds the leader key.
    pub leader: Option<Versioned<String>>,
    /// The lease under which the leader key lives; 0 when none.
    pub leader_lease: i64,
    /// The members by name. Their `mod_revision` is that of the last put when the view is read
    /// from the store, and that of the last put that mattered when it comes from a subscription:
    /// heartbeats wake nobody.
    pub members: BTreeMap<String, Versioned<Member>>,
    /// The synchronous standbys.
    pub sync: Option<Versioned<SyncState>>,
    /// A switchover or failover that was asked for; none when the key asks for nothing.
    pub failover: Option<Versioned<FailoverRequest>>,
    /// The dynamic configuration.
    pub config: Option<Versioned<ClusterConfig>>,
    /// The members that may vouch for the leader without etcd, with their REST addresses.
    pub failsafe: Option<Versioned<BTreeMap<String, String>>>,
    /// Whether the first member has finished its bootstrap.
    pub initialized: bool,
    /// How far the leader's log was when the leader's Patroni last wrote it down: the number that
    /// Patroni holds `maximum_lag_on_failover` against. None when it wrote none, or something that
    /// cannot be read.
    ///
    /// It is always older than it looks. Patroni asks its PostgreSQL once a round and writes the
    /// answer if it has changed: a leader that is well was there up to `loop_wait` ago (10 s unless
    /// configured), or longer while etcd or PostgreSQL keep Patroni waiting (up to
    /// `retry_timeout`). For a leader that crashed it is the position up to that long *before* the
    /// crash, and what was committed in between is not counted; after a clean stop it is that of
    /// the last checkpoint. It stays that of the old leader until the new one has finished a round, and a
    /// view that is not fresh adds its own age. In a standby cluster it is how far its leader has
    /// received or replayed.
    ///
    /// Wakes nobody when it alone changes: whoever looks at a subscription sees the newest that
    /// was heard.
    pub last_position: Option<Lsn>,
    /// Whether this is what etcd says now.
    pub freshness: Freshness,
    /// Rises when etcd's history is not the one known before (another cluster, a restored or
    /// wiped one). What is known since must not be trusted until the members themselves agree.
    pub lineage: u64,
    /// Keys and values that could not be read, in the order of their keys.
    pub problems: Vec<Problem>,
}

impl ScopeView {
    /// The view of a scope of which nothing is known.
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
            initialized: false,
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

    /// Whether etcd holds anything of Patroni's for this scope; a position alone does not count.
    pub fn exists(&self) -> bool {
        self.leader.is_some()
            || !self.members.is_empty()
            || self.sync.is_some()
            || self.config.is_some()
            || self.failover.is_some()
            || self.failsafe.is_some()
            || self.initialized
    }

    /// Whether the other view says the same, so that nobody need be woken: revisions of members
    /// and of problems may differ, and the leader's position, as they do with every heartbeat; all
    /// else counts.
    pub fn says_the_same(&self, other: &Self) -> bool {
        fn values(view: &ScopeView) -> impl Iterator<Item = (&String, &Member)> {
            view.members
                .iter()
                .map(|(name, member)| (name, &member.value))
        }
        fn words(view: &ScopeView) -> impl Iterator<Item = (&String, &String)> {
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
            && self.initialized == other.initialized
            && self.freshness == other.freshness
            && self.lineage == other.lineage
            && values(self).eq(values(other))
            && words(self).eq(words(other))
    }
}
