//! The coordinator's databases: Citus, rights, settings, and room for the locks of a move.

use dcs_watch::HostPort;

use super::{Inspected, PerDatabase, databases_named};
use crate::cli::remediation::{name, remediation, say};
use crate::cli::snapshot::Groups;
use crate::session::inspect::{CallableFunction, CitusFacts, Facts};
use crate::session::{Login, SqlError};
use citus_core::config::{Coordinator, Formation};
use citus_core::render::{Finding, counted};
use citus_core::sql::FAULT_FIXED_BY;

/// What `citus.node_conninfo` should say for the coordinator to notice a silent worker within
/// seconds (citus#5203, #6259); without it cached connections linger for many minutes.
const NODE_CONNINFO: [(&str, &str); 3] = [
    ("connect_timeout", "5"),
    ("keepalives_idle", "5"),
    ("tcp_user_timeout", "10000"),
];

pub(super) fn judge(
    formation: &Formation,
    login: &Login,
    groups: &Groups,
    inspected: &Inspected,
) -> Vec<Finding> {
    let coordinator = &formation.coordinator;
    let Some(address) = groups.coordinator() else {
        return vec![Finding::warn(
            databases_named(&coordinator.databases),
            format!(
                "not looked at: scope {} has no leader with an address",
                coordinator.scope
            ),
            "",
        )];
    };
    if let Some(finding) = all_shut_out(coordinator, inspected) {
        return vec![finding];
    }
    let mut found = Vec::new();
    for (database, answer) in inspected {
        found.push(one(coordinator, address, database, answer));
    }
    let mut faults = PerDatabase::of(formation);
    let mut rights = PerDatabase::of(formation);
    let mut sessions = PerDatabase::of(formation);
    for (database, facts) in facts(inspected) {
        if let Ok(citus) = &facts.citus {
            if let Some(fault) = citus.dialect.known_fault() {
                faults.add(
                    database,
                    Finding::warn("Citus version", fault, FAULT_FIXED_BY),
                );
            }
            rights.add(
                database,
                may(coordinator, formation.register, facts.superuser, citus),
            );
        }
        for finding in session(coordinator, login, facts) {
            sessions.add(database, finding);
        }
    }
    found.extend(faults.finish());
    found.extend(rights.finish());
    found.extend(sessions.finish());
    if let Some((_, first)) = facts(inspected).next() {
        found.extend(lock_table(inspected, first));
        found.extend(worker_slots(first));
        found.extend(node_conninfo(first));
        found.extend(node_connection_timeout(first));
    }
    found
}

fn facts(inspected: &Inspected) -> impl Iterator<Item = (&String, &Facts)> {
    inspected
        .iter()
        .filter_map(|(name, answer)| Some((name, answer.as_ref().ok()?)))
}

/// The server let us into no database, and no database is at fault: `leaders` has said why.
fn all_shut_out(coordinator: &Coordinator, inspected: &Inspected) -> Option<Finding> {
    let shut_out = |answer: &Result<Facts, SqlError>| {
        answer
            .as_ref()
            .is_err_and(|error| !error.is_about_the_database())
    };
    inspected.values().all(shut_out).then(|| {
        Finding::warn(
            databases_named(&coordinator.databases),
            format!(
                "not looked at: the leader of {} cannot be asked",
                coordinator.scope
            ),
            "fix that first, then look again",
        )
    })
}

fn one(
    coordinator: &Coordinator,
    address: &HostPort,
    database: &str,
    answer: &Result<Facts, SqlError>,
) -> Finding {
    let what = format!("database {database}");
    let failed = |error: &SqlError| {
        let fix = remediation(error, coordinator, address, database);
        Finding::fail(&what, format!("{address}: {}", say(error)), fix)
    };
    match answer {
        Err(error)
        | Ok(Facts {
            citus: Err(error), ..
        }) => failed(error),
        Ok(Facts {
            citus: Ok(citus), ..
        }) => {
            let rows = counted(citus.rows.len(), "row", "rows");
            Finding::pass(
                what,
                format!("{}, {rows} in pg_dist_node", citus.dialect.version),
            )
        }
    }
}

/// What a hold and a move call: each pair is the present name and the one before it.
const NEEDED: [[&str; 2]; 3] = [
    ["citus_update_node", "master_update_node"],
    ["citus_pause_node_within_txn", "lock_shard_metadata"],
    ["lock_shard_metadata", "lock_shard_metadata"],
];

/// What a registration calls.
const NEEDED_TO_REGISTER: [&str; 2] = ["citus_add_node", "master_add_node"];

fn may(coordinator: &Coordinator, register: bool, superuser: bool, citus: &CitusFacts) -> Finding {
    let user = &coordinator.user;
    let what = format!("rights of {user}");
    if superuser {
        return Finding::pass(what, "superuser");
    }
    let needed = NEEDED.iter().chain(register.then_some(&NEEDED_TO_REGISTER));
    let mut refused: Vec<&CallableFunction> = needed
        .filter_map(|names| {
            names
                .iter()
                .find_map(|name| citus.functions.iter().find(|f| f.name == *name))
        })
        .filter(|function| !function.allowed)
        .collect();
    // Before Citus 12.1 two of the pairs are the same.
    refused.dedup();
    if refused.is_empty() {
        return Finding::pass(what, "no superuser, but may call what a move calls");
    }
    let (names, signatures): (Vec<&str>, Vec<&str>) = refused
        .iter()
        .map(|f| (f.name.as_str(), f.signature.as_str()))
        .unzip();
    Finding::fail(
        what,
        format!("may not call {}", names.join(", ")),
        format!(
            "GRANT EXECUTE ON FUNCTION {} TO {}",
            signatures.join(", "),
            name(user)
        ),
    )
}

/// What is not needed to follow a leader, but for clients not to notice it.
pub(super) fn holds(formation: &Formation, inspected: &Inspected) -> Vec<Finding> {
    let mut found = PerDatabase::of(formation);
    for (database, facts) in facts(inspected) {
        if let Ok(citus) = &facts.citus {
            found.add(database, may_hold(formation, facts, citus));
        }
    }
    found.finish()
}

fn may_hold(formation: &Formation, facts: &Facts, citus: &CitusFacts) -> Finding {
    let user = &formation.coordinator.user;
    let what = "holds and reads";
    let mut lacks = Vec::new();
    let mut grants = Vec::new();
    if formation.policy.read_move && !citus.dialect.moves_plainly() {
        lacks.push("reads cannot be moved to a standby".to_owned());
        grants.push(format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON pg_catalog.pg_dist_node TO {}",
            name(user)
        ));
    }
    if !citus.other_owners.is_empty() {
        let owners = citus.other_owners.join(", ");
        lacks.push(format!(
            "nothing can be held, as Citus lets only the owner lock a table's shards, and {owners} \
             own some"
        ));
        grants.push(format!("GRANT {owners} TO {}", name(user)));
    }
    if !facts.signals {
        lacks.push(
            "sessions in the way of a hold cannot be ended, so that it may come too late"
                .to_owned(),
        );
        grants.push(format!("GRANT pg_signal_backend TO {}", name(user)));
    }
    let useful = [
        (
            "citus_check_connection_to_node",
            "a dead leader cannot be told from one that only we do not reach, so that its reads stay",
        ),
        (
            "recover_prepared_transactions",
            "what a dead leader left prepared keeps rows locked for up to a minute",
        ),
    ];
    for (name_of, why) in useful {
        let refused = citus
            .functions
            .iter()
            .find(|function| function.name == name_of && !function.allowed);
        if let Some(function) = refused {
            lacks.push(why.to_owned());
            grants.push(format!(
                "GRANT EXECUTE ON FUNCTION {} TO {}",
                function.signature,
                name(user)
            ));
        }
    }
    if lacks.is_empty() {
        let superuser = if facts.superuser {
            ""
        } else {
            ", but for superusers' sessions in the way, which it may not end"
        };
        return Finding::pass(
            what,
            format!("role {user} may hold writes and move reads{superuser}"),
        );
    }
    Finding::warn(
        what,
        format!("role {user} may not do everything: {}", lacks.join("; ")),
        grants.join("; "),
    )
}

/// Settings of a role, a database or a pooler that would cut our sessions off.
fn session(coordinator: &Coordinator, login: &Login, facts: &Facts) -> Vec<Finding> {
    let what = "session settings";
    let role = name(&coordinator.user);
    let number = |setting: &str| facts.settings.get(setting)?.parse::<u128>().ok();
    let mut found = Vec::new();

    // We ask for these when we connect, and that goes before what a role or a database has.
    let asked = [
        ("statement_timeout", login.statement_timeout),
        ("lock_timeout", login.lock_timeout),
    ];
    for (setting, ours) in asked {
        if number(setting).is_some_and(|theirs| theirs != ours.as_millis()) {
            let theirs = number(setting).unwrap_or_default();
            found.push(Finding::warn(
                what,
                format!(
                    "asked for {setting} = {} ms and got {theirs} ms: something between us and the \
                     server, such as a pooler, drops what a client asks for",
                    ours.as_millis()
                ),
                "let Patroni advertise PostgreSQL's own address, not a pooler's",
            ));
        }
    }
    for setting in ["idle_session_timeout", "transaction_timeout"] {
        let limit = number(setting).unwrap_or_default();
        // A transaction of ours lasts as long as a lock wait and a statement at most.
        let harmless = setting == "transaction_timeout"
            && limit > (login.statement_timeout + login.lock_timeout).as_millis();
        if limit > 0 && !harmless {
            let why = match setting {
                "idle_session_timeout" => "ends our warm sessions; each move would connect anew",
                _ => "may end a move that waits for locks",
            };
            found.push(Finding::warn(
                what,
                format!("{setting} = {limit} ms {why}"),
                format!("ALTER ROLE {role} SET {setting} = 0"),
            ));
        }
    }
    if facts
        .settings
        .get("default_transaction_read_only")
        .is_some_and(|value| value == "on")
    {
        found.push(Finding::fail(
            what,
            "default_transaction_read_only is on: no row could be moved",
            format!("ALTER ROLE {role} SET default_transaction_read_only = off"),
        ));
    }
    if found.is_empty() {
        found.push(Finding::pass(what, "nothing would cut our sessions off"));
    }
    found
}

/// A move locks every shard of its group (out of lock memory near 64k shards, citus#317).
fn lock_table(inspected: &Inspected, server: &Facts) -> Option<Finding> {
    let setting = |name: &str| server.settings.get(name)?.parse::<u64>().ok();
    let per_transaction = setting("max_locks_per_transaction")?;
    let transactions = setting("max_connections")? + setting("max_prepared_transactions")?;
    let (shards, group, database) = facts(inspected)
        .filter_map(|(name, facts)| {
            let (group, shards) = facts.citus.as_ref().ok()?.most_shards?;
            Some((shards, group, name))
        })
        .max()
        .unwrap_or((0, 0, inspected.keys().next()?));
    Some(lock_room(
        shards,
        group,
        database,
        per_transaction,
        transactions,
    ))
}

fn lock_room(
    shards: u64,
    group: i32,
    database: &str,
    per_transaction: u64,
    transactions: u64,
) -> Finding {
    let what = "lock table";
    let room = per_transaction * transactions;
    let detail = format!(
        "room for {room} locks (max_locks_per_transaction {per_transaction} × {transactions}); the \
         biggest group ({group} in {database}) has {shards} shards, and a move locks them all"
    );
    // Twice the shards: other groups move at the same time, and everybody else needs locks too.
    let wanted = (2 * shards).div_ceil(transactions.max(1));
    let fix = format!(
        "ALTER SYSTEM SET max_locks_per_transaction = {wanted} (Patroni: in the dynamic \
         configuration) and restart the coordinator's members"
    );
    if shards == 0 {
        Finding::pass(what, format!("room for {room} locks; no shards yet"))
    } else if shards > room {
        Finding::fail(what, detail, fix)
    } else if 2 * shards > room {
        Finding::warn(what, detail, fix)
    } else {
        Finding::pass(what, detail)
    }
}

/// A forced move has a background worker terminate who is in the way; without a free slot it waits
/// for `lock_timeout` instead (citus#2773). That worker acts with rights of its own, so our role
/// needs none to end sessions.
fn worker_slots(server: &Facts) -> Option<Finding> {
    let slots: u64 = server.settings.get("max_worker_processes")?.parse().ok()?;
    let running = server.workers_running?;
    let what = "worker processes";
    let detail = format!("{running} of max_worker_processes = {slots} are in use");
    Some(if running < slots {
        Finding::pass(what, detail)
    } else {
        Finding::warn(
            what,
            format!("{detail}: a forced move could not end the sessions in its way"),
            format!(
                "ALTER SYSTEM SET max_worker_processes = {} and restart",
                slots * 2
            ),
        )
    })
}

fn node_conninfo(server: &Facts) -> Option<Finding> {
    let what = "citus.node_conninfo";
    let present = match server.settings.get(what) {
        Some(text) => text.trim(),
        None if server.sees_settings => "",
        // Only a superuser or pg_read_all_settings sees it: nothing can be said.
        None => return None,
    };
    let has = |key: &str| {
        present
            .split_whitespace()
            .any(|word| word.starts_with(&format!("{key}=")))
    };
    let missing: Vec<(&str, &str)> = NODE_CONNINFO
        .into_iter()
        .filter(|(key, _)| !has(key))
        .collect();
    if missing.is_empty() {
        return Some(Finding::pass(what, format!("'{present}'")));
    }
    let names: Vec<&str> = missing.iter().map(|(key, _)| *key).collect();
    let words: Vec<String> = present
        .split_whitespace()
        .map(str::to_owned)
        .chain(missing.iter().map(|(key, value)| format!("{key}={value}")))
        .collect();
    let seen = if present.is_empty() {
        "is not set".to_owned()
    } else {
        format!("is '{present}'")
    };
    Some(Finding::warn(
        what,
        format!(
            "{seen}, without {}: connections that Citus keeps to a host that fell silent hang for \
             many minutes",
            names.join(", ")
        ),
        format!(
            "ALTER SYSTEM SET citus.node_conninfo = '{}'; SELECT pg_reload_conf() (on every node)",
            words.join(" ").replace('\'', "''")
        ),
    ))
}

/// The longest `citus.node_connection_timeout` that passes, in milliseconds. Citus's metadata sync
/// sits at a worker that accepts and never answers for this long, with `pg_dist_node` locked
/// (`docs/citus.md`).
const PATIENT_ENOUGH: u64 = 5_000;

fn node_connection_timeout(server: &Facts) -> Option<Finding> {
    let what = "citus.node_connection_timeout";
    // Absent where there is no Citus library (a stand-in), or where we may not look.
    let present: u64 = server.settings.get(what)?.parse().ok()?;
    Some(if present <= PATIENT_ENOUGH {
        Finding::pass(what, format!("{present} ms"))
    } else {
        Finding::warn(
            what,
            format!(
                "is {present} ms: for so long may a worker that accepts connections and never \
                 answers keep every change of pg_dist_node waiting"
            ),
            "ALTER SYSTEM SET citus.node_connection_timeout = '2s'; SELECT pg_reload_conf() \
             (on every node)",
        )
    })
}

#[cfg(test)]
mod tests;
