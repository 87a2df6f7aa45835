//! The only folder that speaks to PostgreSQL: connections with deadlines, the coordinator's
//! databases, the steps of a decision, and the probes of members.

mod after;
mod connect;
mod database;
mod doors;
mod error;
mod hold;
pub mod inspect;
mod probe;
mod reach;
mod reads;
mod steps;

pub use after::{recover_prepared, resync};
pub use connect::{Connection, Login};
pub use database::{Database, DatabaseState, Server};
pub use doors::Doors;
pub use error::SqlError;
pub use hold::{Hold, HoldOrder};
pub use probe::Probes;
pub use reach::can_reach;
pub use reads::move_reads;
pub use steps::{Finished, LeftOut, Phases, StepError, carry_out};
