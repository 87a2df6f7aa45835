//! What a group reconciler is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use dcs_watch::{HostPort, KeyRevisions, ScopeView};
use time::OffsetDateTime;

use crate::entry_node::EntryNodeHeard;
use crate::outcome::{Finished, Skipped};
use crate::plan::{Neighbour, Probe, Reach, Rows, ShardCount};
use crate::report::HoldRequest;

/// The moment of a step: both clocks are the caller's.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the monotonic clock: deadlines and pauses.
    pub instant: Instant,
    /// By the wall clock: requests that are scheduled, and what people read.
    pub utc: OffsetDateTime,
}

/// What is known of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Its rows.
    pub rows: Rows,
    /// Whether our role may update `pg_dist_node` itself, which a read move does; true until it is
    /// known.
    pub may_update: bool,
}

/// Names who waits for an answer.
pub type RequestId = u64;

/// Something that the group reconciler did not know before.
#[derive(Clone, Debug)]
pub enum Input {
    /// What etcd says of the scope.
    View(Arc<ScopeView>),
    /// What is known of each configured database.
    Databases(BTreeMap<String, DatabaseFacts>),
    /// The latest answers of all members asked, whatever they were asked for.
    Answers(BTreeMap<HostPort, Probe>),
    /// Whether another group of the formation is held.
    OthersHeld(bool),
    /// What the other groups of the formation let this one know.
    Neighbours(Arc<BTreeMap<i32, Neighbour>>),
    /// The coordinator said ahead of time whether it reaches an address.
    ReachHeard {
        /// Which question it answers.
        number: u64,
        /// What it said, or why it could not be asked.
        answer: Result<Reach, String>,
    },
    /// A hold is asked for.
    Hold {
        /// Who waits for the answer.
        id: RequestId,
        /// For whom and how long.
        request: HoldRequest,
    },
    /// The end of a hold is asked for.
    Release {
        /// Who waits for the answer.
        id: RequestId,
    },
    /// An order came to its end.
    Ended(Ended),
    /// An order for an entry node came to its end, or the session that holds one was closed.
    EntryNode(EntryNodeHeard),
    /// The coordinator closed the session that holds one database.
    HoldLost {
        /// Which database.
        database: String,
        /// Which hold: the order that took it.
        order: u64,
    },
    /// A hold that came too late was released.
    Discarded {
        /// In which database.
        database: String,
    },
    /// The coordinator said whether it reaches a member.
    CoordinatorSaid {
        /// Which member.
        address: HostPort,
        /// In which round it was asked.
        round: u64,
        /// What it said, or why it could not be asked.
        answer: Result<bool, String>,
    },
    /// etcd said at which revisions the scope's `leader` and `sync` keys are.
    KeysRead {
        /// What the answer is about.
        number: u64,
        /// The revisions, or why they could not be read.
        answer: Result<KeyRevisions, String>,
    },
    /// The group's shards were counted at a server.
    ShardsCounted {
        /// In which database.
        database: String,
        /// The server.
        address: HostPort,
        /// What the count was about.
        number: u64,
        /// The count, or why there is none.
        answer: Result<ShardCount, String>,
    },
    /// The statements that ran at the leader when reads were moved have ended in one more database, or
    /// it cannot be known.
    ReadersGone {
        /// Of which look for them.
        number: u64,
    },
    /// Prepared transactions were looked for.
    Recovered {
        /// In which database.
        database: String,
        /// How many were recovered, or why none could be.
        result: Result<u64, String>,
    },
    /// Entry nodes said where their own metadata has the group.
    MetadataQueried {
        /// In which database.
        database: String,
        /// Each entry node's answer.
        answers: Vec<(HostPort, Result<Option<HostPort>, String>)>,
    },
    /// This program is asked to stop.
    Stop,
}

/// The end of an order.
#[derive(Clone, Debug)]
pub struct Ended {
    /// In which database.
    pub database: String,
    /// Which order.
    pub order: u64,
    /// When it was started.
    pub started: Instant,
    /// What came of it.
    pub result: Result<Done, Failure>,
    /// Where in its range the pause before the next try is to be, from 0 to 1: chance is the caller's.
    pub jitter: f64,
}

/// What an order that succeeded leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Rows are where they should be.
    Changed(Finished),
    /// The coordinator is held.
    Held {
        /// The sessions that had to be ended there for that, in words.
        terminated: Vec<String>,
    },
    /// Writes go on.
    Released {
        /// Entry nodes whose row has yet to follow a read move, and why.
        not_followed: Vec<Skipped>,
    },
    /// Citus is telling its workers.
    Resynced,
}

/// Why an order failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What matters for what comes next.
    pub kind: FailureKind,
    /// In words, for the person on call.
    pub text: String,
    /// The hold that was to end stands on: `pg_dist_node` stayed locked.
    pub hold_kept: bool,
}

/// What matters of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Newer state superseded the order before it changed anything.
    Superseded,
    /// It is not known whether the rows were changed; they are read again.
    Ambiguous,
    /// A lock was not to be had in time.
    LockTimeout,
    /// Anything else.
    Other,
}
