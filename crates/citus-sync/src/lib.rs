//! citus-sync: the daemon and its command line. What it decides is in [`citus_core`]; what is here
//! talks to the world.
//!
//! From the bottom up: [`files`] reads what an operator wrote; [`session`] speaks to PostgreSQL;
//! [`execute`] executes orders on sessions;
//! [`metrics`] are what Prometheus scrapes; [`state`] is what is known, for all that read it;
//! [`reporting`] tells events to log, metrics and history; [`group`] drives one group's reconciler;
//! [`formation`] is one Citus cluster; [`http`] serves the state and takes requests; [`daemon`] is
//! all of it as one process; [`cli`] is the command line.

pub mod cli;
pub mod daemon;
pub mod execute;
pub mod files;
pub mod formation;
pub mod group;
pub mod http;
pub mod metrics;
pub mod reporting;
pub mod session;
pub mod state;
