//! The only folder that speaks to PostgreSQL: connections with deadlines, the coordinator's
//! databases, holds and the steps of a decision there and on the entry nodes, and the probes of members.

mod after;
mod bounded;
mod catalogue;
mod connect;
mod database;
mod entry_nodes;
mod error;
mod fan_out;
mod flush;
mod forced;
mod held_entry_nodes;
mod hold;
pub mod inspect;
mod known_entry_nodes;
mod late;
mod locking;
mod pool;
mod probe;
mod reachability;
mod readers;
mod reads;
mod references;
mod socket;
mod steps;
mod told;
mod update;

pub use after::{recover_prepared, resync};
pub use bounded::Bounds;
pub use connect::{Connection, Login};
pub use database::{Database, DatabaseState, Server};
pub use entry_nodes::{EntryNodes, SPARE};
pub use error::SqlError;
pub use flush::flush_log;
pub use hold::{Hold, HoldOrder};
pub use known_entry_nodes::EntryNodeNews;
pub use probe::Probes;
pub use reachability::can_reach;
pub use readers::readers_are_gone;
pub use reads::{ReadsUnderHold, move_reads};
pub use steps::{Finished, Phases, Skipped, StepError, carry_out};
pub use told::{Told, ask_entry_nodes};
