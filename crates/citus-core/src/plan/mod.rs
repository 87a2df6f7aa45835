//! The decision: what etcd says, what the members say and what the rows say go in; what to do, or
//! why to wait, comes out. Pure: no clock, no client, no task.
//!
//! [`decide`] is a table (`docs/design.md`, "The decision"); the first row that matches wins.
//! [`crate::invariants`] knows nothing of the table: it knows the rules that never break, and is
//! asked before every execution and in every test.

mod addresses;
mod cluster;
mod decide;
mod decision;
mod exchange;
mod follow;
mod hold;
mod identity;
mod reach;
mod reads;
mod reason;
mod requests;
mod situation;
mod wait;

pub use crate::topology::{COORDINATOR_GROUP, NodeRole, Row, Rows};
pub use cluster::{Identity, KnownCluster, ShardCount, ShardCounts, Unproven};
pub use decide::decide;
pub use decision::{
    Ask, Decision, Exchange, ExchangePart, Hold, MakeWay, Move, Register, Repair, Resync, Rule,
    Step,
};
pub use hold::{ActiveHold, Held, Progress, RequestedHold};
pub use reach::{
    AddressFacts, Answerer, Neighbour, NeighbourLeader, Reach, Unreached, UnreachedKind,
};
pub use reason::Reason;
pub use situation::{Limits, Position, Probe, ProbeState, Reachability, Situation, Writes};
pub use wait::{Stay, Wait};

#[cfg(test)]
pub(crate) mod tests;
