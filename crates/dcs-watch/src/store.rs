//! The fold of lists and events into the views of all scopes.
//!
//! Enters: [`Event`]s, freshness and lineage as [`crate::machine`] decides them. Leaves: a
//! [`ScopeView`] for each scope, and after each event whose view changed in a way that matters.
//!
//! Two rules live here. Older news never overwrites newer: each key remembers the revision it was
//! last changed at, deleted keys too, and a list sets a floor below which every event is old. And
//! nothing is missed in silence: etcd numbers the puts of a key, so a number that was skipped means
//! that an event was lost (or that this is not the history known before), and only a list helps.
//!
//! What one value does to its scope is in `fold.rs`.

mod fold;

use std::collections::{BTreeSet, HashMap};

use self::fold::{Kept, fold, forget, has_problem, matters, problem, remember, remove};
use crate::event::{Event, Record};
use crate::key::{Namespace, ScopeId, excerpt, folder, parse_ref};
use crate::value::Lsn;
use crate::view::{Freshness, Problem, ScopeView};

/// Malformed keys that belong to no scope are remembered (to be told of once) up to this many; a
/// broken writer may invent them without end.
const STRAYS: usize = 100;

/// What is remembered of a key, whatever its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    mod_revision: i64,
    /// Puts since creation; 0 once deleted.
    version: i64,
}

/// A list that is not complete yet.
#[derive(Debug, Default)]
struct Half {
    keys: HashMap<Box<[u8]>, Known>,
    scopes: HashMap<Box<str>, Kept>,
    strays: Vec<Problem>,
}

/// The views of all scopes under one namespace.
#[derive(Debug)]
pub struct Store {
    namespace: Namespace,
    keys: HashMap<Box<[u8]>, Known>,
    /// By the scope's text as it stands in the path, so that a heartbeat finds its scope without
    /// an allocation.
    scopes: HashMap<Box<str>, Kept>,
    half: Option<Half>,
    /// The revision of the last list: events up to it are in it.
    floor: i64,
    freshness: Freshness,
    lineage: u64,
    strays: Vec<Problem>,
    malformed_keys: u64,
    malformed_values: u64,
}

/// What an event did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Scopes whose view changed in a way that matters.
    pub news: Vec<ScopeId>,
    /// Scopes of which nothing changed that matters, but the leader's last known position, with
    /// what it is now.
    pub positions: Vec<(ScopeId, Option<Lsn>)>,
    /// A scope came or went.
    pub scopes_changed: bool,
    /// Keys that a list no longer has, though no delete was seen.
    pub vanished: Vec<Vec<u8>>,
    /// An event before this one was missed: list anew.
    pub gap: bool,
    /// Keys and values that could not be read, each told once for as long as it stays as it is.
    pub notices: Vec<Notice>,
}

/// Something malformed that nobody has been told of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whose; none when not even that can be read.
    pub scope: Option<ScopeId>,
    /// What.
    pub problem: Problem,
}

impl Store {
    /// Knows nothing yet.
    pub fn new(namespace: Namespace) -> Self {
        Self {
            namespace,
            keys: HashMap::new(),
            scopes: HashMap::new(),
            half: None,
            floor: 0,
            freshness: Freshness::Unknown,
            lineage: 0,
            strays: Vec::new(),
            malformed_keys: 0,
            malformed_values: 0,
        }
    }

    /// The view of one scope; an empty one if there is nothing of it in etcd.
    pub fn view(&self, id: &ScopeId) -> ScopeView {
        match self.scopes.get(id.to_string().as_str()) {
            Some(kept) => kept.view.clone(),
            None => self.empty(id.clone()),
        }
    }

    /// The scopes that exist.
    pub fn scopes(&self) -> BTreeSet<ScopeId> {
        self.views().map(|view| view.scope.clone()).collect()
    }

    /// All views that exist.
    pub fn views(&self) -> impl Iterator<Item = &ScopeView> {
        self.scopes
            .values()
            .map(|kept| &kept.view)
            .filter(|view| view.exists())
    }

    /// Keys in etcd under the namespace, whatever they are.
    pub fn key_count(&self) -> usize {
        self.keys.values().filter(|known| known.version > 0).count()
    }

    /// Keys and values seen so far that could not be read, each put counted.
    pub fn malformed(&self) -> (u64, u64) {
        (self.malformed_keys, self.malformed_values)
    }

    /// Of all views alike.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Says of every view how far it can be trusted.
    pub fn set_freshness(&mut self, freshness: &Freshness) {
        self.freshness = freshness.clone();
        for kept in self.scopes.values_mut() {
            kept.view.freshness = freshness.clone();
        }
    }

    /// Says of every view that etcd's history is another one. Takes effect on the views with the
    /// list that follows, so that no view ever has new lineage and old content.
    pub fn set_lineage(&mut self, lineage: u64) {
        self.lineage = lineage;
    }

    /// Folds one event in.
    pub fn apply(&mut self, event: Event) -> Applied {
        match event {
            Event::Init => {
                self.half = Some(Half::default());
                Applied::default()
            }
            Event::InitPut(record) => {
                self.list(&record);
                Applied::default()
            }
            Event::InitDone { revision } => self.swap(revision),
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

    fn list(&mut self, record: &Record) {
        let Some(mut half) = self.half.take() else {
            return;
        };
        half.keys.insert(
            record.key.as_slice().into(),
            Known {
                mod_revision: record.mod_revision,
                version: record.version,
            },
        );
        match parse_ref(&self.namespace, &record.key) {
            Ok(key) if matters(key.field) => {
                let kept = half
                    .scopes
                    .entry(key.scope.into())
                    .or_insert_with(|| Kept::new(self.empty(key.id())));
                if fold(kept, &key, record).malformed.is_some() {
                    self.malformed_values += 1;
                }
            }
            Ok(_) => {}
            Err(error) => {
                self.malformed_keys += 1;
                let problem = problem(record, error.to_string());
                match folder(&self.namespace, &record.key) {
                    Some(id) => {
                        let kept = half
                            .scopes
                            .entry(id.name.as_ref().into())
                            .or_insert_with(|| Kept::new(self.empty(id)));
                        remember(&mut kept.view, problem);
                    }
                    None if half.strays.len() < STRAYS => half.strays.push(problem),
                    None => {}
                }
            }
        }
        self.half = Some(half);
    }

    fn swap(&mut self, revision: i64) -> Applied {
        let Some(half) = self.half.take() else {
            return Applied::default();
        };
        let mut applied = Applied::default();
        let before = self.scopes();
        let old_keys = std::mem::replace(&mut self.keys, half.keys);
        let old_scopes = std::mem::replace(&mut self.scopes, half.scopes);
        let old_strays = std::mem::replace(&mut self.strays, half.strays);
        self.floor = revision;
        applied.vanished = old_keys
            .iter()
            .filter(|(key, known)| known.version > 0 && !self.keys.contains_key(*key))
            .map(|(key, _)| key.to_vec())
            .collect();
        applied.vanished.sort_unstable();
        for (path, kept) in &self.scopes {
            let view = &kept.view;
            let old = old_scopes.get(path).map(|old| &old.view);
            let same = old.map_or(!kept.speaks(), |old| old.says_the_same(view));
            if !same {
                applied.news.push(view.scope.clone());
            } else if old.and_then(|old| old.last_position) != view.last_position {
                let moved = (view.scope.clone(), view.last_position);
                applied.positions.push(moved);
            }
            for problem in &view.problems {
                if !old.is_some_and(|old| has_problem(&old.problems, problem)) {
                    let scope = Some(view.scope.clone());
                    applied.notices.push(Notice {
                        scope,
                        problem: problem.clone(),
                    });
                }
            }
        }
        for (path, old) in old_scopes {
            if self.scopes.contains_key(&path) {
                continue;
            }
            if old.speaks() {
                applied.news.push(old.view.scope);
            } else if old.view.last_position.is_some() {
                applied.positions.push((old.view.scope, None));
            }
        }
        for problem in &self.strays {
            if !has_problem(&old_strays, problem) {
                applied.notices.push(Notice {
                    scope: None,
                    problem: problem.clone(),
                });
            }
        }
        applied.news.sort_unstable();
        applied.positions.sort_unstable();
        applied.scopes_changed = before != self.scopes();
        applied
    }

    /// Whether this change of a key is news, and whether one before it was missed.
    fn admit(&mut self, record: &Record, version: i64) -> Option<bool> {
        if record.mod_revision <= self.floor {
            return None;
        }
        let known = Known {
            mod_revision: record.mod_revision,
            version,
        };
        match self.keys.get_mut(record.key.as_slice()) {
            Some(old) if record.mod_revision <= old.mod_revision => None,
            Some(old) => {
                let gap = if version == 0 {
                    old.version == 0
                } else {
                    version != old.version + 1
                };
                *old = known;
                Some(gap)
            }
            None => {
                self.keys.insert(record.key.as_slice().into(), known);
                Some(version != 1)
            }
        }
    }

    fn put(&mut self, record: &Record) -> Applied {
        let Some(gap) = self.admit(record, record.version.max(1)) else {
            return Applied::default();
        };
        let mut applied = Applied {
            gap,
            ..Applied::default()
        };
        let (id, notice) = match parse_ref(&self.namespace, &record.key) {
            Ok(key) if !matters(key.field) => return applied,
            Ok(key) => {
                // Looked up twice at most, and without an allocation when it is there.
                if !self.scopes.contains_key(key.scope) {
                    let kept = Kept::new(self.empty(key.id()));
                    self.scopes.insert(key.scope.into(), kept);
                }
                let Some(kept) = self.scopes.get_mut(key.scope) else {
                    return applied;
                };
                let (existed, position) = (kept.view.exists(), kept.view.last_position);
                let folded = fold(kept, &key, record);
                let view = &kept.view;
                applied.scopes_changed = existed != view.exists();
                if folded.malformed.is_some() {
                    self.malformed_values += 1;
                }
                if !folded.news {
                    if position != view.last_position {
                        let moved = (view.scope.clone(), view.last_position);
                        applied.positions.push(moved);
                    }
                    return applied;
                }
                (Some(view.scope.clone()), folded.malformed)
            }
            Err(error) => {
                self.malformed_keys += 1;
                let problem = problem(record, error.to_string());
                match folder(&self.namespace, &record.key) {
                    Some(id) => {
                        let empty = Kept::new(self.empty(id.clone()));
                        let kept = self.scopes.entry(id.name.as_ref().into()).or_insert(empty);
                        if !remember(&mut kept.view, problem.clone()) {
                            return applied;
                        }
                        (Some(id), Some(problem))
                    }
                    None if has_problem(&self.strays, &problem) => return applied,
                    None => {
                        if self.strays.len() >= STRAYS {
                            return applied;
                        }
                        self.strays.push(problem.clone());
                        (None, Some(problem))
                    }
                }
            }
        };
        applied.notices.extend(notice.map(|problem| Notice {
            scope: id.clone(),
            problem,
        }));
        applied.news.extend(id);
        applied
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
            Err(_) => folder(&self.namespace, &record.key).map(|id| id.to_string()),
        };
        let Some(path) = path else {
            let name = excerpt(&record.key);
            self.strays.retain(|problem| problem.key != name);
            return applied;
        };
        let Some(kept) = self.scopes.get_mut(path.as_str()) else {
            return applied;
        };
        let (existed, position) = (kept.view.exists(), kept.view.last_position);
        let mut news = forget(&mut kept.view, &record.key);
        if let Ok(key) = key {
            news |= remove(kept, key.field);
        }
        let view = &kept.view;
        applied.scopes_changed = existed != view.exists();
        if news {
            applied.news.push(view.scope.clone());
        } else if position != view.last_position {
            let moved = (view.scope.clone(), view.last_position);
            applied.positions.push(moved);
        }
        if kept.is_bare() {
            self.scopes.remove(path.as_str());
        }
        applied
    }
}

#[cfg(test)]
mod tests;
