//! The state of the machine: the phase that it is in, and what is known of etcd.

use super::messages::{Header, Moment, Reason};

/// The phase that the machine is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not started.
    Idle,
    /// Waits for a connection.
    Connecting {
        /// What to do then.
        then: AfterConnect,
    },
    /// Waits for pages of a list.
    Listing {
        /// Why it lists.
        reason: Reason,
        /// The first page's header and when it came.
        first: Option<(Header, Moment)>,
        /// Keys so far.
        keys: usize,
    },
    /// Waits for etcd to confirm the watch.
    Opening {
        /// The revision that is already known.
        after: i64,
        /// After a list: when its first page came. None when resuming.
        listed: Option<Moment>,
    },
    /// The watch is open.
    Watching(Watching),
}

/// An open watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watching {
    /// The revision that was known when it opened.
    pub after: i64,
    /// The last revision a stream delivered.
    pub delivered: Option<i64>,
    /// Events up to this revision may still be on their way.
    pub behind: Option<i64>,
    /// When it opened.
    pub opened: Moment,
    /// When etcd was last asked for progress.
    pub asked: Moment,
}

/// What to do with a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterConnect {
    /// List.
    List(Reason),
    /// Open a watch after this revision.
    Resume {
        /// The revision.
        after: i64,
    },
}

/// What is known of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The cluster that gave the last list.
    pub cluster_id: Option<u64>,
    /// The raft term of the last list. Only a list goes through a quorum; a member that is cut off
    /// may raise its own term.
    pub raft_term: u64,
    /// The highest revision seen in this lineage.
    pub revision: i64,
    /// How often etcd's history turned out to be another one.
    pub lineage: u64,
    /// When the views were last known to be complete; none before the first time.
    pub heard: Option<Moment>,
    /// The views count as fresh.
    pub fresh: bool,
    /// When the last list was complete.
    pub listed: Moment,
}

/// The phase, and what is known of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The phase.
    pub state: State,
    /// What is known of etcd.
    pub known: Known,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: State::Idle,
            known: Known::default(),
        }
    }
}
