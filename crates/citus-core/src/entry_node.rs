//! What is to be done at the entry nodes of a hold, and what is heard of them.
//!
//! Leaf types. The group reconciler orders, the daemon carries out and answers, the invariant checker
//! looks at both.

use std::time::Duration;

use dcs_watch::HostPort;

use crate::outcome::Skipped;
use crate::plan::Move;

/// One thing to do at one entry node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryNodeOrder {
    /// Names it: the answer says it again.
    pub id: u64,
    /// Where.
    pub node: HostPort,
    /// What.
    pub action: EntryNodeAction,
}

/// What to do at an entry node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryNodeAction {
    /// Take the group's locks, as on the coordinator.
    Hold {
        /// How long from now until the server ends it.
        left: Duration,
        /// How long writers in the way are waited for before they are terminated.
        cooldown: Duration,
    },
    /// Say when the standby of this move shows whatever was written through the entry node before it
    /// was held.
    CatchUp(Move),
    /// Move the row there, in a transaction beside the one that may hold it.
    Follow(Move),
}

/// The end of a hold at one entry node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryNodeEnd {
    /// Which.
    pub node: HostPort,
    /// Its row has yet to follow this read move.
    pub follow: Option<Move>,
}

/// What is heard of an entry node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryNodeAnswer {
    /// It is held.
    Held {
        /// The sessions that had to be ended for that, in words.
        terminated: Vec<String>,
    },
    /// It is none for the moment, as it leads no group: its clients cannot write.
    IsNone,
    /// It could not be held.
    NotHeld {
        /// Why.
        error: String,
    },
    /// The session that held it was closed.
    Lost,
    /// The standby shows whatever was written through it.
    CaughtUp,
    /// Whether the standby does cannot be known.
    CannotTell,
    /// Its row is moved.
    Followed,
    /// Its row could not be moved.
    DidNotFollow,
}

/// What is heard of an entry node, and of which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryNodeHeard {
    /// In which database.
    pub database: String,
    /// Which.
    pub node: HostPort,
    /// The order that this is about.
    pub order: u64,
    /// What.
    pub answer: EntryNodeAnswer,
}

/// How the entry nodes of a hold are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryNodeStatus {
    /// No entry node is about to be held, or about to follow a read move.
    pub quiet: bool,
    /// Those that are held.
    pub held: Vec<HostPort>,
    /// Those that could not be held, and why.
    pub skipped: Vec<Skipped>,
    /// Those that are being held.
    pub under_way: Vec<HostPort>,
}

/// What the invariant checker has to know of an entry node: what was seen, not what was thought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryNodeFacts {
    /// In which round it was heard that it is held; none while it is not.
    pub held_in: Option<u64>,
    /// It has followed a read move of this hold.
    pub followed: bool,
    /// The standby that shows whatever was written through it before it was held.
    pub shown_by: Option<HostPort>,
}
