//! The edge: the etcd client, the task that drives the machine, retries, the command.
//!
//! Tokio, clients, clocks and processes are allowed here and nowhere else in this crate.

pub mod command;
mod counters;
mod driver;
mod etcd;
mod listing;
mod printer;
pub mod retry;
pub mod settings;
pub mod watcher;
