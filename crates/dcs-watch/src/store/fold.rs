//! One key's value, folded into what the store keeps of its scope.
//!
//! Enters: a parsed key and its record. Leaves: the changed [`ScopeState`], and whether its view
//! changed in a way that matters.

use super::scope::{ScopeState, Status, problem};
use crate::event::Record;
use crate::key::{FieldRef, KeyRef};
use crate::value::{self, ValueError};
use crate::view::{Problem, Versioned};

/// Whether a key has a place in the view. The history says nothing about the present leader.
pub(super) fn matters(field: FieldRef<'_>) -> bool {
    !matches!(field, FieldRef::History | FieldRef::Other(_))
}

/// What a put did to its scope.
pub(super) struct Folded {
    /// The view changed in a way that matters.
    pub(super) changed: bool,
    /// What is wrong with the value, if it cannot be read.
    pub(super) malformed: Option<Problem>,
}

/// Folds one put into its scope.
pub(super) fn fold(scope: &mut ScopeState, key: &KeyRef<'_>, record: &Record) -> Folded {
    match set(scope, key.field, record) {
        Ok(changed) => Folded {
            changed: scope.remove_problem(&record.key) || changed,
            malformed: None,
        },
        Err(error) => {
            let removed = remove(scope, key.field);
            if key.field == FieldRef::Status {
                // Though it cannot be read, it is there, and `optime/leader` does not count.
                scope.set_position(|positions| positions.status = Status::Present(None));
            }
            let problem = problem(record, error.to_string());
            let is_new = scope.add_problem(problem.clone());
            Folded {
                changed: removed || is_new,
                malformed: Some(problem),
            }
        }
    }
}

/// Reads a value and sets it; true if the view changed in a way that matters.
fn set(scope: &mut ScopeState, field: FieldRef<'_>, record: &Record) -> Result<bool, ValueError> {
    let raw = record.value.as_slice();
    let view = &mut scope.view;
    match field {
        FieldRef::Leader => {
            view.leader = Some(versioned(value::leader(raw)?, record));
            view.leader_lease = record.lease;
            scope.show_named();
            Ok(true)
        }
        FieldRef::Member(name) => {
            Ok(scope.set_member(name, versioned(value::member(raw)?, record), record))
        }
        FieldRef::Sync => {
            view.sync = Some(versioned(value::sync(raw)?, record));
            scope.show_named();
            Ok(true)
        }
        FieldRef::Failover => {
            let request = value::failover(raw)?.map(|request| versioned(request, record));
            let existed = view.failover.is_some();
            view.failover = request;
            let exists = view.failover.is_some();
            scope.show_named();
            Ok(existed || exists)
        }
        FieldRef::Config => {
            view.config = Some(versioned(value::config(raw)?, record));
            Ok(true)
        }
        FieldRef::Failsafe => {
            view.failsafe = Some(versioned(value::failsafe(raw)?, record));
            Ok(true)
        }
        FieldRef::Initialize => {
            let system = value::initialize(raw)?.map(|system| versioned(system, record));
            Ok(std::mem::replace(&mut view.system, system.clone()) != system)
        }
        FieldRef::Status => {
            let position = value::position(raw)?;
            scope.set_position(|positions| positions.status = Status::Present(position));
            Ok(false)
        }
        FieldRef::Optime => {
            let position = value::position(raw)?;
            scope.set_position(|positions| positions.optime = position);
            Ok(false)
        }
        FieldRef::History | FieldRef::Other(_) => Ok(false),
    }
}

/// Sets a member; true if it is not merely its heartbeat.
fn versioned<T>(value: T, record: &Record) -> Versioned<T> {
    Versioned {
        value,
        mod_revision: record.mod_revision,
        create_revision: record.create_revision,
    }
}

/// Removes the value of a key, because the key is gone or cannot be read; true if the view changed
/// in a way that matters.
pub(super) fn remove(scope: &mut ScopeState, field: FieldRef<'_>) -> bool {
    let view = &mut scope.view;
    match field {
        FieldRef::Leader => {
            view.leader_lease = 0;
            view.leader.take().is_some()
        }
        FieldRef::Member(name) => scope.remove_member(name),
        FieldRef::Sync => view.sync.take().is_some(),
        FieldRef::Failover => view.failover.take().is_some(),
        FieldRef::Config => view.config.take().is_some(),
        FieldRef::Failsafe => view.failsafe.take().is_some(),
        FieldRef::Initialize => view.system.take().is_some(),
        FieldRef::Status => {
            scope.set_position(|positions| positions.status = Status::Absent);
            false
        }
        FieldRef::Optime => {
            scope.set_position(|positions| positions.optime = None);
            false
        }
        FieldRef::History | FieldRef::Other(_) => false,
    }
}
