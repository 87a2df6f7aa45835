//! Patroni's own file with the `citus:` section of the polling script this project takes over from
//! (`databases`, `workers: [{groupid, nodes}]`, `loop_wait`), or with Patroni's own `citus:` section.
//!
//! Keys outside `citus:` are Patroni's business: what is not needed here is not looked at.

use std::collections::BTreeSet;

use dcs_watch::key::ScopeId;

use super::super::addresses::AddressRules;
use super::super::environment::Environment;
use super::super::formation::{Coordinator, Formation, Password};
use super::super::reader::{At, Doc};
use super::super::settings::{Config, DEFAULT_LISTEN, DEFAULT_NAMESPACE, Election};
use super::super::yaml::Node;
use super::super::{token, values};
use super::citus::{self, Citus};
use super::{etcd, login};
use crate::policy::{Policy, Write};

/// Whether the file is Patroni's rather than a native one.
pub(in crate::config) fn is_patroni(node: &Node) -> bool {
    let has = |key: &str| node.get(key).is_some();
    let patronis = ["postgresql", "restapi", "bootstrap"]
        .iter()
        .any(|key| has(key));
    let native = ["coordinator", "formations"].iter().any(|key| has(key));
    patronis && !native
}

/// Reads Patroni's file. `None` when a problem was noted.
pub(in crate::config) fn read<'a>(
    doc: &'a Doc<'a>,
    node: &'a Node,
    environment: &Environment<'_>,
) -> Option<Config> {
    let fields = At::root(doc, node).open_fields("a mapping")?;
    let scope = fields
        .require(
            "scope",
            "the Patroni scope of the coordinator",
            "if Patroni takes it from PATRONI_SCOPE, write a native file instead",
        )
        .and_then(|at| scope(&at));
    let namespace = match fields.given("namespace") {
        Some(at) => values::namespace(&at),
        None => Some(DEFAULT_NAMESPACE.to_owned()),
    };
    let etcd = etcd::read(&fields, environment);
    let login = login::read(&fields, environment);
    let citus = fields
        .require(
            "citus",
            "a `citus` section, because this is Patroni's file",
            "add citus: {databases: […], workers: [{groupid: 1, nodes: [\"host:port\"]}]}, or write \
             a native file with `etcd`, `coordinator` and `workers`",
        )
        .and_then(|at| citus::read(&at, scope.as_ref()));
    let (scope, namespace, etcd) = (scope?, namespace?, etcd?);
    let ((user, password), citus) = (login?, citus?);
    Some(Config {
        listen: DEFAULT_LISTEN,
        // The `citus:` section is the old script's, whose keys are the only ones it may have.
        token: token::from_environment(&fields.at, environment),
        etcd,
        namespace,
        formations: vec![formation(scope, user, password, citus)],
        election: Election::default(),
        warnings: Vec::new(),
        source: environment.file.to_owned(),
    })
}

/// The one formation that Patroni's file can name.
fn formation(scope: ScopeId, user: String, password: Password, citus: Citus) -> Formation {
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
    Formation {
        name: coordinator.path().into_owned(),
        coordinator: Coordinator {
            scope: coordinator,
            databases: citus.databases,
            user,
            password,
        },
        workers: citus.workers,
        fixed: BTreeSet::new(),
        addresses: AddressRules::default(),
        register: false,
        policy: Policy {
            write,
            ..Policy::default()
        },
    }
}

fn scope(at: &At<'_>) -> Option<ScopeId> {
    let scope = values::scope(at)?;
    if scope.group.is_some() {
        at.bad("a scope without a group, as Patroni has it", "");
        return None;
    }
    Some(scope)
}
