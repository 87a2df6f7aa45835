//! The worker groups of a formation: listed under `workers`, or found by `discover`.

use std::collections::{BTreeMap, BTreeSet};

use dcs_watch::key::ScopeId;

use super::super::formation::Coordinator;
use super::super::reader::{At, Fields};
use super::super::values;
use super::super::workers::{Discover, Workers};

/// Reads `workers` or `discover` of a formation. `None` when a problem was noted.
///
/// With them, the groups whose row follows by itself.
pub(super) fn read(
    fields: &Fields<'_>,
    coordinator: Option<&Coordinator>,
) -> Option<(Workers, BTreeSet<u32>)> {
    match (fields.get("workers"), fields.get("discover")) {
        (Some(at), None) => {
            let (listed, fixed) = listed(&at, coordinator)?;
            Some((Workers::Listed(listed), fixed))
        }
        (None, Some(at)) => Some((discover(&at).map(Workers::Discovered)?, BTreeSet::new())),
        (Some(_), Some(at)) => {
            let fix = "remove one of them; `discover` finds new scopes by itself";
            at.bad_key("`discover` beside `workers`", "one or the other", fix);
            None
        }
        (None, None) => {
            fields.missing(
                "workers",
                "a list of groups and scopes, or `discover` in its place",
                "for example: workers: [{group: 1, scope: wk1}]",
            );
            None
        }
    }
}

fn discover(at: &At<'_>) -> Option<Discover> {
    let expected = "a regular expression over scopes with a group named `group`";
    let example = r"for example: discover: '^wk(?<group>\d+)$'";
    match Discover::new(at.text(expected)?) {
        Ok(discover) => Some(discover),
        Err(error) => {
            at.bad(expected, &format!("{error}; {example}"));
            None
        }
    }
}

fn listed(
    at: &At<'_>,
    coordinator: Option<&Coordinator>,
) -> Option<(BTreeMap<u32, ScopeId>, BTreeSet<u32>)> {
    let expected = "a list of worker groups, each with `group` and `scope`";
    let items = at.list(expected, "write each as an item: - {group: 1, scope: wk1}")?;
    if items.is_empty() {
        at.bad(
            expected,
            "name at least one, or use `discover` if they are still to come",
        );
        return None;
    }
    let mut groups: BTreeMap<u32, ScopeId> = BTreeMap::new();
    let mut fixed = BTreeSet::new();
    let mut whole = true;
    for item in &items {
        let Some(Worker {
            group: (group_at, group),
            scope: (scope_at, scope),
            is_fixed,
        }) = worker(item)
        else {
            whole = false;
            continue;
        };
        if groups.contains_key(&group) {
            group_at.bad(
                "each group once",
                "a group is served by one scope: remove one of them",
            );
            whole = false;
            continue;
        }
        whole &= scope_is_right(&scope_at, &scope, group, &groups, coordinator);
        groups.insert(group, scope);
        if is_fixed {
            fixed.insert(group);
        }
    }
    whole.then_some((groups, fixed))
}

/// Whether a scope may serve a group; a problem is noted if not.
fn scope_is_right(
    scope_at: &At<'_>,
    scope: &ScopeId,
    group: u32,
    groups: &BTreeMap<u32, ScopeId>,
    coordinator: Option<&Coordinator>,
) -> bool {
    let mut right = true;
    if let Some((other, _)) = groups.iter().find(|(_, theirs)| *theirs == scope) {
        let found = format!("scope {scope}, which group {other} has too");
        let fix = "a scope has one leader, so it can serve one group: correct one of them";
        scope_at.bad_found(&found, "each scope once", fix);
        right = false;
    }
    if coordinator.is_some_and(|c| c.scope == *scope) {
        let found = format!("scope {scope}, which is the coordinator's");
        scope_at.bad_found(
            &found,
            "a worker's scope",
            "the coordinator is group 0 by itself",
        );
        right = false;
    }
    if scope.group.is_some_and(|theirs| theirs != group) {
        let found = format!("scope {scope} for group {group}");
        let fix = "in Patroni's own Citus layout the number after the slash is the group";
        scope_at.bad_found(&found, &format!("{}/{group}", scope.name), fix);
        right = false;
    }
    right
}

/// One item, and where its parts are.
struct Worker<'a> {
    group: (At<'a>, u32),
    scope: (At<'a>, ScopeId),
    is_fixed: bool,
}

fn worker<'a>(item: &At<'a>) -> Option<Worker<'a>> {
    let expected = "a mapping with `group` and `scope`";
    let fields = item.fields(&["group", "scope", "address"], expected)?;
    let is_fixed = match fields.get("address") {
        Some(at) => at.word(&[("advertised", false), ("fixed", true)]),
        None => Some(false),
    };
    let group = fields
        .require(
            "group",
            "the Citus group",
            "for example: {group: 1, scope: wk1}",
        )
        .and_then(|at| values::group(&at).map(|group| (at, group)));
    let scope = fields
        .require(
            "scope",
            "the Patroni scope of the group",
            "for example: {group: 1, scope: wk1}",
        )
        .and_then(|at| values::scope(&at).map(|scope| (at, scope)));
    Some(Worker {
        group: group?,
        scope: scope?,
        is_fixed: is_fixed?,
    })
}
