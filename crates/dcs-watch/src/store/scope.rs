//! What the store keeps of one scope: its view, and what readers of the view need not know.

use crate::event::Record;
use crate::key::shown;
use crate::value::Lsn;
use crate::view::{Problem, ScopeView};

/// What the store keeps of one scope.
#[derive(Debug)]
pub(super) struct ScopeState {
    pub(super) view: ScopeView,
    positions: Positions,
}

/// The leader's position under the two keys where Patroni writes it. As in Patroni, `optime/leader`
/// counts only while there is no `status`, even one that cannot be read: what a Patroni from before
/// an upgrade left behind may be years old.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Positions {
    pub(super) status: Status,
    /// Of `optime/leader`.
    pub(super) optime: Option<Lsn>,
}

/// The key `status`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Status {
    /// There is no such key.
    #[default]
    Absent,
    /// The key is there, with this position; none when it has none, or cannot be read.
    Present(Option<Lsn>),
}

impl ScopeState {
    pub(super) fn new(view: ScopeView) -> Self {
        Self {
            view,
            positions: Positions::default(),
        }
    }

    /// Whether the view has anything that subscribers are woken for.
    pub(super) fn is_visible(&self) -> bool {
        self.view.exists() || !self.view.problems.is_empty()
    }

    /// Whether nothing would be lost with this state.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_visible() && self.positions == Positions::default()
    }

    /// Changes the positions, and with them the one in the view.
    pub(super) fn set_position(&mut self, change: impl FnOnce(&mut Positions)) {
        change(&mut self.positions);
        self.view.last_position = match self.positions.status {
            Status::Present(position) => position,
            Status::Absent => self.positions.optime,
        };
    }

    /// Adds a problem; false if it was there with the same text.
    pub(super) fn add_problem(&mut self, problem: Problem) -> bool {
        let problems = &mut self.view.problems;
        match problems.binary_search_by(|known| known.key.cmp(&problem.key)) {
            Ok(at) => {
                let is_new = problems[at].what != problem.what;
                problems[at] = problem;
                is_new
            }
            Err(at) => {
                problems.insert(at, problem);
                true
            }
        }
    }

    /// Removes the problem of a key; false if it had none.
    pub(super) fn remove_problem(&mut self, key: &[u8]) -> bool {
        let problems = &mut self.view.problems;
        if problems.is_empty() {
            return false;
        }
        let name = shown(key);
        let before = problems.len();
        problems.retain(|problem| problem.key != name);
        problems.len() != before
    }
}

/// A problem with a record.
pub(super) fn problem(record: &Record, what: String) -> Problem {
    Problem {
        key: shown(&record.key),
        what,
        mod_revision: record.mod_revision,
    }
}

/// Whether the problems include this one, with the same text.
pub(super) fn has_problem(problems: &[Problem], one: &Problem) -> bool {
    problems
        .iter()
        .any(|problem| problem.key == one.key && problem.what == one.what)
}
