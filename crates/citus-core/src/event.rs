//! What happened to a group, published once. The log, the metrics and the history subscribe to it.
//!
//! In: the group reconciler's steps. Out: values; each subscriber words or counts them.

use std::time::Duration;

use dcs_watch::HostPort;

use crate::outcome::{Phases, Skipped};
use crate::plan::{Reason, Rule, Step, Unreached};
use crate::report::Transition;

/// Which group something happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The Citus cluster's name.
    pub formation: String,
    /// Citus `groupid`.
    pub group: i32,
    /// Its Patroni scope.
    pub scope: String,
}

/// Something that happened to one group.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What is decided changed: another row of the table, another leader, other reasons to wait.
    Decided {
        /// The row of the table that matched.
        rule: Rule,
        /// The member that holds the leader key.
        leader: Option<String>,
        /// Whether that member's address is known.
        has_address: bool,
        /// Why nothing is done yet, in words; empty where nothing waits.
        waits: String,
    },
    /// The invariant checker stopped a decision.
    Violation {
        /// The rule that it broke, in words.
        what: String,
    },
    /// The new leader takes writes.
    LeaderWritable {
        /// Since its leader key was first seen.
        after: Duration,
    },
    /// `citus-sync hold` was received.
    HoldRequested {
        /// Which member is about to stop, if that was told.
        member: Option<String>,
        /// How long to hold at most.
        timeout: Duration,
    },
    /// `citus-sync release` was received.
    ReleaseRequested,
    /// Writes of one database are held.
    Held {
        /// The database.
        database: String,
        /// What writes are held for.
        reason: Reason,
        /// Since the hold was wanted first, in whichever database.
        after: Duration,
        /// How many entry nodes are held with it.
        entry_nodes: usize,
        /// How many entry nodes are skipped.
        skipped: usize,
        /// How many sessions had to be ended.
        terminated: usize,
        /// Until its deadline.
        left: Duration,
    },
    /// Writes of one database could not be held.
    HoldFailed {
        /// The database.
        database: String,
        /// What went wrong.
        error: String,
        /// How often that failed in a row, when it is worth a line.
        failures: Option<u32>,
    },
    /// Entry nodes that took longer than the coordinator are held, or are known not to be.
    EntryNodesJoined {
        /// The database.
        database: String,
        /// How many entry nodes are held now.
        held: usize,
        /// How many entry nodes are skipped.
        skipped: usize,
        /// How many sessions had to be ended.
        terminated: usize,
    },
    /// A hold or a move does without an entry node.
    EntryNodeSkipped {
        /// The database.
        database: String,
        /// The entry node, and why it is skipped.
        skipped: Skipped,
    },
    /// Sessions in the way were ended; each was named when it was.
    SessionsTerminated {
        /// The database.
        database: String,
        /// How many sessions.
        count: usize,
    },
    /// The coordinator closed the session that held one database.
    HoldLost {
        /// The database.
        database: String,
    },
    /// A hold reached its deadline.
    HoldExpired {
        /// What it was for.
        reason: Reason,
        /// Whether some database was held, at some time.
        taken: bool,
        /// How long it stood.
        after: Duration,
    },
    /// No write of the group is held any more.
    WritesGoOn {
        /// The member that holds the leader key.
        leader: Option<String>,
        /// How long writes were held.
        after: Duration,
        /// What the hold came to.
        end: HoldEnd,
    },
    /// Reads of one database go to another member.
    ReadsMoved {
        /// The database.
        database: String,
        /// Where reads went until now.
        from: HostPort,
        /// Where reads go from now on.
        to: HostPort,
        /// Since the hold was wanted, if one stands.
        after: Option<Duration>,
        /// How long the read move took.
        took: Duration,
    },
    /// A row is where it should be.
    RowChanged {
        /// The database.
        database: String,
        /// What was done.
        step: Step,
        /// When it happened.
        times: ChangeTimes,
        /// How long it took.
        phases: Phases,
    },
    /// A row was not changed: newer state superseded the step.
    RowSuperseded {
        /// The database.
        database: String,
        /// What was to be done.
        step: Step,
    },
    /// A step failed, and will be tried again.
    Failed {
        /// The database.
        database: String,
        /// What was to be done.
        step: Step,
        /// Why it failed.
        error: String,
        /// Whether it is not known if the rows were changed.
        ambiguous: bool,
        /// How often that failed in a row, when it is worth a line.
        failures: Option<u32>,
    },
    /// A step is tried again.
    Retried {
        /// The database.
        database: String,
    },
    /// The coordinator could not be asked whether it reaches a lost member.
    CoordinatorNotAsked {
        /// The member.
        address: HostPort,
        /// How often that failed in a row.
        failures: u32,
        /// What went wrong.
        error: String,
    },
    /// The coordinator does not reach an address.
    OutOfReach {
        /// In which database it was asked.
        database: String,
        /// The member that is there, if it is one's.
        member: Option<String>,
        /// The address.
        address: HostPort,
        /// Why not.
        why: Unreached,
        /// The group's row points there: its queries fail.
        row: bool,
    },
    /// A clone's row was in the way, and changed places with the group's.
    ClonesRowMoved {
        /// In which database.
        database: String,
        /// The clone's `nodeid`.
        nodeid: i32,
        /// Where its row pointed: where the group's row points now.
        from: HostPort,
        /// Where it points now.
        to: HostPort,
    },
    /// The coordinator reaches an address that it did not reach.
    ReachedAgain {
        /// In which database it was asked.
        database: String,
        /// The address.
        address: HostPort,
    },
    /// Prepared transactions of a lost session were recovered.
    Recovered {
        /// The database.
        database: String,
        /// How many transactions.
        count: u64,
    },
    /// Prepared transactions could not be looked for.
    NotRecovered {
        /// The database.
        database: String,
        /// What went wrong.
        error: String,
    },
    /// An entry node's own metadata has the group elsewhere.
    EntryNodeBehind {
        /// The database.
        database: String,
        /// The entry node.
        node: HostPort,
        /// Where it has the group, if it has it at all.
        there: Option<HostPort>,
    },
    /// An entry node could not be asked where it has the group.
    EntryNodeNotAsked {
        /// The database.
        database: String,
        /// The entry node.
        node: HostPort,
        /// What went wrong.
        error: String,
    },
    /// A transition is over.
    TransitionOver(Transition),
}

/// When things happened around a change of a row, each since the leader key was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeTimes {
    /// Until the leader said that it takes writes.
    pub writable: Duration,
    /// Until the step was started.
    pub started: Duration,
}

/// What a hold came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// The leader is the one that it was.
    Released,
    /// Another member leads.
    Followed,
    /// Its deadline came first: see [`Event::HoldExpired`].
    Expired,
}
