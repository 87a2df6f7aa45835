//! The only folder that speaks to PostgreSQL: connections with deadlines, the coordinator's
//! databases, the steps of a decision, and the probes of members.

mod connect;
mod database;
mod error;
pub mod inspect;
mod probe;
mod steps;

pub use connect::{Connection, Login};
pub use database::{Database, DatabaseState, Server};
pub use error::SqlError;
pub use probe::Probes;
pub use steps::{Phases, StepError, carry_out};
