//! The rows of `pg_dist_node`: which there are, and what each is for.

mod registered;
mod row;

pub use registered::{RegisteredView, registered};
pub(crate) use row::is_temporary;
pub use row::{NodeRole, Row, Rows};

/// The coordinator's own group in Citus (`groupid` 0).
pub const COORDINATOR_GROUP: i32 = 0;
