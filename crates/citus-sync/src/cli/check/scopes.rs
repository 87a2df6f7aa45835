//! What etcd says of each configured scope.

use std::collections::BTreeMap;

use dcs_watch::{HostPort, ScopeView};

use crate::cli::remediation::nearest;
use crate::cli::snapshot::{Groups, Views};
use citus_core::config::Formation;
use citus_core::plan::{COORDINATOR_GROUP, Writes};
use citus_core::render::{Finding, counted};

/// Unreadable keys that are listed one by one; a scope with more has one common cause.
const PROBLEMS_SHOWN: usize = 5;

/// Scopes that are named when none of them is like the one that is missing.
const SCOPES_SHOWN: usize = 8;

pub(super) fn judge(
    formation: &Formation,
    writes: Writes,
    groups: &Groups,
    views: &Views,
    namespace: &str,
) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(observed_only(formation, writes));
    for (group, view) in &groups.views {
        let what = name(*group, view);
        if view.exists() {
            found.push(leader(&what, view));
            found.extend(notices(&what, view));
        } else {
            found.push(missing(&what, *group, view, views, namespace));
        }
        found.extend(problems(&what, view));
    }
    found.extend(
        groups
            .unresolved
            .iter()
            .map(|gap| Finding::fail("workers", gap.to_string(), "")),
    );
    found.extend(claimed_twice(groups));
    found
}

/// `scope wk1 (group 1)`.
pub(super) fn name(group: i32, view: &ScopeView) -> String {
    if group == COORDINATOR_GROUP {
        format!("scope {} (coordinator)", view.scope)
    } else {
        format!("scope {} (group {group})", view.scope)
    }
}

fn observed_only(formation: &Formation, writes: Writes) -> Option<Finding> {
    match writes {
        Writes::Allowed => None,
        Writes::PatroniManages => Some(Finding::warn(
            format!("formation {}", formation.name),
            "Patroni's own Citus integration is in charge of pg_dist_node (its scopes are grouped, \
             like citus/0): `run` will only observe",
            "to have citus-sync write instead, take the `citus:` section out of every Patroni's \
             configuration and set `policy.write: always`; never have both write",
        )),
        Writes::ObserveOnly => Some(Finding::warn(
            format!("formation {}", formation.name),
            "`policy.write` is `never`: `run` will only observe",
            "set it to `auto` when citus-sync is to move rows",
        )),
    }
}

fn missing(what: &str, group: i32, view: &ScopeView, views: &Views, namespace: &str) -> Finding {
    let scope = &view.scope;
    let names: Vec<String> = views
        .values()
        .filter(|view| view.exists())
        .map(|view| view.scope.to_string())
        .collect();
    let mut near = nearest(&scope.to_string(), names.iter().map(String::as_str));
    // `citus` for `citus/0`: the group was forgotten.
    let grouped = views.keys().filter(|other| other.name == scope.name);
    let grouped: Vec<String> = grouped.map(ToString::to_string).collect();
    if !grouped.is_empty() {
        near = grouped.iter().map(String::as_str).take(3).collect();
    }
    let key = if group == COORDINATOR_GROUP {
        "coordinator.scope"
    } else {
        "workers"
    };
    let mut detail = format!("etcd has no scope {scope} under {namespace}");
    let mut fix = format!("correct `{key}`, or start Patroni for {scope}");
    if near.is_empty() {
        let (shown, more) = names.split_at(names.len().min(SCOPES_SHOWN));
        detail = format!("{detail}; it has {}", shown.join(", "));
        if !more.is_empty() {
            detail = format!("{detail} and {} more", more.len());
        }
    } else {
        fix = format!("did you mean {}? If not, {fix}", near.join(" or "));
    }
    Finding::fail(what, detail, fix)
}

fn leader(what: &str, view: &ScopeView) -> Finding {
    let members = counted(view.members.len(), "member", "members");
    let list = format!("`patronictl list {}` shows more", view.scope.name);
    let Some(leader) = &view.leader else {
        let known: Vec<String> = view
            .members
            .iter()
            .map(|(name, member)| format!("{name} ({}, {})", member.value.role, member.value.state))
            .collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        return Finding::fail(
            what,
            format!("no member holds the leader key; members: {known}"),
            list,
        );
    };
    let leader = &leader.value;
    let Some(member) = view.leader_member() else {
        let detail = format!("{leader} holds the leader key but has no readable member key");
        return Finding::fail(what, detail, list);
    };
    let Some(address) = &member.address else {
        return Finding::fail(
            what,
            format!("{leader} leads, but its member key has no usable conn_url"),
            format!("set `postgresql.connect_address` in {leader}'s Patroni configuration"),
        );
    };
    let version = member.version.as_deref();
    let version = version
        .map(|version| format!(", Patroni {version}"))
        .unwrap_or_default();
    Finding::pass(
        what,
        format!("leader {leader} at {address}, {members}{version}"),
    )
}

/// What is not wrong, but changes what to expect.
fn notices(what: &str, view: &ScopeView) -> Vec<Finding> {
    let mut found = Vec::new();
    let scope = &view.scope.name;
    if view.is_paused() {
        found.push(Finding::warn(
            what,
            "Patroni is paused: it will not fail over by itself",
            format!("`patronictl resume {scope}` when the work is done"),
        ));
    }
    if view
        .config
        .as_ref()
        .is_some_and(|config| config.value.standby_cluster)
    {
        found.push(Finding::warn(
            what,
            "it is a standby cluster: its leader never takes writes, so no row will follow it",
            "use the scope that it replicates from",
        ));
    }
    found
}

fn problems(what: &str, view: &ScopeView) -> Vec<Finding> {
    let fix = "have its owner write it again; `dcs-watch` shows keys as they come";
    let mut found: Vec<Finding> = view
        .problems
        .iter()
        .take(PROBLEMS_SHOWN)
        .map(|problem| Finding::warn(what, format!("{}: {}", problem.key, problem.what), fix))
        .collect();
    let more = view.problems.len().saturating_sub(PROBLEMS_SHOWN);
    if more > 0 {
        found.push(Finding::warn(
            what,
            format!("{more} more keys cannot be read"),
            fix,
        ));
    }
    found
}

/// An address is one server's: when two members claim it, one of them is somewhere else, and a
/// row moved to it would send queries to the wrong group.
fn claimed_twice(groups: &Groups) -> Vec<Finding> {
    let mut claims: BTreeMap<&HostPort, Vec<String>> = BTreeMap::new();
    for view in groups.views.values() {
        for (name, member) in &view.members {
            if let Some(address) = &member.value.address {
                claims
                    .entry(address)
                    .or_default()
                    .push(format!("{}/{name}", view.scope));
            }
        }
    }
    claims
        .iter()
        .filter(|(_, members)| members.len() > 1)
        .map(|(address, members)| {
            Finding::fail(
                format!("address {address}"),
                format!("is claimed by more than one member: {}", members.join(", ")),
                "correct `postgresql.connect_address` in their Patroni configurations: each \
                 needs an address of its own that every Citus node can reach",
            )
        })
        .collect()
}
