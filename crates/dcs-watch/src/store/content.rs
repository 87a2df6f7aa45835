//! All keys and scopes at one moment: what a list fills, and what the store serves.
//!
//! Enters: nothing by itself; the store fills it. Leaves: [`Content::changes_since`], what a new
//! list changed.

use std::collections::{BTreeSet, HashMap};

use super::applied::{Applied, NewProblem};
use super::scope::{ScopeState, has_problem};
use crate::key::ScopeId;
use crate::view::{Problem, ScopeView};

/// The most malformed keys without a scope that are remembered, so that each is reported once; a
/// broken writer may invent them without end.
pub(super) const MAX_UNSCOPED: usize = 100;

/// What is remembered of a key, whatever its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyState {
    pub(super) mod_revision: i64,
    /// Puts since creation; 0 once deleted.
    pub(super) version: i64,
}

/// All keys and scopes at one moment.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) keys: HashMap<Box<[u8]>, KeyState>,
    /// By the scope's text as it stands in the path, so that a heartbeat finds its scope without
    /// an allocation.
    pub(super) scopes: HashMap<Box<str>, ScopeState>,
    /// Problems of keys that do not say which scope they belong to.
    pub(super) unscoped: Vec<Problem>,
}

impl Content {
    /// The views of the scopes that exist.
    pub(super) fn views(&self) -> impl Iterator<Item = &ScopeView> {
        self.scopes
            .values()
            .map(|state| &state.view)
            .filter(|view| view.exists())
    }

    /// The scopes that exist.
    pub(super) fn scope_ids(&self) -> BTreeSet<ScopeId> {
        self.views().map(|view| view.scope.clone()).collect()
    }

    /// Remembers the problem of a key without a scope; false if it is known, or one too many.
    pub(super) fn add_unscoped(&mut self, problem: Problem) -> bool {
        let is_new = self.unscoped.len() < MAX_UNSCOPED && !has_problem(&self.unscoped, &problem);
        if is_new {
            self.unscoped.push(problem);
        }
        is_new
    }

    /// What changed from the old content to this one.
    pub(super) fn changes_since(&self, old: &Self) -> Applied {
        let mut applied = Applied {
            scopes_changed: old.scope_ids() != self.scope_ids(),
            vanished: self.vanished_since(old),
            ..Applied::default()
        };
        for (path, state) in &self.scopes {
            let old = old.scopes.get(path).map(|old| &old.view);
            compare(old, state, &mut applied);
        }
        for (path, old) in &old.scopes {
            if self.scopes.contains_key(path) {
                continue;
            }
            let scope = old.view.scope.clone();
            if old.is_visible() {
                applied.changed.push(scope);
            } else if old.view.last_position.is_some() {
                applied.positions.push((scope, None));
            }
        }
        let new = |problem: &&Problem| !has_problem(&old.unscoped, problem);
        for problem in self.unscoped.iter().filter(new) {
            applied.problems.push(NewProblem {
                scope: None,
                problem: problem.clone(),
            });
        }
        applied.changed.sort_unstable();
        applied.positions.sort_unstable();
        applied
    }

    /// Keys that existed in the old content and are not in this one, sorted.
    fn vanished_since(&self, old: &Self) -> Vec<Vec<u8>> {
        let mut vanished: Vec<_> = old
            .keys
            .iter()
            .filter(|(key, state)| state.version > 0 && !self.keys.contains_key(*key))
            .map(|(key, _)| key.to_vec())
            .collect();
        vanished.sort_unstable();
        vanished
    }
}

/// Adds what changed in one scope from its old view to its new state.
fn compare(old: Option<&ScopeView>, state: &ScopeState, applied: &mut Applied) {
    let view = &state.view;
    let changed = match old {
        Some(old) => !old.is_equivalent(view),
        None => state.is_visible(),
    };
    if changed {
        applied.changed.push(view.scope.clone());
    } else if old.and_then(|old| old.last_position) != view.last_position {
        applied
            .positions
            .push((view.scope.clone(), view.last_position));
    }
    let known = old.map_or(&[][..], |old| &old.problems);
    let new = |problem: &&Problem| !has_problem(known, problem);
    for problem in view.problems.iter().filter(new) {
        applied.problems.push(NewProblem {
            scope: Some(view.scope.clone()),
            problem: problem.clone(),
        });
    }
}
