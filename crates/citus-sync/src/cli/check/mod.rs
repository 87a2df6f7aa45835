//! `citus-sync check`: looks at everything `run` will need, and says what to fix.
//!
//! From the bottom up: `per_database` and `answers` are what the judges share; each judge takes
//! answers and gives findings (`databases`, `entry_nodes`, `etcd`, `groups`, `hooks`, `rights`,
//! `scopes`, `server`, `settings`); `command` asks and calls them all.

mod answers;
mod command;
mod databases;
mod entry_nodes;
mod etcd;
#[cfg(test)]
mod fixture;
mod groups;
mod hooks;
mod per_database;
mod rights;
mod scopes;
mod server;
mod settings;
mod shards;

pub(super) use command::{Options, check};
