//! The machine's words: what enters a step and what leaves it.

use std::fmt;
use std::time::Duration;

use crate::event::{Event, Record};

/// Time since some fixed start; only differences count.
pub type Moment = Duration;

/// The limits the machine keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After how much quiet to ask for a sign of life.
    pub progress_every: Duration,
    /// After how much silence to give up.
    pub silence_after: Duration,
    /// How often to list for no reason at all.
    pub relist_every: Duration,
}

/// What etcd says of itself in each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The store's revision.
    pub revision: i64,
    /// The raft term.
    pub raft_term: u64,
}

/// Why a list is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing is known yet.
    First,
    /// The stream broke before it had delivered anything.
    Disconnected,
    /// etcd has compacted away what the watch would need.
    Compacted,
    /// etcd canceled the watch.
    Canceled,
    /// Nothing was heard for too long.
    Silence,
    /// Another etcd cluster answered.
    ClusterChanged,
    /// The revision was lower than one known before.
    RevisionFell,
    /// The raft term was lower than one known before.
    TermFell,
    /// An event is missing.
    Gap,
    /// It was time.
    Timer,
}

impl Reason {
    /// All of them, in a fixed order.
    pub const ALL: [Self; 10] = [
        Self::First,
        Self::Disconnected,
        Self::Compacted,
        Self::Canceled,
        Self::Silence,
        Self::ClusterChanged,
        Self::RevisionFell,
        Self::TermFell,
        Self::Gap,
        Self::Timer,
    ];

    /// A word for a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Disconnected => "disconnected",
            Self::Compacted => "compacted",
            Self::Canceled => "canceled",
            Self::Silence => "silence",
            Self::ClusterChanged => "cluster_changed",
            Self::RevisionFell => "revision_fell",
            Self::TermFell => "term_fell",
            Self::Gap => "gap",
            Self::Timer => "timer",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "nothing is known yet",
            Self::Disconnected => "the watch broke off before it had delivered anything",
            Self::Compacted => "etcd has compacted the revisions in between",
            Self::Canceled => "etcd canceled the watch",
            Self::Silence => "etcd was silent for too long",
            Self::ClusterChanged => "another etcd cluster answered",
            Self::RevisionFell => "etcd's revision is lower than before",
            Self::TermFell => "etcd's raft term is lower than before",
            Self::Gap => "an event is missing",
            Self::Timer => "it was time for a full look",
        })
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Begin.
    Start,
    /// The connection that was asked for stands.
    Connected,
    /// A page of a list.
    Page {
        /// etcd's header; of the first page it says the revision of the list.
        header: Header,
        /// The keys in it.
        records: Vec<Record>,
        /// There are more.
        more: bool,
    },
    /// The watch was confirmed.
    Opened {
        /// etcd's header.
        header: Header,
    },
    /// Events.
    Events {
        /// etcd's header.
        header: Header,
        /// Puts and deletes in the order of their revisions.
        events: Vec<Event>,
    },
    /// A sign of life.
    Progress {
        /// etcd's header.
        header: Header,
        /// Sent by etcd on its own accord, in order with the events: everything up to the header's
        /// revision has been delivered.
        ordered: bool,
    },
    /// etcd ended the watch.
    Canceled {
        /// Not 0: the first revision that is still there.
        compact_revision: i64,
        /// In etcd's words, often none.
        reason: String,
    },
    /// The connection, the list, or the watch failed.
    Failed {
        /// What and where, in words.
        error: String,
    },
    /// Whoever folds the events misses one.
    Gap,
    /// Time passed.
    Tick,
}

/// What is to be done, or to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Drop connection and stream, and connect.
    Connect {
        /// To the next endpoint.
        rotate: bool,
        /// After a pause.
        pause: bool,
    },
    /// Drop the stream, and list from the start.
    List {
        /// After a pause.
        pause: bool,
    },
    /// List on.
    NextPage {
        /// At this revision.
        revision: i64,
        /// After this key.
        after: Vec<u8>,
    },
    /// Open a watch of everything from this revision on.
    Open {
        /// The revision, itself included: what it repeats is dropped here.
        from: i64,
    },
    /// Ask for a sign of life in the stream.
    AskProgress,
    /// For whoever folds the events.
    Event(Event),
    /// For whoever wants to know how the stream fares.
    News(News),
}

/// How the stream fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A list begins.
    Listing {
        /// Why.
        reason: Reason,
    },
    /// A list is complete.
    Listed {
        /// At this revision.
        revision: i64,
        /// So many keys.
        keys: usize,
    },
    /// The watch is open and the view complete.
    Fresh,
    /// The watch goes on where an earlier one broke off.
    Resumed {
        /// After this revision.
        after: i64,
    },
    /// A connection, a list or a watch failed.
    Broken {
        /// What and where, in words.
        error: String,
    },
    /// etcd has been silent for too long.
    Stale {
        /// In words.
        reason: String,
    },
    /// etcd's history is not the one known before.
    Lineage {
        /// The new count.
        lineage: u64,
        /// In words.
        reason: String,
    },
}
