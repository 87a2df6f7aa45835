//! The `citus:` section: the polling script's, or Patroni's own.

use dcs_watch::key::ScopeId;

use super::super::reader::{At, Fields};
use super::super::values;
use super::super::workers::{Discover, MAX_GROUP, Workers};
use super::super::yaml::Node;
use super::nodes;

/// What the `citus:` section says.
pub(super) struct Citus {
    pub(super) databases: Vec<String>,
    pub(super) workers: Workers,
    /// Patroni itself keeps `pg_dist_node`.
    pub(super) managed: bool,
}

/// Reads the section. `None` when a problem was noted.
pub(super) fn read(at: &At<'_>, scope: Option<&ScopeId>) -> Option<Citus> {
    let known = ["databases", "workers", "loop_wait", "database", "group"];
    let fields = at.fields(&known, "a mapping with `databases` and `workers`")?;
    let ours: Vec<&str> = ["databases", "workers", "loop_wait"]
        .into_iter()
        .filter(|k| fields.has(k))
        .collect();
    let patronis: Vec<&str> = ["database", "group"]
        .into_iter()
        .filter(|k| fields.has(k))
        .collect();
    match (ours.is_empty(), patronis.is_empty()) {
        (false, false) => {
            at.bad_key(
                &format!(
                    "{}, by which Patroni itself manages Citus here, beside {}",
                    ticked(&patronis),
                    ticked(&ours)
                ),
                "one or the other",
                "two writers would undo each other's moves: to let Patroni manage Citus remove \
                 the latter, to let citus-sync do it remove the former",
            );
            None
        }
        (true, false) => managed(at, &fields, scope),
        _ => scripted(&fields),
    }
}

fn ticked(keys: &[&str]) -> String {
    keys.iter()
        .map(|key| format!("`{key}`"))
        .collect::<Vec<_>>()
        .join(" and ")
}

/// Patroni's own integration: scopes are `<scope>/<group>`, and every group is Patroni's to keep.
fn managed(at: &At<'_>, fields: &Fields<'_>, scope: Option<&ScopeId>) -> Option<Citus> {
    let fix = "Patroni ignores the section unless it has both `database` and `group`";
    let database = fields.require("database", "the Citus database", fix)?;
    let group = fields.require("group", "the Citus group of this node", fix)?;
    let database = database.text("the Citus database")?.to_owned();
    group.number(&(0..=MAX_GROUP), "the Citus group of this node")?;
    let scope = scope?;
    let pattern = format!("^{}/(?<group>[1-9][0-9]*)$", regex::escape(&scope.name));
    at.doc.warn(format!(
        "citus: Patroni itself manages Citus in scope {scope} (citus.database, citus.group): \
         its rows are only observed, never written; set policy.write in a native file to change that"
    ));
    let discover = Discover::new(&pattern).map_err(|error| at.bad("a scope", &error.to_string()));
    Some(Citus {
        databases: vec![database],
        workers: Workers::Discovered(discover.ok()?),
        managed: true,
    })
}

/// The section of the polling script.
fn scripted(fields: &Fields<'_>) -> Option<Citus> {
    let databases = fields
        .require(
            "databases",
            "a list of the Citus databases",
            "for example: databases: [postgres]",
        )
        .and_then(|at| values::databases(&at));
    let workers = fields
        .require(
            "workers",
            "a list of worker groups and their nodes",
            "for example: workers: [{groupid: 1, nodes: [\"10.0.0.2:5432\"]}]",
        )
        .and_then(|at| nodes::read(&at));
    if let Some(at) = fields.given("loop_wait") {
        match at.node {
            Node::Int(_) | Node::Float(_) => at.doc.warn(
                "citus.loop_wait: without effect, because etcd is watched and not polled"
                    .to_owned(),
            ),
            _ => at.bad("a number of seconds", ""),
        }
    }
    Some(Citus {
        databases: databases?,
        workers: Workers::AtNodes(workers?),
        managed: false,
    })
}
