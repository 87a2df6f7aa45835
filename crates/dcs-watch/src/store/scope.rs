//! What the store keeps of one scope: its view, and what readers of the view need not know.

use super::members::{MAX_MEMBERS, Surplus};
use crate::event::Record;
use crate::key::shown;
use crate::value::{Lsn, Member};
use crate::view::{Problem, ScopeView, Versioned};

/// Problems of a scope that are listed; a broken writer may make them without end, and each is part of
/// the view.
const MAX_PROBLEMS: usize = 100;

/// What the store keeps of one scope.
#[derive(Debug)]
pub(super) struct ScopeState {
    pub(super) view: ScopeView,
    positions: Positions,
    surplus: Surplus,
    /// Under which key the view says that there is a surplus.
    crowd_key: Option<String>,
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
            surplus: Surplus::default(),
            crowd_key: None,
        }
    }

    /// Puts a member; whether the view changed.
    pub(super) fn set_member(
        &mut self,
        name: &str,
        member: Versioned<Member>,
        record: &Record,
    ) -> bool {
        let changed = self.surplus.set(&mut self.view, name, member);
        if self.surplus.is_empty() {
            return changed;
        }
        let folder = record.key.iter().rposition(|byte| *byte == b'/');
        let folder = &record.key[..folder.map_or(0, |slash| slash + 1)];
        self.note_crowd(folder, record.mod_revision) || changed
    }

    /// Removes a member; whether the view changed.
    pub(super) fn remove_member(&mut self, name: &str) -> bool {
        let changed = self.surplus.remove(&mut self.view, name);
        self.forget_crowd() || changed
    }

    /// Shows the members that are named by now.
    pub(super) fn show_named(&mut self) {
        self.surplus.show_named(&mut self.view);
        self.forget_crowd();
    }

    /// The problem that says that not all members are in the view.
    pub(super) fn crowd(&self) -> Option<&Problem> {
        let key = self.crowd_key.as_ref()?;
        self.view
            .problems
            .iter()
            .find(|problem| problem.key == *key)
    }

    fn note_crowd(&mut self, folder: &[u8], mod_revision: i64) -> bool {
        if self.crowd_key.is_some() {
            return false;
        }
        // No key is shown like this.
        let key = format!("{} (all)", shown(folder));
        self.crowd_key = Some(key.clone());
        self.insert_problem(Problem {
            key,
            what: format!(
                "more than {MAX_MEMBERS} members: the others are not looked at, unless they lead, are \
                 synchronous, or are to take over; delete the keys of members that are gone"
            ),
            mod_revision,
        })
    }

    fn forget_crowd(&mut self) -> bool {
        if !self.surplus.is_empty() {
            return false;
        }
        let Some(key) = self.crowd_key.take() else {
            return false;
        };
        self.view.problems.retain(|problem| problem.key != key);
        true
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

    /// Adds a problem; false if it was there with the same text, or is one too many.
    pub(super) fn add_problem(&mut self, problem: Problem) -> bool {
        let is_known = |known: &Problem| known.key == problem.key;
        let is_full = self.view.problems.len() >= MAX_PROBLEMS;
        if is_full && !self.view.problems.iter().any(is_known) {
            return false;
        }
        self.insert_problem(problem)
    }

    fn insert_problem(&mut self, problem: Problem) -> bool {
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
