//! Patroni's keys in etcd as an ordered, typed view of each scope, driven by watches.
//!
//! What enters: etcd's answers and events. What leaves: one [`ScopeView`] for each scope, published
//! when something that matters changed, and never a stale one passed off as fresh.
//!
//! The pure half has no client, no task and no clock; time and settings come in as arguments. It
//! is all there is without the feature `client`:
//!
//! - [`key`]: what an etcd path names
//! - [`value`]: what Patroni 2.1 to 4.1 writes under it
//! - [`view`]: what is known of one scope
//! - [`event`]: the kinds of events that a list and a watch deliver
//! - [`store`]: the fold of lists and events into the views of all scopes
//! - [`machine`]: list, open, watch, resume or relist, as one step function
//! - [`recording`]: recorded events, for replays and tests
//! - [`describe`]: a change of a key in one line of text
//! - [`text`]: foreign text made safe to print
//!
//! The feature `client` (on by default) adds:
//!
//! - `client`: the etcd client, the task that drives the machine, and subscriptions to the views
//! - `cli`: the `dcs-watch` command

#[cfg(feature = "client")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod describe;
pub mod event;
pub mod key;
pub mod machine;
pub mod recording;
pub mod store;
pub mod text;
pub mod value;
pub mod view;

pub use key::{Field, KeyError, Namespace, ScopeId};
pub use value::{
    ClusterConfig, FailoverRequest, HostPort, Lsn, Member, Role, SyncState, SystemId, ValueError,
};
pub use view::{Freshness, KeyRevisions, Problem, ScopeView, Versioned};
