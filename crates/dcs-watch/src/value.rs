//! What Patroni 2.1 to 4.1 writes under its keys, as types.
//!
//! Enters: raw value bytes. Leaves: a value, or a [`ValueError`] that says what is wrong with it.
//! Nothing in here panics, whatever the bytes are. A value whose top level is wrong is refused. A
//! part of a value that is wrong is refused too when a decision hangs on it (an address, a due
//! time), and ignored when none does.
//!
//! There is one file for each key, and one for each part that several keys share: `address`,
//! `host_port` and `lsn`. All of them are built on `json` and `error`.

mod address;
mod config;
mod error;
mod failover;
mod host_port;
mod json;
mod leader;
mod lsn;
mod member;
mod sync;
mod system_id;

pub use config::{ClusterConfig, config};
pub use error::ValueError;
pub use failover::{FailoverRequest, failover};
pub use host_port::HostPort;
pub use leader::{failsafe, leader};
pub use lsn::{Lsn, position};
pub use member::{Member, Role, member};
pub use sync::{SyncState, sync};
pub use system_id::{SystemId, initialize};

#[cfg(test)]
mod tests;
