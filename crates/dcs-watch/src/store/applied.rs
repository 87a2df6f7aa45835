//! What one event changed in the store.

use crate::key::ScopeId;
use crate::value::Lsn;
use crate::view::Problem;

/// What one event changed in the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Scopes whose view changed in a way that matters.
    pub changed: Vec<ScopeId>,
    /// Scopes of which only the leader's last known position changed, with the new position.
    pub positions: Vec<(ScopeId, Option<Lsn>)>,
    /// A scope came into being or ceased to exist.
    pub scopes_changed: bool,
    /// Keys that a list no longer has, though no delete was seen.
    pub vanished: Vec<Vec<u8>>,
    /// An event before this one was missed: a new list is needed.
    pub gap: bool,
    /// Keys and values that cannot be read, each reported once for as long as it stays as it is.
    pub problems: Vec<NewProblem>,
}

/// A malformed key or value that has not been reported yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProblem {
    /// The scope; none when the key does not say which.
    pub scope: Option<ScopeId>,
    /// The problem.
    pub problem: Problem,
}
