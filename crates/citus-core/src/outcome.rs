//! What came of an execution: how long each phase took, what was skipped, who had to be ended.
//!
//! Leaf types. Executors make them, the group reconciler reads them.

use std::fmt;
use std::time::Duration;

use dcs_watch::HostPort;

/// How long each phase of a step took, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Until the group's locks were ours, or no longer waited for.
    pub locked: Duration,
    /// Until the commit was acknowledged.
    pub committed: Duration,
    /// Whether sessions in the way were terminated.
    pub forced: bool,
}

impl Phases {
    /// Of a step that waited for no lock of the group: there is one moment.
    pub fn in_one(committed: Duration) -> Self {
        Self {
            locked: committed,
            committed,
            forced: false,
        }
    }
}

/// A step that was executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// How long it took.
    pub phases: Phases,
    /// The entry nodes that did not follow, and why; at the end of a hold also those that were not
    /// held. Each that its hold has not told of before.
    pub skipped: Vec<Skipped>,
    /// The sessions that were in the way and had to be ended, in words; at the end of a hold, those
    /// that it has ended at entry nodes since it was last asked.
    pub terminated: Vec<String>,
    /// The row was changed by a plain UPDATE, which Citus tells no worker of: a resync is owed.
    pub plain: bool,
}

/// An entry node that a hold or a move did without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it is.
    pub node: HostPort,
    /// Why.
    pub error: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.error)
    }
}

/// What became of a hold's entry nodes since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryNodeNews {
    /// How many are held by now, all told.
    pub held: usize,
    /// Those that are skipped, and why; each is told once.
    pub skipped: Vec<Skipped>,
    /// The sessions that had to be ended there, in words.
    pub terminated: Vec<String>,
}
