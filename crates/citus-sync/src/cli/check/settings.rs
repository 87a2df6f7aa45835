//! Settings of the coordinator: what would cut our sessions off, room for the locks of a move, and
//! how long Citus itself waits for a silent node.

use super::answers::{Inspected, facts};
use super::per_database::PerDatabase;
use crate::cli::remediation::quoted;
use crate::session::Login;
use crate::session::inspect::Facts;
use citus_core::config::{Coordinator, Formation};
use citus_core::render::Finding;

pub(super) fn judge(formation: &Formation, login: &Login, inspected: &Inspected) -> Vec<Finding> {
    let mut sessions = PerDatabase::of(formation);
    for (database, facts) in facts(inspected) {
        for finding in session(&formation.coordinator, login, facts) {
            sessions.add(database, finding);
        }
    }
    let mut found = sessions.finish();
    if let Some((_, first)) = facts(inspected).next() {
        found.extend(lock_table(inspected, first));
        found.extend(worker_slots(first));
        found.extend(node_conninfo(first));
        found.extend(node_connection_timeout(first));
    }
    found
}

/// Settings of a role, a database or a pooler that would cut our sessions off.
fn session(coordinator: &Coordinator, login: &Login, facts: &Facts) -> Vec<Finding> {
    let what = "session settings";
    let role = quoted(&coordinator.user);
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
    // Twice the shards: other groups move at the same time, and other sessions need locks too.
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

/// A forced move has a background worker terminate the sessions in its way; without a free slot it
/// waits for `lock_timeout` instead (citus#2773). That worker acts with rights of its own, so our
/// role needs none to end sessions.
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

/// What `citus.node_conninfo` should say for the coordinator to notice a silent worker within
/// seconds (citus#5203, #6259); without it cached connections linger for many minutes.
const NODE_CONNINFO: [(&str, &str); 3] = [
    ("connect_timeout", "5"),
    ("keepalives_idle", "5"),
    ("tcp_user_timeout", "10000"),
];

fn node_conninfo(server: &Facts) -> Option<Finding> {
    let what = "citus.node_conninfo";
    let present = match server.settings.get(what) {
        Some(text) => text.trim(),
        None if server.sees_settings => "",
        // Only a superuser or pg_read_all_settings sees it: there is nothing to judge.
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
const LONGEST_CONNECTION_TIMEOUT: u64 = 5_000;

fn node_connection_timeout(server: &Facts) -> Option<Finding> {
    let what = "citus.node_connection_timeout";
    // Absent where there is no Citus library (a stand-in), or where we may not look.
    let present: u64 = server.settings.get(what)?.parse().ok()?;
    Some(if present <= LONGEST_CONNECTION_TIMEOUT {
        Finding::pass(what, format!("{present} ms"))
    } else {
        Finding::warn(
            what,
            format!(
                "is {present} ms: a worker that accepts connections and never answers may keep \
                 every change of pg_dist_node waiting for so long"
            ),
            "ALTER SYSTEM SET citus.node_connection_timeout = '2s'; SELECT pg_reload_conf() \
             (on every node)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{coordinator, server, text};
    use super::*;
    use citus_core::config::Password;
    use citus_core::policy::Policy;
    use citus_core::render::Verdict;

    fn login() -> Login {
        Login::new("sync", &Password::None, &Policy::default())
    }

    #[test]
    fn the_lock_table_must_hold_a_groups_shards_twice() {
        let verdict = |shards| lock_room(shards, 3, "app", 64, 100).verdict;
        assert_eq!(verdict(0), Verdict::Pass);
        assert_eq!(verdict(3_200), Verdict::Pass);
        assert_eq!(verdict(3_201), Verdict::Warn);
        assert_eq!(verdict(6_400), Verdict::Warn);
        assert_eq!(verdict(6_401), Verdict::Fail);
        let said = text(&lock_room(10_000, 3, "app", 64, 100));
        assert!(said.contains("(3 in app) has 10000 shards"), "{said}");
        assert!(said.contains("max_locks_per_transaction = 200"), "{said}");
        assert_eq!(
            lock_room(10_000, 3, "app", 200, 100).verdict,
            Verdict::Pass,
            "the fix fixes"
        );
    }

    #[test]
    fn citus_connections_without_timeouts_get_the_line_to_run() {
        let with = |value: &str| node_conninfo(&server(&[("citus.node_conninfo", value)])).unwrap();
        let bare = with("sslmode=require");
        assert_eq!(bare.verdict, Verdict::Warn);
        let line = "ALTER SYSTEM SET citus.node_conninfo = 'sslmode=require connect_timeout=5 \
                    keepalives_idle=5 tcp_user_timeout=10000'; SELECT pg_reload_conf()";
        assert!(text(&bare).contains(line), "{}", text(&bare));
        let whole =
            with("sslmode=require connect_timeout=2 keepalives_idle=1 tcp_user_timeout=3000");
        assert_eq!(whole.verdict, Verdict::Pass);
        assert!(text(&node_conninfo(&server(&[])).unwrap()).contains("is not set"));
        let blind = Facts {
            sees_settings: false,
            ..server(&[])
        };
        assert_eq!(
            node_conninfo(&blind),
            None,
            "a setting that our role may not see is not judged"
        );
    }

    #[test]
    fn a_long_connection_timeout_of_citus_is_a_warning() {
        let with = |value: &str| {
            node_connection_timeout(&server(&[("citus.node_connection_timeout", value)]))
        };
        let default = with("30000").unwrap();
        assert_eq!(default.verdict, Verdict::Warn);
        assert!(text(&default).contains("30000 ms"), "{}", text(&default));
        assert_eq!(with("2000").unwrap().verdict, Verdict::Pass);
        assert_eq!(
            node_connection_timeout(&server(&[])),
            None,
            "a stand-in has none"
        );
    }

    #[test]
    fn a_forced_move_needs_a_free_worker() {
        assert_eq!(worker_slots(&server(&[])).unwrap().verdict, Verdict::Pass);
        let full = Facts {
            workers_running: Some(8),
            ..server(&[])
        };
        let found = worker_slots(&full).unwrap();
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(
            text(&found).contains("max_worker_processes = 16"),
            "{}",
            text(&found)
        );
        let blind = Facts {
            workers_running: None,
            ..server(&[])
        };
        assert_eq!(worker_slots(&blind), None);
    }

    #[test]
    fn settings_that_cut_sessions_off_are_named_with_the_role() {
        let said = |settings: &[(&str, &str)]| -> Vec<(Verdict, String)> {
            let found = session(&coordinator(), &login(), &server(settings));
            found
                .iter()
                .map(|finding| (finding.verdict, text(finding)))
                .collect()
        };
        assert_eq!(said(&[])[0].0, Verdict::Pass);
        let pooled = said(&[("statement_timeout", "0")]);
        assert!(
            pooled[0].1.contains("got 0 ms") && pooled[0].1.contains("pooler"),
            "{pooled:?}"
        );
        let idle = said(&[("idle_session_timeout", "60000")]);
        assert_eq!(idle[0].0, Verdict::Warn);
        assert!(
            idle[0]
                .1
                .contains("ALTER ROLE \"sync\" SET idle_session_timeout = 0"),
            "{idle:?}"
        );
        assert_eq!(
            said(&[("transaction_timeout", "12001")])[0].0,
            Verdict::Pass
        );
        assert_eq!(
            said(&[("transaction_timeout", "12000")])[0].0,
            Verdict::Warn
        );
        assert_eq!(
            said(&[("default_transaction_read_only", "on")])[0].0,
            Verdict::Fail
        );
    }
}
