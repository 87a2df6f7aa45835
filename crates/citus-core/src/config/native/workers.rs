//! The worker groups of a formation: listed under `workers`, or found by `discover`.

use std::collections::BTreeMap;

use dcs_watch::key::ScopeId;

use super::super::formation::Coordinator;
use super::super::reader::{At, Fields};
use super::super::values;
use super::super::workers::{Discover, Workers};

/// Reads `workers` or `discover` of a formation. `None` when a problem was noted.
pub(super) fn read(fields: &Fields<'_>, coordinator: Option<&Coordinator>) -> Option<Workers> {
    match (fields.get("workers"), fields.get("discover")) {
        (Some(at), None) => listed(&at, coordinator).map(Workers::Listed),
        (None, Some(at)) => discover(&at).map(Workers::Discovered),
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

fn listed(at: &At<'_>, coordinator: Option<&Coordinator>) -> Option<BTreeMap<u32, ScopeId>> {
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
    let mut whole = true;
    for item in &items {
        let Some((group_at, group, scope_at, scope)) = worker(item) else {
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
        if let Some((other, _)) = groups.iter().find(|(_, theirs)| **theirs == scope) {
            let found = format!("scope {scope}, which group {other} has too");
            let fix = "a scope has one leader, so it can serve one group: correct one of them";
            scope_at.bad_found(&found, "each scope once", fix);
            whole = false;
        }
        if coordinator.is_some_and(|c| c.scope == scope) {
            let found = format!("scope {scope}, which is the coordinator's");
            scope_at.bad_found(
                &found,
                "a worker's scope",
                "the coordinator is group 0 by itself",
            );
            whole = false;
        }
        if scope.group.is_some_and(|theirs| theirs != group) {
            let found = format!("scope {scope} for group {group}");
            let fix = "in Patroni's own Citus layout the number after the slash is the group";
            scope_at.bad_found(&found, &format!("{}/{group}", scope.name), fix);
            whole = false;
        }
        groups.insert(group, scope);
    }
    whole.then_some(groups)
}

fn worker<'a>(item: &At<'a>) -> Option<(At<'a>, u32, At<'a>, ScopeId)> {
    let fields = item.fields(&["group", "scope"], "a mapping with `group` and `scope`")?;
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
    let ((group_at, group), (scope_at, scope)) = (group?, scope?);
    Some((group_at, group, scope_at, scope))
}
