//! The only folder that speaks to PostgreSQL: connections with deadlines, the coordinator's
//! databases, holds and the steps of a decision there and on the doors, and the probes of members.

mod after;
mod bounded;
mod catalogue;
mod connect;
mod database;
mod doors;
mod error;
mod everywhere;
mod flush;
mod forced;
mod held_doors;
mod hold;
pub mod inspect;
mod known_doors;
mod late;
mod locking;
mod pool;
mod probe;
mod reach;
mod readers;
mod reads;
mod references;
mod socket;
mod steps;
mod told;
mod update;

pub use after::{recover_prepared, resync};
pub use bounded::Limits;
pub use connect::{Connection, Login};
pub use database::{Database, DatabaseState, Server};
pub use doors::{Doors, SPARE};
pub use error::SqlError;
pub use flush::flush_log;
pub use hold::{Hold, HoldOrder};
pub use known_doors::DoorNews;
pub use probe::Probes;
pub use reach::can_reach;
pub use readers::readers_are_gone;
pub use reads::{ReadsUnderHold, move_reads};
pub use steps::{Finished, LeftOut, Phases, StepError, carry_out};
pub use told::{Told, ask_doors};
