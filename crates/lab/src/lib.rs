//! Real etcd, Patroni and PostgreSQL on this machine, with Citus or its
//! stand-in: for the end-to-end tests, the demo and the benches.
//!
//! Everything blocks; there is no runtime and nothing that needs `protoc`.
//! A [`Sandbox`] holds it all together and leaves nothing behind, whatever
//! becomes of the process that made it.

pub mod citus;
pub mod etcd;
pub mod gateway;
pub mod installation;
pub mod ports;

mod process;
pub mod reaper;
pub mod sandbox;
pub mod server;
pub mod user;
pub mod wait;

pub use citus::{Flavour, install_citus};
pub use etcd::Etcd;
pub use gateway::{Gateway, KeyValue};
pub use postgres;
pub use sandbox::Sandbox;
pub use server::{Postgres, connect};
pub use wait::{wait_for, wait_until};
