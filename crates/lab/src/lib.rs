//! Real etcd, Patroni and PostgreSQL on this machine, with Citus or its
//! stand-in: for the end-to-end tests, the demo and the benches.
//!
//! All calls block; there is no runtime, and nothing here needs `protoc`.
//! Everything runs in a [`Sandbox`], which leaves nothing behind, however the
//! process that made it ends.

mod builder;
pub mod citus;
pub mod cluster;
pub mod daemon;
pub mod etcd;
mod formation;
pub mod gateway;
mod hook;
pub mod installation;
pub mod interruption;
pub mod member;
mod namespaces;
pub mod observer;
pub mod packages;
pub mod patroni;
pub mod ports;
mod process;
pub mod report;
pub mod sandbox;
pub mod scope;
pub mod server;
mod session;
mod silence;
pub mod timeline;
pub mod traffic;
pub mod user;
mod venv;
pub mod wait;

pub use builder::LabBuilder;
pub use citus::{Flavour, install_citus};
pub use cluster::Lab;
pub use daemon::Daemon;
pub use etcd::Etcd;
pub use gateway::{Gateway, KeyValue};
pub use hook::Hook;
pub use interruption::Interruption;
pub use member::Member;
pub use observer::Observer;
pub use patroni::{Timing, Version};
pub use postgres;
pub use report::Report;
pub use sandbox::Sandbox;
pub use scope::Scope;
pub use server::{Postgres, connect};
pub use session::Protocol;
pub use timeline::Timeline;
pub use traffic::{Kind, Load, Stream, Traffic};
pub use wait::{wait_for, wait_until, within};
