//! What Patroni 2.1 to 4.1 writes under its keys, as types.
//!
//! Enters: raw value bytes. Leaves: a value, or a [`ValueError`] that says in words what was wrong.
//! Nothing in here panics, whatever the bytes are. A value whose top level is wrong is refused; a
//! part of it that is wrong is refused too when a decision hangs on it (an address, a due time),
//! and passed over when none does.
//!
//! One file for each key, or for each part that several keys share: `address` and `lsn` are parts,
//! `json` and `error` are what all of them are built on.

mod address;
mod config;
mod error;
mod failover;
mod json;
mod leader;
mod lsn;
mod member;
mod sync;

pub use address::HostPort;
pub use config::{ClusterConfig, config};
pub use error::ValueError;
pub use failover::{FailoverRequest, failover};
pub use leader::{failsafe, initialized, leader};
pub use lsn::{Lsn, position};
pub use member::{Member, Role, member};
pub use sync::{SyncState, sync};

#[cfg(test)]
mod tests;
