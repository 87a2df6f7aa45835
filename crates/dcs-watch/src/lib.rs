//! Patroni's keys in etcd as an ordered, typed view of each scope, driven by watches.
//!
//! What enters: etcd's answers and events, through [`edge`]. What leaves: for each scope one
//! [`ScopeView`], published when something that matters changed, and never a stale one passed off
//! as fresh.
//!
//! Everything outside [`edge`] is pure: no client, no task, no clock.
//!
//! - [`key`]: what an etcd path names
//! - [`value`]: what Patroni 2.1 to 4.1 writes under it
//! - [`view`]: what is known of one scope
//! - [`event`]: the five words in which etcd's news arrive
//! - [`store`]: the fold of lists and events into the views of all scopes
//! - [`machine`]: list, open, watch, resume or relist
//! - [`recording`]: recorded events, for replays and tests
//! - [`text`]: foreign text made safe to print
//! - [`words`]: a change in words for a person
//! - [`edge`]: the etcd client, the driving task, the command

pub mod edge;
pub mod event;
pub mod key;
pub mod machine;
pub mod recording;
pub mod store;
pub mod text;
pub mod value;
pub mod view;
pub mod words;

pub use key::{Field, KeyError, Namespace, ScopeId};
pub use value::{
    ClusterConfig, FailoverRequest, HostPort, Lsn, Member, Role, SyncState, ValueError,
};
pub use view::{Freshness, Problem, ScopeView, Versioned};
