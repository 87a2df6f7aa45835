//! What sessions and executors are called by the rest of the edge.

pub use crate::execute::*;
pub use crate::session::*;
pub use citus_core::outcome::{EntryNodeNews, Finished, Phases, Skipped};
