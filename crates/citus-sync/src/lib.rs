//! citus-sync: the daemon and its command line. What it decides is in [`citus_core`].
//!
//! [`session`] speaks to PostgreSQL; [`execute`] carries decisions out on sessions; [`edge`] has
//! the rest that talks to the world (etcd views, HTTP, clocks, signals).

pub mod edge;
pub mod execute;
pub mod metrics;
pub mod session;
