//! citus-sync: keeps `pg_dist_node` of a Citus cluster true to what Patroni decided.
//!
//! Everything under [`edge`] talks to the world (etcd views, PostgreSQL, HTTP, clocks, signals);
//! everything else is pure: views, probes, rows, settings and time come in as arguments, and a
//! decision or a rendered page leaves. `cargo xtask test` fails when the wall is broken.

pub mod config;
pub mod edge;
pub mod metrics;
pub mod plan;
pub mod policy;
pub mod render;
pub mod report;
pub mod statements;
