//! The worker groups of the polling script's section: each is a list of its members' addresses.

use std::collections::BTreeMap;

use dcs_watch::value::HostPort;

use super::super::reader::At;
use super::super::values;

/// The addresses of each group. `None` when a problem was noted.
pub(super) fn read(at: &At<'_>) -> Option<BTreeMap<u32, Vec<HostPort>>> {
    let expected = "a list of worker groups, each with `groupid` and `nodes`";
    let items = at.list(expected, "")?;
    if items.is_empty() {
        at.bad(expected, "name at least one");
        return None;
    }
    let mut groups: BTreeMap<u32, Vec<HostPort>> = BTreeMap::new();
    let mut whole = true;
    for item in &items {
        let Some((group_at, group, nodes)) = worker(item, &groups) else {
            whole = false;
            continue;
        };
        if groups.insert(group, nodes).is_some() {
            group_at.bad("each group once", "put all its nodes into one entry");
            whole = false;
        }
    }
    whole.then_some(groups)
}

fn worker<'a>(
    item: &At<'a>,
    before: &BTreeMap<u32, Vec<HostPort>>,
) -> Option<(At<'a>, u32, Vec<HostPort>)> {
    let fields = item.fields(
        &["groupid", "nodes"],
        "a mapping with `groupid` and `nodes`",
    )?;
    let group = fields
        .require("groupid", "the Citus group", "")
        .and_then(|at| values::group(&at).map(|group| (at, group)));
    let nodes = fields
        .require(
            "nodes",
            "a list of host:port",
            "for example: nodes: [\"10.0.0.2:5432\"]",
        )
        .and_then(|at| nodes(&at, before));
    let (group_at, group) = group?;
    Some((group_at, group, nodes?))
}

fn nodes(at: &At<'_>, before: &BTreeMap<u32, Vec<HostPort>>) -> Option<Vec<HostPort>> {
    let expected = "a list of host:port, the group's members";
    let items = at.list(expected, "")?;
    if items.is_empty() {
        at.bad(
            expected,
            "name at least one: the group's scope is found by it",
        );
        return None;
    }
    let mut nodes: Vec<HostPort> = Vec::new();
    let mut whole = true;
    for item in &items {
        let node = item.text("a node as host:port").and_then(|text| {
            text.trim()
                .parse::<HostPort>()
                .map_err(|_| item.bad("a node as host:port", "such as 10.0.0.2:5432"))
                .ok()
        });
        let Some(node) = node else {
            whole = false;
            continue;
        };
        if nodes.contains(&node) {
            item.bad("each node once", "remove it here");
            whole = false;
        } else if let Some((other, _)) = before.iter().find(|(_, theirs)| theirs.contains(&node)) {
            let found = format!("node {node}, which group {other} has too");
            item.bad_found(&found, "each node in one group", "correct one of them");
            whole = false;
        } else {
            nodes.push(node);
        }
    }
    whole.then_some(nodes)
}
