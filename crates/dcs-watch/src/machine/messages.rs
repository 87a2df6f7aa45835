//! What enters a step of the machine, and what leaves it.

use std::fmt;
use std::time::Duration;

use crate::event::{Event, Record};

/// Time since some fixed start; only differences have a meaning.
pub type Moment = Duration;

/// The time limits that the machine keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long etcd may be quiet before it is asked for progress, a sign of life.
    pub progress_every: Duration,
    /// How long etcd may be silent before the views are stale and the connection is given up.
    pub silence_after: Duration,
    /// How often to list everything anew, without any other reason.
    pub relist_every: Duration,
}

/// The header of each of etcd's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The revision of etcd's store.
    pub revision: i64,
    /// The raft term.
    pub raft_term: u64,
}

/// Why everything is listed.
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
    /// [`Timing::relist_every`] has passed.
    Timer,
}

impl Reason {
    /// All reasons, in a fixed order.
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

    /// The reason as the label of a metric.
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
            Self::Disconnected => "the watch broke before it delivered anything",
            Self::Compacted => "etcd compacted the revisions that the watch needs",
            Self::Canceled => "etcd canceled the watch",
            Self::Silence => "etcd was silent for too long",
            Self::ClusterChanged => "another etcd cluster answered",
            Self::RevisionFell => "etcd's revision is lower than before",
            Self::TermFell => "etcd's raft term is lower than before",
            Self::Gap => "an event is missing",
            Self::Timer => "the periodic list is due",
        })
    }
}

/// What happened: an answer of etcd, a failure, or the passing of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The machine begins.
    Start,
    /// The requested connection is there.
    Connected,
    /// A page of a list.
    Page {
        /// etcd's header; that of the first page has the revision of the list.
        header: Header,
        /// The keys in it.
        records: Vec<Record>,
        /// There are more keys.
        more: bool,
    },
    /// etcd confirmed the watch.
    Opened {
        /// etcd's header.
        header: Header,
    },
    /// The watch delivered events.
    Events {
        /// etcd's header.
        header: Header,
        /// Puts and deletes in the order of their revisions.
        events: Vec<Event>,
    },
    /// etcd reported progress: a sign of life.
    Progress {
        /// etcd's header.
        header: Header,
        /// etcd sent it by itself, in order with the events: everything up to the header's revision
        /// has been delivered.
        ordered: bool,
    },
    /// etcd ended the watch.
    Canceled {
        /// The first revision that is still there, if that is the reason; else 0.
        compact_revision: i64,
        /// etcd's reason, often empty; may hold any text.
        reason: String,
    },
    /// The connection, the list, or the watch failed.
    Failed {
        /// What failed and where, for people.
        error: String,
    },
    /// The store misses an event.
    Gap,
    /// Time passed.
    Tick,
}

/// What is to be done, in order, or to be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Drop the connection and the stream, and connect.
    Connect {
        /// To the next endpoint, not to the same one.
        rotate: bool,
        /// After a pause.
        pause: bool,
    },
    /// Drop the stream, and list from the start.
    List {
        /// After a pause.
        pause: bool,
    },
    /// Read the next page of the list.
    NextPage {
        /// At this revision.
        revision: i64,
        /// After this key.
        after: Vec<u8>,
    },
    /// Open a watch of everything from this revision on.
    Open {
        /// The revision, itself included: the machine drops what the watch repeats.
        from: i64,
    },
    /// Ask for progress, a sign of life, in the stream.
    AskProgress,
    /// Fold this event.
    Event(Event),
    /// Report how the stream is doing.
    Status(StreamStatus),
}

/// How the stream from etcd is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamStatus {
    /// A list begins.
    Listing {
        /// Why.
        reason: Reason,
    },
    /// A list is complete.
    Listed {
        /// At this revision.
        revision: i64,
        /// The number of keys in it.
        keys: usize,
    },
    /// The watch is open and the view complete.
    Fresh,
    /// The watch goes on where an earlier one broke.
    Resumed {
        /// After this revision.
        after: i64,
    },
    /// A connection, a list or a watch failed.
    Broken {
        /// What failed and where, for people.
        error: String,
    },
    /// etcd has been silent for too long.
    Stale {
        /// Why, for people.
        reason: String,
    },
    /// etcd's history is not the one known before.
    Lineage {
        /// How often the history was another one so far.
        lineage: u64,
        /// Why, for people.
        reason: String,
    },
}
