//! The fold of lists and events into the views of all scopes.
//!
//! Enters: [`Event`]s, and freshness and lineage as [`crate::machine`] decides them. Leaves: a
//! [`ScopeView`] for each scope, and after each event which views changed in a way that matters.
//!
//! The store keeps two rules. Older news never overwrites newer: the store remembers the revision of
//! the last change of each key, deleted keys too, and a list sets a floor below which every event
//! is old. And no event is missed unnoticed: etcd numbers the puts of a key, so a number that was
//! skipped means that an event was lost (or that this is not the history known before). Then only a
//! new list helps.
//!
//! - `content`: all keys and scopes at one moment, and what a new list changed
//! - `scope`: what is kept of one scope
//! - `fold`: what one value does to its scope
//! - `applied`: what one event changed

mod applied;
mod content;
mod fold;
mod members;
mod scope;

use std::collections::BTreeSet;

use self::content::{Content, KeyState};
use self::fold::{fold, matters, remove};
use self::scope::{ScopeState, problem};
use crate::event::{Event, Record};
use crate::key::{KeyError, KeyRef, Namespace, ScopeId, folder, parse_ref, shown};
use crate::view::{Freshness, ScopeView};

pub use self::applied::{Applied, NewProblem};

/// The views of all scopes under one namespace.
#[derive(Debug)]
pub struct Store {
    namespace: Namespace,
    content: Content,
    /// A list that is not complete yet.
    list: Option<Content>,
    /// The revision of the last list: events up to it are in it.
    floor: i64,
    freshness: Freshness,
    lineage: u64,
    malformed_keys: u64,
    malformed_values: u64,
}

impl Store {
    /// A store that knows nothing yet.
    pub fn new(namespace: Namespace) -> Self {
        Self {
            namespace,
            content: Content::default(),
            list: None,
            floor: 0,
            freshness: Freshness::Unknown,
            lineage: 0,
            malformed_keys: 0,
            malformed_values: 0,
        }
    }

    /// The view of one scope; an empty one if etcd has nothing of it.
    pub fn view(&self, id: &ScopeId) -> ScopeView {
        match self.content.scopes.get(id.path().as_ref()) {
            Some(state) => state.view.clone(),
            None => self.empty(id.clone()),
        }
    }

    /// The scopes that exist.
    pub fn scopes(&self) -> BTreeSet<ScopeId> {
        self.content.scope_ids()
    }

    /// The views of the scopes that exist, in no order.
    pub fn views(&self) -> impl Iterator<Item = &ScopeView> {
        self.content.views()
    }

    /// The number of keys in etcd under the namespace, whatever they are.
    pub fn key_count(&self) -> usize {
        let keys = self.content.keys.values();
        keys.filter(|key| key.version > 0).count()
    }

    /// The number of keys and the number of values so far that could not be read, each put counted.
    pub fn malformed(&self) -> (u64, u64) {
        (self.malformed_keys, self.malformed_values)
    }

    /// The freshness of all views.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Sets the freshness of all views.
    pub fn set_freshness(&mut self, freshness: &Freshness) {
        self.freshness = freshness.clone();
        for state in self.content.scopes.values_mut() {
            state.view.freshness = freshness.clone();
        }
    }

    /// Sets the lineage of all views, when etcd's history is another one. Takes effect with the list
    /// that follows, so that no view ever has the new lineage and old content.
    pub fn set_lineage(&mut self, lineage: u64) {
        self.lineage = lineage;
    }

    /// Folds one event in.
    pub fn apply(&mut self, event: Event) -> Applied {
        match event {
            Event::Init => {
                self.list = Some(Content::default());
                Applied::default()
            }
            Event::InitPut(record) => {
                self.add_to_list(&record);
                Applied::default()
            }
            Event::InitDone { revision } => self.complete_list(revision),
            Event::Put(record) => self.put(&record),
            Event::Delete(record) => self.delete(&record),
        }
    }

    fn empty(&self, scope: ScopeId) -> ScopeView {
        ScopeView {
            freshness: self.freshness.clone(),
            lineage: self.lineage,
            ..ScopeView::empty(scope)
        }
    }

    fn add_to_list(&mut self, record: &Record) {
        let Some(mut list) = self.list.take() else {
            return;
        };
        let state = KeyState {
            mod_revision: record.mod_revision,
            version: record.version,
        };
        list.keys.insert(record.key.as_slice().into(), state);
        match parse_ref(&self.namespace, &record.key) {
            Ok(key) if matters(key.field) => {
                let scope = list
                    .scopes
                    .entry(key.scope.into())
                    .or_insert_with(|| ScopeState::new(self.empty(key.id())));
                if fold(scope, &key, record).malformed.is_some() {
                    self.malformed_values += 1;
                }
            }
            Ok(_) => {}
            Err(error) => {
                self.malformed_keys += 1;
                self.add_malformed_key(&mut list, record, &error);
            }
        }
        self.list = Some(list);
    }

    fn complete_list(&mut self, revision: i64) -> Applied {
        let Some(list) = self.list.take() else {
            return Applied::default();
        };
        self.floor = revision;
        let old = std::mem::replace(&mut self.content, list);
        self.content.changes_since(&old)
    }

    /// Adds the problem of a malformed key to its scope, or to those without a scope. The problem
    /// if it is new.
    fn add_malformed_key(
        &self,
        content: &mut Content,
        record: &Record,
        error: &KeyError,
    ) -> Option<NewProblem> {
        let problem = problem(record, error.to_string());
        let scope = folder(&self.namespace, &record.key);
        let is_new = match &scope {
            Some(id) => content
                .scopes
                .entry(id.path().into())
                .or_insert_with(|| ScopeState::new(self.empty(id.clone())))
                .add_problem(problem.clone()),
            None => content.add_unscoped(problem.clone()),
        };
        is_new.then_some(NewProblem { scope, problem })
    }

    /// None for a change of a key that is old. Otherwise whether a change of the key before this
    /// one was missed.
    fn admit(&mut self, record: &Record, version: i64) -> Option<bool> {
        if record.mod_revision <= self.floor {
            return None;
        }
        let new = KeyState {
            mod_revision: record.mod_revision,
            version,
        };
        match self.content.keys.get_mut(record.key.as_slice()) {
            Some(old) if record.mod_revision <= old.mod_revision => None,
            Some(old) => {
                let gap = if version == 0 {
                    old.version == 0
                } else {
                    version != old.version + 1
                };
                *old = new;
                Some(gap)
            }
            None => {
                let key = record.key.as_slice().into();
                self.content.keys.insert(key, new);
                Some(version != 1)
            }
        }
    }

    fn put(&mut self, record: &Record) -> Applied {
        let Some(gap) = self.admit(record, record.version.max(1)) else {
            return Applied::default();
        };
        let applied = match parse_ref(&self.namespace, &record.key) {
            Ok(key) if matters(key.field) => self.put_value(&key, record),
            Ok(_) => Applied::default(),
            Err(error) => self.put_malformed_key(record, &error),
        };
        Applied { gap, ..applied }
    }

    fn put_value(&mut self, key: &KeyRef<'_>, record: &Record) -> Applied {
        let mut applied = Applied::default();
        // Looked up twice at most, and without an allocation when it is there.
        if !self.content.scopes.contains_key(key.scope) {
            let state = ScopeState::new(self.empty(key.id()));
            self.content.scopes.insert(key.scope.into(), state);
        }
        let Some(state) = self.content.scopes.get_mut(key.scope) else {
            return applied;
        };
        let (existed, position) = (state.view.exists(), state.view.last_position);
        let was_crowded = state.crowd().is_some();
        let folded = fold(state, key, record);
        let view = &state.view;
        let scope = || view.scope.clone();
        applied.scopes_changed = existed != view.exists();
        if folded.malformed.is_some() {
            self.malformed_values += 1;
        }
        if folded.changed {
            applied.changed.push(scope());
            let new = folded.malformed.map(|problem| NewProblem {
                scope: Some(scope()),
                problem,
            });
            applied.problems.extend(new);
            let crowd = state.crowd().filter(|_| !was_crowded);
            applied.problems.extend(crowd.map(|problem| NewProblem {
                scope: Some(scope()),
                problem: problem.clone(),
            }));
        } else if position != view.last_position {
            applied.positions.push((scope(), view.last_position));
        }
        applied
    }

    fn put_malformed_key(&mut self, record: &Record, error: &KeyError) -> Applied {
        self.malformed_keys += 1;
        let mut content = std::mem::take(&mut self.content);
        let new = self.add_malformed_key(&mut content, record, error);
        self.content = content;
        Applied {
            changed: new.iter().filter_map(|new| new.scope.clone()).collect(),
            problems: new.into_iter().collect(),
            ..Applied::default()
        }
    }

    fn delete(&mut self, record: &Record) -> Applied {
        let Some(gap) = self.admit(record, 0) else {
            return Applied::default();
        };
        let mut applied = Applied {
            gap,
            ..Applied::default()
        };
        let key = parse_ref(&self.namespace, &record.key);
        let path = match &key {
            Ok(key) => Some(key.scope.to_owned()),
            Err(_) => folder(&self.namespace, &record.key).map(|id| id.path().into_owned()),
        };
        let Some(path) = path else {
            let name = shown(&record.key);
            self.content.unscoped.retain(|problem| problem.key != name);
            return applied;
        };
        let Some(state) = self.content.scopes.get_mut(path.as_str()) else {
            return applied;
        };
        let (existed, position) = (state.view.exists(), state.view.last_position);
        let mut changed = state.remove_problem(&record.key);
        if let Ok(key) = key {
            changed |= remove(state, key.field);
        }
        let view = &state.view;
        applied.scopes_changed = existed != view.exists();
        if changed {
            applied.changed.push(view.scope.clone());
        } else if position != view.last_position {
            applied
                .positions
                .push((view.scope.clone(), view.last_position));
        }
        if state.is_empty() {
            self.content.scopes.remove(path.as_str());
        }
        applied
    }
}

#[cfg(test)]
mod tests;
