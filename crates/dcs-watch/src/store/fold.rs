//! One key's value, folded into what is kept of its scope.
//!
//! Enters: a parsed key and its record. Leaves: the scope as [`Kept`], and whether that is news.

use crate::event::Record;
use crate::key::{FieldRef, KeyRef, excerpt};
use crate::value::{self, Lsn, ValueError};
use crate::view::{Problem, ScopeView, Versioned};

/// A scope's view, and what readers need not know.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) view: ScopeView,
    positions: Positions,
}

/// What the two keys say under which Patroni writes the leader's position. As in Patroni, the one
/// of old counts only while the other is not there, even if that one cannot be read: what a Patroni
/// from before an upgrade left behind may be years old.
#[derive(Debug, Default, PartialEq, Eq)]
struct Positions {
    has_status: bool,
    status: Option<Lsn>,
    optime: Option<Lsn>,
}

impl Kept {
    pub(super) fn new(view: ScopeView) -> Self {
        Self {
            view,
            positions: Positions::default(),
        }
    }

    /// Whether its view says anything that others are told of.
    pub(super) fn speaks(&self) -> bool {
        self.view.exists() || !self.view.problems.is_empty()
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_bare(&self) -> bool {
        !self.speaks() && self.positions == Positions::default()
    }

    fn place(&mut self, change: impl FnOnce(&mut Positions)) {
        change(&mut self.positions);
        self.view.last_position = if self.positions.has_status {
            self.positions.status
        } else {
            self.positions.optime
        };
    }
}

/// Whether a key has a place in the view. History says nothing about who leads now.
pub(super) fn matters(field: FieldRef<'_>) -> bool {
    !matches!(field, FieldRef::History | FieldRef::Other(_))
}

/// What a value did to its scope.
pub(super) struct Folded {
    /// It changed the view in a way that matters.
    pub(super) news: bool,
    /// What is wrong with it.
    pub(super) malformed: Option<Problem>,
}

/// Folds a put in.
pub(super) fn fold(kept: &mut Kept, key: &KeyRef<'_>, record: &Record) -> Folded {
    if key.field == FieldRef::Status {
        kept.positions.has_status = true;
    }
    let view = &mut kept.view;
    let outcome = match key.field {
        FieldRef::Leader => value::leader(&record.value).map(|leader| {
            view.leader_lease = record.lease;
            replace(&mut view.leader, leader, record)
        }),
        FieldRef::Member(name) => value::member(&record.value).map(|member| {
            if let Some(known) = view.members.get_mut(name) {
                known.mod_revision = record.mod_revision;
                known.create_revision = record.create_revision;
                if known.value == member {
                    return false;
                }
                known.value = member;
            } else {
                view.members
                    .insert(name.to_owned(), versioned(member, record));
            }
            true
        }),
        FieldRef::Sync => {
            value::sync(&record.value).map(|sync| replace(&mut view.sync, sync, record))
        }
        FieldRef::Failover => value::failover(&record.value).map(|request| match request {
            Some(request) => replace(&mut view.failover, request, record),
            None => view.failover.take().is_some(),
        }),
        FieldRef::Config => {
            value::config(&record.value).map(|config| replace(&mut view.config, config, record))
        }
        FieldRef::Failsafe => value::failsafe(&record.value)
            .map(|failsafe| replace(&mut view.failsafe, failsafe, record)),
        FieldRef::Initialize => {
            let initialized = value::initialized(&record.value);
            Ok(std::mem::replace(&mut view.initialized, initialized) != initialized)
        }
        FieldRef::Status => value::position(&record.value).map(|position| {
            kept.place(|positions| positions.status = position);
            false
        }),
        FieldRef::Optime => value::position(&record.value).map(|position| {
            kept.place(|positions| positions.optime = position);
            false
        }),
        FieldRef::History | FieldRef::Other(_) => Ok(false),
    };
    match outcome {
        Ok(news) => Folded {
            news: forget(&mut kept.view, &record.key) || news,
            malformed: None,
        },
        Err(ValueError(what)) => {
            let removed = clear(kept, key.field);
            let problem = problem(record, what);
            let told = remember(&mut kept.view, problem.clone());
            Folded {
                news: removed || told,
                malformed: Some(problem),
            }
        }
    }
}

fn versioned<T>(value: T, record: &Record) -> Versioned<T> {
    Versioned {
        value,
        mod_revision: record.mod_revision,
        create_revision: record.create_revision,
    }
}

fn replace<T>(slot: &mut Option<Versioned<T>>, value: T, record: &Record) -> bool {
    *slot = Some(versioned(value, record));
    true
}

/// Takes out what stood under a deleted key; whether that is news.
pub(super) fn remove(kept: &mut Kept, field: FieldRef<'_>) -> bool {
    if field == FieldRef::Status {
        kept.positions.has_status = false;
    }
    clear(kept, field)
}

/// Takes out what a key said before; whether that is news.
fn clear(kept: &mut Kept, field: FieldRef<'_>) -> bool {
    let view = &mut kept.view;
    match field {
        FieldRef::Leader => {
            view.leader_lease = 0;
            view.leader.take().is_some()
        }
        FieldRef::Member(name) => view.members.remove(name).is_some(),
        FieldRef::Sync => view.sync.take().is_some(),
        FieldRef::Failover => view.failover.take().is_some(),
        FieldRef::Config => view.config.take().is_some(),
        FieldRef::Failsafe => view.failsafe.take().is_some(),
        FieldRef::Initialize => std::mem::take(&mut view.initialized),
        FieldRef::Status => {
            kept.place(|positions| positions.status = None);
            false
        }
        FieldRef::Optime => {
            kept.place(|positions| positions.optime = None);
            false
        }
        FieldRef::History | FieldRef::Other(_) => false,
    }
}

/// A problem with a record.
pub(super) fn problem(record: &Record, what: String) -> Problem {
    Problem {
        key: excerpt(&record.key),
        what,
        mod_revision: record.mod_revision,
    }
}

/// Notes a problem; false if it was noted before in the same words.
pub(super) fn remember(view: &mut ScopeView, problem: Problem) -> bool {
    match view
        .problems
        .binary_search_by(|known| known.key.cmp(&problem.key))
    {
        Ok(at) => {
            let known = &mut view.problems[at];
            let new = known.what != problem.what;
            *known = problem;
            new
        }
        Err(at) => {
            view.problems.insert(at, problem);
            true
        }
    }
}

/// Drops the problem of a key; false if it had none.
pub(super) fn forget(view: &mut ScopeView, key: &[u8]) -> bool {
    if view.problems.is_empty() {
        return false;
    }
    let name = excerpt(key);
    let before = view.problems.len();
    view.problems.retain(|problem| problem.key != name);
    view.problems.len() != before
}

/// Whether one of them is this one, in the same words.
pub(super) fn has_problem(problems: &[Problem], one: &Problem) -> bool {
    problems
        .iter()
        .any(|problem| problem.key == one.key && problem.what == one.what)
}
