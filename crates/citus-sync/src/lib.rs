//! citus-sync: the daemon and its command line. What it decides is in [`citus_core`]; everything under
//! [`edge`] talks to the world (etcd views, PostgreSQL, HTTP, clocks, signals).

pub mod edge;
pub mod execute;
pub mod metrics;
pub mod session;
