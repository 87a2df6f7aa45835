//! What an etcd path names: which scope, and which of Patroni's keys in it.
//!
//! Enters: raw key bytes. Leaves: a [`ScopeId`] and a [`Field`], or a [`KeyError`] that says what
//! is wrong with the key. Both layouts are understood: `/service/<scope>/leader`, and
//! `/service/<scope>/<group>/leader` of Patroni's own Citus support.

mod error;
mod field;
mod namespace;
mod parse;
mod scope;

pub use error::KeyError;
pub(crate) use error::shown;
pub use field::Field;
pub(crate) use field::FieldRef;
pub use namespace::Namespace;
pub use parse::parse;
pub(crate) use parse::{KeyRef, folder, parse_ref};
pub use scope::ScopeId;
