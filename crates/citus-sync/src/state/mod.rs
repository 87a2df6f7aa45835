//! What the daemon knows, for all that read it: HTTP today, pages and sinks later; and the way to
//! each group's reconciler.
//!
//! `store` uses `group_handle`.

mod group_handle;
mod store;

pub use group_handle::{Command, GroupHandle, LookupError};
pub use store::{FormationState, StateStore};
