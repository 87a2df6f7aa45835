//! What a decision may break.

use dcs_watch::HostPort;
use thiserror::Error;

/// A decision that must not be carried out. Each variant names the rule of `docs/design.md`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// Rule 1.
    #[error(
        "rule 1: {address} is not the leader that answered writable for leader key revision {revision}"
    )]
    NotTheWritableLeader {
        /// Where the decision points.
        address: HostPort,
        /// The leader key's `mod_revision`, 0 when there is none.
        revision: i64,
    },
    /// Rule 1b.
    #[error("rule 1: {address} was not found to be a standby that has everything")]
    NotCaughtUp {
        /// Where the decision sends reads.
        address: HostPort,
    },
    /// Rule 1: who answered.
    #[error("rule 1: the server at {address} is of another database cluster than the scope")]
    ForeignServer {
        /// The server.
        address: HostPort,
    },
    /// Rule 1: who answered.
    #[error("rule 1: {address} was not found to have the group's shards")]
    UnprovenShards {
        /// The server.
        address: HostPort,
    },
    /// Rule 2.
    #[error("rule 2: the hold's deadline has passed, or this group is never held")]
    NoHoldNow,
    /// Rule 2: a move beside our own hold would wait for it.
    #[error("rule 2: a hold is being taken, and nothing else may be done before its end")]
    HoldUnderWay,
    /// Rule 4.
    #[error("rule 4: etcd went back in time and {address} was not found to refuse writes")]
    UnprovenLineage {
        /// Where the row points.
        address: HostPort,
    },
    /// Rule 5.
    #[error("rule 5: the view is not fresh")]
    NotFresh,
    /// Rule 6.
    #[error("rule 6: node {nodeid} is not the group's primary row at {from}")]
    NotThePrimaryRow {
        /// The decision's `nodeid`.
        nodeid: i32,
        /// Where the decision believes it to be.
        from: HostPort,
    },
    /// Rule 6.
    #[error("rule 6: there is no node {nodeid}")]
    UnknownNode {
        /// The decision's `nodeid`.
        nodeid: i32,
    },
    /// Rule 6.
    #[error("rule 6: {address} would be left behind as a temporary name, or given to two rows")]
    BadSwap {
        /// The address.
        address: HostPort,
    },
    /// Rule 6.
    #[error("rule 6: {address} is not to be exchanged: {why}")]
    BadExchange {
        /// Where a row of the exchange is to point.
        address: HostPort,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Rule 7: the row is another scope's, or follows by itself.
    #[error("rule 7: the row at {address} is not this group's to rewrite")]
    NotOurRow {
        /// Where it points.
        address: HostPort,
    },
    /// Rule 10.
    #[error("rule 10: {from} works, and the coordinator was not found to reach {to}")]
    OutOfReach {
        /// Where the row points.
        from: HostPort,
        /// Where it is to point.
        to: HostPort,
    },
    /// Rule 8.
    #[error("rule 8: nothing is known of database {database}, or it is not a configured one")]
    UnknownDatabase {
        /// The database.
        database: String,
    },
    /// Rule 8.
    #[error("rule 8: {standby} may lack what is written through entry node {node}")]
    UnheldEntryNode {
        /// The entry node.
        node: HostPort,
        /// Where its reads were to go.
        standby: HostPort,
    },
    /// Rule 9.
    #[error("rule 9: the coordinator's row is not at {address}, and entry nodes only follow it")]
    AheadOfCoordinator {
        /// Where an entry node's row was to go.
        address: HostPort,
    },
    /// Rule 11.
    #[error("rule 11: this formation is only observed")]
    OnlyObserved,
}
