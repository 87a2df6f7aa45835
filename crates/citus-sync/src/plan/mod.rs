//! The decision: what etcd says, what the members say and what the rows say go in; what to do, or
//! why to wait, comes out. Pure: no clock, no client, no task.
//!
//! [`decide`] is a table (`docs/design.md`, "The decision"); the first row that matches wins.
//! [`check`] knows nothing of the table: it knows the rules that never break, and is asked before
//! every execution and in every test.

mod check;
mod decide;
mod decision;
mod follow;
mod hold;
mod reads;
mod row;
mod situation;
mod wait;

pub use check::{Violation, check};
pub use decide::decide;
pub use decision::{Ask, Decision, Hold, MakeWay, Move, Register, Repair, Resync, Rule, Step};
pub use hold::{Asked, Held, Progress, Reason, Standing};
pub use row::{NodeRole, Row, Rows};
pub use situation::{Liberties, Position, Probe, ProbeState, Reach, Situation, Writes};
pub use wait::{Stay, Wait};

/// The coordinator's own group in Citus (`groupid` 0).
pub const COORDINATOR_GROUP: i32 = 0;

#[cfg(test)]
mod tests;
