//! One formation of the native file: coordinator, workers, policy, and what must agree among them.

use std::collections::{BTreeMap, BTreeSet};

use dcs_watch::key::ScopeId;

use super::login;
use super::reader::{At, Fields};
use super::workers::MAX_GROUP;
use super::yaml::Node;
use super::{Coordinator, Discover, Fixture, Formation, Workers};
use crate::policy::{Policy, UseSecondaryNodes, Write, limits};

/// What an entry of `formations` may have.
pub(super) const KEYS: &[&str] = &[
    "name",
    "coordinator",
    "workers",
    "discover",
    "register",
    "policy",
];

/// Reads a formation from an entry of `formations`, or from the top level of a file that has none.
pub(super) fn read(
    fields: &Fields<'_>,
    base: Option<&Policy>,
    fixture: &Fixture<'_>,
) -> Option<Formation> {
    let fix = "for example: coordinator: {scope: cn, databases: [postgres], user: postgres}";
    let coordinator = fields
        .require(
            "coordinator",
            "the coordinator's scope, databases and user",
            fix,
        )
        .and_then(|at| coordinator(&at, fixture));
    let workers = workers(fields, coordinator.as_ref());
    let name = match fields.get("name") {
        Some(at) => at.text("a name for the formation").map(str::to_owned),
        None => coordinator.as_ref().map(|c| c.scope.path().into_owned()),
    };
    let register = match fields.get("register") {
        Some(at) => at.flag(),
        None => Some(false),
    };
    // The policy at the top level of the file is `base` already.
    let own = if fields.at.is_root() {
        None
    } else {
        fields.get("policy")
    };
    let policy = match (own, base) {
        (Some(at), base) => policy(&at, &base.cloned().unwrap_or_default()),
        (None, base) => base.cloned(),
    };
    Some(Formation {
        name: name?,
        coordinator: coordinator?,
        workers: workers?,
        register: register?,
        policy: policy?,
    })
}

fn coordinator(at: &At<'_>, fixture: &Fixture<'_>) -> Option<Coordinator> {
    let known = [
        "scope",
        "databases",
        "user",
        "password",
        "password_file",
        "passfile",
    ];
    let fields = at.fields(&known, "a mapping with `scope`, `databases` and `user`")?;
    let scope = fields
        .require(
            "scope",
            "the coordinator's Patroni scope",
            "for example: scope: cn",
        )
        .and_then(|at| {
            let scope = scope(&at)?;
            if scope.group.is_some_and(|group| group != 0) {
                let fix = "in Patroni's own Citus layout the coordinator is group 0";
                at.bad("a coordinator's scope, such as cn or citus/0", fix);
                return None;
            }
            Some(scope)
        });
    let databases = fields
        .require(
            "databases",
            "a list of the Citus databases",
            "for example: databases: [postgres]",
        )
        .and_then(|at| databases(&at));
    let user = match fields.get("user") {
        Some(at) => at.text("the role to log in as").map(str::to_owned),
        None => Some("postgres".to_owned()),
    };
    let named = login::named(&fields, fixture, login::PGPASSWORD);
    let password = login::for_postgres(named, &fields, fixture);
    Some(Coordinator {
        scope: scope?,
        databases: databases?,
        user: user?,
        password,
    })
}

/// A list of database names, none empty, none twice.
pub(super) fn databases(at: &At<'_>) -> Option<Vec<String>> {
    let expected = "a list of the Citus databases";
    let items = at.list(expected, "write it as a list: databases: [postgres]")?;
    if items.is_empty() {
        at.bad(
            expected,
            "name at least one: each database has its own pg_dist_node",
        );
        return None;
    }
    let mut databases: Vec<String> = Vec::new();
    let mut whole = true;
    for item in &items {
        match item.text("the name of a database") {
            Some(name) if databases.iter().any(|other| other == name) => {
                item.bad("each database once", "remove it here");
                whole = false;
            }
            Some(name) => databases.push(name.to_owned()),
            None => whole = false,
        }
    }
    whole.then_some(databases)
}

/// A scope, in either of Patroni's layouts.
pub(super) fn scope(at: &At<'_>) -> Option<ScopeId> {
    let expected = "a Patroni scope, such as wk1, or citus/1 in Patroni's own Citus layout";
    let text = at.text(expected)?;
    match text.parse() {
        Ok(scope) => Some(scope),
        Err(error) => {
            at.bad(expected, &format!("{error}"));
            None
        }
    }
}

fn workers(fields: &Fields<'_>, coordinator: Option<&Coordinator>) -> Option<Workers> {
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
        .and_then(|at| group(&at).map(|group| (at, group)));
    let scope = fields
        .require(
            "scope",
            "the Patroni scope of the group",
            "for example: {group: 1, scope: wk1}",
        )
        .and_then(|at| scope(&at).map(|scope| (at, scope)));
    let ((group_at, group), (scope_at, scope)) = (group?, scope?);
    Some((group_at, group, scope_at, scope))
}

/// A worker's group: never 0, never more than Citus can store.
pub(super) fn group(at: &At<'_>) -> Option<u32> {
    if *at.node == Node::Int(0) {
        at.bad(
            "a worker's Citus group, from 1 up",
            "group 0 is the coordinator: remove it here",
        );
        return None;
    }
    at.number(&(1..=MAX_GROUP), "a worker's Citus group")
}

/// The keys of `policy` on top of `base`.
pub(super) fn policy(at: &At<'_>, base: &Policy) -> Option<Policy> {
    let known = [
        "hold_timeout",
        "lock_cooldown",
        "read_move",
        "read_move_max_lag",
        "hold_on_request",
        "hold_on_leader_loss",
        "secondaries",
        "use_secondary_nodes",
        "fallback_to_primary",
        "write",
        "connect_timeout",
        "statement_timeout",
        "probe_interval",
        "reconcile_every",
    ];
    let fields = at.fields(&known, "a mapping of settings")?;
    let flag = |key: &str, default: bool| fields.get(key).map_or(Some(default), |at| at.flag());
    let time = |key: &str, range, default| {
        fields
            .get(key)
            .map_or(Some(default), |at| at.duration(range))
    };
    let secondary_words =
        [UseSecondaryNodes::Off, UseSecondaryNodes::Auto].map(|word| (word.as_str(), word));
    let write_words = [Write::Auto, Write::Always, Write::Never].map(|word| (word.as_str(), word));

    // Every setting is read before the first `?`, so that all problems are noted.
    let hold_timeout = time("hold_timeout", limits::HOLD_TIMEOUT, base.hold_timeout);
    let lock_cooldown = time("lock_cooldown", limits::LOCK_COOLDOWN, base.lock_cooldown);
    let read_move = flag("read_move", base.read_move);
    let read_move_max_lag = match fields.get("read_move_max_lag") {
        Some(at) => max_lag(&at),
        None => Some(base.read_move_max_lag),
    };
    let hold_on_request = flag("hold_on_request", base.hold_on_request);
    let hold_on_leader_loss = flag("hold_on_leader_loss", base.hold_on_leader_loss);
    let secondaries = flag("secondaries", base.secondaries);
    let use_secondary_nodes = fields
        .get("use_secondary_nodes")
        .map_or(Some(base.use_secondary_nodes), |at| {
            at.word(&secondary_words)
        });
    let fallback_to_primary = flag("fallback_to_primary", base.fallback_to_primary);
    let write = fields
        .get("write")
        .map_or(Some(base.write), |at| at.word(&write_words));
    let connect_timeout = time(
        "connect_timeout",
        limits::CONNECT_TIMEOUT,
        base.connect_timeout,
    );
    let statement_timeout = time(
        "statement_timeout",
        limits::STATEMENT_TIMEOUT,
        base.statement_timeout,
    );
    let probe_interval = time(
        "probe_interval",
        limits::PROBE_INTERVAL,
        base.probe_interval,
    );
    let reconcile_every = time(
        "reconcile_every",
        limits::RECONCILE_EVERY,
        base.reconcile_every,
    );
    let policy = Policy {
        hold_timeout: hold_timeout?,
        lock_cooldown: lock_cooldown?,
        read_move: read_move?,
        read_move_max_lag: read_move_max_lag?,
        hold_on_request: hold_on_request?,
        hold_on_leader_loss: hold_on_leader_loss?,
        secondaries: secondaries?,
        use_secondary_nodes: use_secondary_nodes?,
        fallback_to_primary: fallback_to_primary?,
        write: write?,
        connect_timeout: connect_timeout?,
        statement_timeout: statement_timeout?,
        probe_interval: probe_interval?,
        reconcile_every: reconcile_every?,
    };
    agree(&fields, &policy);
    for key in ["secondaries", "use_secondary_nodes", "fallback_to_primary"] {
        if let Some(at) = fields.get(key) {
            let text = format!("{}: accepted, but without effect in this version", at.path);
            at.doc.warn(text);
        }
    }
    Some(policy)
}

/// `off`, or a number of bytes as PostgreSQL writes it: `16MB`.
#[expect(
    clippy::option_option,
    reason = "the outer says whether it could be read, the inner whether it is on"
)]
fn max_lag(at: &At<'_>) -> Option<Option<u64>> {
    let expected = "off, or a size such as 16MB (kB, MB and GB as PostgreSQL has them)";
    let size = match at.node {
        Node::Bool(false) => return Some(None),
        Node::Int(bytes) => u64::try_from(*bytes).ok(),
        Node::Text(text) if text.trim() == "off" => return Some(None),
        Node::Text(text) => size(text.trim()),
        _ => None,
    };
    if size.is_none() {
        at.bad(expected, "");
    }
    size.map(Some)
}

fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Settings that are right one by one and wrong together.
fn agree(fields: &Fields<'_>, policy: &Policy) {
    let cooldown = policy.lock_cooldown;
    let others = [
        (
            "hold_timeout",
            policy.hold_timeout,
            "sessions in the way would outlast the hold, and every hold would end in vain",
        ),
        (
            "statement_timeout",
            policy.statement_timeout,
            "the move would be cancelled before the sessions in its way are ended",
        ),
    ];
    for (key, limit, why) in others {
        if cooldown < limit {
            continue;
        }
        let found = format!(
            "lock_cooldown {} and {key} {}",
            humantime::format_duration(cooldown),
            humantime::format_duration(limit)
        );
        if let Some(at) = fields.get("lock_cooldown").or_else(|| fields.get(key)) {
            at.bad_found(
                &found,
                &format!("lock_cooldown to be shorter than {key}"),
                why,
            );
        }
    }
}

impl Formation {
    /// The scopes that are known by name: the coordinator's and those of listed workers.
    pub fn scopes(&self) -> BTreeSet<ScopeId> {
        let mut scopes = BTreeSet::from([self.coordinator.scope.clone()]);
        if let Workers::Listed(listed) = &self.workers {
            scopes.extend(listed.values().cloned());
        }
        scopes
    }
}
