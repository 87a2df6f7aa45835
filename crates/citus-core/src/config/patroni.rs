//! Patroni's own file with the `citus:` section of the polling script this project takes over from
//! (`databases`, `workers: [{groupid, nodes}]`, `loop_wait`), or with Patroni's own `citus:` section.
//!
//! Keys outside `citus:` are Patroni's business: what is not needed here is not looked at.

use std::collections::BTreeMap;

use dcs_watch::key::ScopeId;
use dcs_watch::value::HostPort;

use super::login::{self, Named};
use super::reader::{At, Doc, Fields};
use super::secret::{Origin, Secret};
use super::yaml::Node;
use super::{
    Config, Coordinator, Discover, Election, Fixture, Formation, Workers, formation, native,
    patroni_etcd, token,
};
use crate::policy::{Policy, Write};

/// Whether the file is Patroni's rather than a native one.
pub(super) fn is_patroni(node: &Node) -> bool {
    let has = |key: &str| node.get(key).is_some();
    let patronis = ["postgresql", "restapi", "bootstrap"]
        .iter()
        .any(|key| has(key));
    let native = ["coordinator", "formations"].iter().any(|key| has(key));
    patronis && !native
}

/// Reads Patroni's file. `None` when a problem was noted.
pub(super) fn read<'a>(doc: &'a Doc<'a>, node: &'a Node, fixture: &Fixture<'_>) -> Option<Config> {
    let fields = At::root(doc, node).open_fields("a mapping")?;
    let scope = fields
        .require(
            "scope",
            "the Patroni scope of the coordinator",
            "if Patroni takes it from PATRONI_SCOPE, write a native file instead",
        )
        .and_then(|at| scope(&at));
    let namespace = match fields.given("namespace") {
        Some(at) => native::namespace(&at),
        None => Some(native::DEFAULT_NAMESPACE.to_owned()),
    };
    let etcd = patroni_etcd::read(&fields, fixture);
    let login = login(&fields, fixture);
    let citus = fields
        .require(
            "citus",
            "a `citus` section, because this is Patroni's file",
            "add citus: {databases: […], workers: [{groupid: 1, nodes: [\"host:port\"]}]}, or write \
             a native file with `etcd`, `coordinator` and `workers`",
        )
        .and_then(|at| citus(&at, scope.as_ref()));
    let (scope, namespace, etcd) = (scope?, namespace?, etcd?);
    let ((user, password), citus) = (login?, citus?);
    let coordinator = if citus.managed {
        ScopeId {
            name: scope.name,
            group: Some(0),
        }
    } else {
        scope
    };
    let write = if citus.managed {
        Write::Never
    } else {
        Write::Auto
    };
    Some(Config {
        listen: native::DEFAULT_LISTEN,
        // The `citus:` section is the old script's, whose keys are the only ones it may have.
        token: token::from_environment(&fields.at, fixture),
        etcd,
        namespace,
        formations: vec![Formation {
            name: coordinator.path().into_owned(),
            coordinator: Coordinator {
                scope: coordinator,
                databases: citus.databases,
                user,
                password,
            },
            workers: citus.workers,
            register: false,
            policy: Policy {
                write,
                ..Policy::default()
            },
        }],
        election: Election::default(),
        warnings: Vec::new(),
        source: fixture.file.to_owned(),
    })
}

fn scope(at: &At<'_>) -> Option<ScopeId> {
    let scope = formation::scope(at)?;
    if scope.group.is_some() {
        at.bad("a scope without a group, as Patroni has it", "");
        return None;
    }
    Some(scope)
}

/// What the `citus:` section says.
struct Citus {
    databases: Vec<String>,
    workers: Workers,
    /// Patroni itself keeps `pg_dist_node`.
    managed: bool,
}

fn citus(at: &At<'_>, scope: Option<&ScopeId>) -> Option<Citus> {
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
    group.number(
        &(0..=super::workers::MAX_GROUP),
        "the Citus group of this node",
    )?;
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
        .and_then(|at| formation::databases(&at));
    let workers = fields
        .require(
            "workers",
            "a list of worker groups and their nodes",
            "for example: workers: [{groupid: 1, nodes: [\"10.0.0.2:5432\"]}]",
        )
        .and_then(|at| workers(&at));
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

fn workers(at: &At<'_>) -> Option<BTreeMap<u32, Vec<HostPort>>> {
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
        .and_then(|at| formation::group(&at).map(|group| (at, group)));
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

/// The superuser of `postgresql.authentication`, and where its password is.
fn login(fields: &Fields<'_>, fixture: &Fixture<'_>) -> Option<(String, super::Password)> {
    let postgresql = match fields.given("postgresql") {
        Some(at) => Some(at.open_fields("a mapping")?),
        None => None,
    };
    // Patroni's own defaults: the role `postgres`, and no password.
    let superuser = postgresql
        .as_ref()
        .and_then(|f| f.given("authentication"))
        .and_then(|at| at.open_fields("a mapping"))
        .and_then(|f| f.given("superuser"))
        .and_then(|at| at.open_fields("a mapping"));
    let Some(superuser) = superuser else {
        let named = passfile(postgresql.as_ref(), fixture);
        let password = login::for_postgres(named, postgresql.as_ref().unwrap_or(fields), fixture);
        return Some(("postgres".to_owned(), password));
    };
    let user = match superuser.given("username") {
        Some(at) => at.text("the name of the superuser")?.to_owned(),
        None => "postgres".to_owned(),
    };
    if let Some(at) = superuser.given("sslmode") {
        match at.text("one of libpq's sslmode words")? {
            "disable" | "allow" | "prefer" => {}
            _ => at.bad(
                "disable, allow or prefer, in this version",
                "this version speaks no TLS and will not fall back to plain text behind your back",
            ),
        }
    }
    let named = match superuser.given("password") {
        Some(at) => {
            let secret = key_secret(&at, fixture)?;
            Named::Secret(at, secret)
        }
        None => passfile(postgresql.as_ref(), fixture),
    };
    Some((user, login::for_postgres(named, &superuser, fixture)))
}

/// `postgresql.pgpass` is a file that Patroni writes when it starts a standby: it may not exist.
fn passfile<'a>(postgresql: Option<&Fields<'a>>, fixture: &Fixture<'_>) -> Named<'a> {
    let Some(at) = postgresql.and_then(|fields| fields.given("pgpass")) else {
        return Named::Nothing;
    };
    match at
        .text("the path of a pgpass file")
        .map(|text| fixture.beside(text))
    {
        Some(file) if (fixture.read)(&file).is_ok() => Named::Passfile(at, file),
        _ => Named::Nothing,
    }
}

/// A password that stands in Patroni's file itself.
pub(super) fn key_secret(at: &At<'_>, fixture: &Fixture<'_>) -> Option<Secret> {
    let value = match at.node {
        Node::Text(text) if !text.is_empty() => text.clone(),
        // YAML takes `password: 123456` for a number, and Patroni does not mind.
        Node::Int(number) => number.to_string(),
        _ => {
            at.bad_found(
                "something else (not shown)",
                "a password as text",
                "put it in quotes",
            );
            return None;
        }
    };
    let origin = Origin::Key {
        file: fixture.file.to_owned(),
        key: at.path.to_string(),
    };
    Some(Secret::new(value, origin))
}
