//! What citus-sync knows and decides: settings, rows, views and answers go in; decisions, SQL, pages
//! and reports come out.
//!
//! Pure: no task, no client, no clock. Time, settings and answers are arguments. The crate's
//! dependencies have none of them either, so the compiler keeps it that way.

pub mod config;
pub mod entry_node;
pub mod event;
pub mod group;
pub mod invariants;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod render;
pub mod report;
pub mod sql;
pub mod topology;
