//! The group reconciler: one pure step, `step(news, now) -> effects`, for each Citus group.
//!
//! Enters: what etcd, the members, the databases and people say, and the moment. Leaves: what is to be
//! executed, asked, answered and told, and when to step again. All that a group remembers is its
//! state; the driver in the daemon waits, feeds inputs, carries effects out, and makes no choice.
//!
//! From the bottom up: [`input`] and [`effect`] are what is said and wanted; `attempts`, `failures`,
//! `entry_nodes`, `holding`, `requests`, `readers`, `shards`, `keys`, `verification`, `prewarm` and
//! `recorder` each keep one part of the memory, and `reach` one more; `state` is all of it; `orders`,
//! `ends`, `news`, `answers`, `proof`, `ask_ahead`, `neighbours`, `upkeep` and `reporting` say what
//! follows from a decision or an input; `step` tells it in order.

mod answers;
mod ask_ahead;
mod attempts;
mod clock;
mod effect;
mod ends;
mod entry_nodes;
mod failures;
mod holding;
mod input;
mod keys;
mod neighbours;
mod news;
mod orders;
mod precondition;
mod prewarm;
mod proof;
mod reach;
mod readers;
mod recorder;
mod reporting;
mod requests;
mod shards;
mod state;
mod step;
mod upkeep;
mod verification;

pub use effect::{Action, Effect, Effects, Order};
pub use entry_nodes::HeldEntryNodes;
pub use input::{DatabaseFacts, Done, Ended, Failure, FailureKind, Input, Now, RequestId};
pub use precondition::{Precondition, ReadPrecondition};
pub use prewarm::SPARE;
pub use state::{Group, Settings};

#[cfg(test)]
mod tests;
