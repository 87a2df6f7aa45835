//! The holds of a group: the one that is open, the one that was asked for, and how far each database
//! is. Leaf types.

use super::Reason;

/// A hold that is open in some database, or being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveHold {
    /// Why it was taken. By now another reason may keep it open.
    pub reason: Reason,
    /// Whether its deadline has passed.
    pub expired: bool,
}

/// A hold that was asked for with `citus-sync hold`, and the leader that is about to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedHold {
    /// The number of the request (see [`Reason::HoldRequest`]).
    pub id: u64,
    /// The member that led when the hold was asked for.
    pub leader: String,
    /// When that member's postmaster was started, in microseconds since 1970 by the member's own
    /// clock; `None` while it has not said so (see [`super::Probe::started`]).
    pub started: Option<i64>,
}

/// How far one database is in a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// No hold.
    #[default]
    No,
    /// The hold waits for its locks.
    Taking,
    /// Writes wait.
    Yes {
        /// The round that began when the hold was complete. Positions that were asked for in an
        /// earlier round do not count.
        round: u64,
    },
}

/// How far one database is with one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How far the hold is.
    pub held: Held,
    /// Whether a row was changed by a plain UPDATE that Citus has not told every worker of.
    pub owes_resync: bool,
    /// Whether our role may not update `pg_dist_node`, so that reads cannot be moved.
    pub no_read_moves: bool,
    /// Whether writes through the group's own leader do not wait, although clients can write there.
    pub leader_open: bool,
}
