//! Which members of a scope are in its view when a scope has more than any cluster has.
//!
//! A view is copied and compared whenever something in it changes, so its size is what each event
//! costs. A writer that has gone wrong (a name made anew at every start, a test against the wrong etcd)
//! may leave thousands of member keys behind. Those that matter are always in the view: the leader, its
//! synchronous standbys, and whom a request names.

use std::collections::{BTreeMap, BTreeSet};

use crate::value::Member;
use crate::view::{ScopeView, Versioned};

/// Members that a view has, beside those that are named. PostgreSQL serves a dozen standbys; clusters of
/// thirty are known.
pub(super) const MAX_MEMBERS: usize = 250;

/// The members that have no place in the view.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    members: BTreeMap<String, Versioned<Member>>,
}

impl Surplus {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Puts a member; whether the view changed.
    pub(super) fn set(
        &mut self,
        view: &mut ScopeView,
        name: &str,
        member: Versioned<Member>,
    ) -> bool {
        if let Some(known) = view.members.get_mut(name) {
            let changed = known.value != member.value;
            *known = member;
            return changed;
        }
        let has_place = view.members.len() < MAX_MEMBERS || named(view).contains(name);
        let to = if has_place {
            self.members.remove(name);
            &mut view.members
        } else {
            &mut self.members
        };
        to.insert(name.to_owned(), member);
        has_place
    }

    /// Removes a member; whether the view changed. Another one takes its place.
    pub(super) fn remove(&mut self, view: &mut ScopeView, name: &str) -> bool {
        if self.members.remove(name).is_some() {
            return false;
        }
        let removed = view.members.remove(name).is_some();
        if view.members.len() < MAX_MEMBERS
            && let Some((name, member)) = self.members.pop_first()
        {
            view.members.insert(name, member);
        }
        removed
    }

    /// Gives those that are named a place in the view.
    pub(super) fn show_named(&mut self, view: &mut ScopeView) {
        if self.members.is_empty() {
            return;
        }
        for name in named(view) {
            if let Some((name, member)) = self.members.remove_entry(&name) {
                view.members.insert(name, member);
            }
        }
    }
}

/// The members that other keys name.
fn named(view: &ScopeView) -> BTreeSet<String> {
    let leader = view.leader.iter().map(|leader| &leader.value);
    let sync = view.sync.iter().map(|sync| &sync.value);
    let sync = sync.flat_map(|sync| sync.leader.iter().chain(&sync.standbys));
    let request = view.failover.iter().map(|request| &request.value);
    let request = request.flat_map(|request| request.leader.iter().chain(&request.candidate));
    leader.chain(sync).chain(request).cloned().collect()
}
