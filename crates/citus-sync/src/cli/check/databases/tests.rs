//! Answers of servers that no test machine has, and what is said of them.

use std::collections::BTreeMap;

use super::*;
use citus_core::config::{Password, Workers};
use citus_core::policy::Policy;
use citus_core::render::Verdict;
use citus_core::sql::{Dialect, Function, Rights};

fn coordinator() -> Coordinator {
    Coordinator {
        scope: "cn".parse().unwrap(),
        databases: vec!["app".to_owned()],
        user: "sync".to_owned(),
        password: Password::None,
    }
}

fn login() -> Login {
    Login::new("sync", &Password::None, &Policy::default())
}

fn server(settings: &[(&str, &str)]) -> Facts {
    let usual = [
        ("statement_timeout", "10000"),
        ("lock_timeout", "2000"),
        ("idle_session_timeout", "0"),
        ("max_worker_processes", "8"),
    ];
    let settings: BTreeMap<String, String> = usual
        .iter()
        .chain(settings)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Facts {
        superuser: false,
        signals: false,
        settings,
        sees_settings: true,
        workers_running: Some(3),
        citus: Err(SqlError::Answer("not asked".to_owned())),
    }
}

fn text(finding: &Finding) -> String {
    format!(
        "{}; {}",
        finding.detail,
        finding.fix.clone().unwrap_or_default()
    )
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
    let whole = with("sslmode=require connect_timeout=2 keepalives_idle=1 tcp_user_timeout=3000");
    assert_eq!(whole.verdict, Verdict::Pass);
    assert!(text(&node_conninfo(&server(&[])).unwrap()).contains("is not set"));
    let blind = Facts {
        sees_settings: false,
        ..server(&[])
    };
    assert_eq!(
        node_conninfo(&blind),
        None,
        "what may not be seen is not judged"
    );
}

#[test]
fn a_patient_citus_is_told_to_hurry() {
    let with =
        |value: &str| node_connection_timeout(&server(&[("citus.node_connection_timeout", value)]));
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

/// Citus 13, to whose `pg_dist_node` the role has these rights.
fn citus(rights: Rights, functions: Vec<CallableFunction>) -> CitusFacts {
    let named = |name: &str| Function {
        name: name.to_owned(),
        arguments: 5,
    };
    let columns = ["hasmetadata", "metadatasynced"].map(str::to_owned).into();
    let known = ["citus_update_node", "lock_shard_metadata"].map(named);
    let version = Some("Citus 13.2.2".to_owned());
    CitusFacts {
        dialect: Dialect::detect(&known, columns, version, rights).unwrap(),
        rows: vec![],
        functions,
        most_shards: None,
        other_owners: vec![],
    }
}

fn function(name: &str, allowed: bool) -> CallableFunction {
    CallableFunction {
        name: name.to_owned(),
        signature: format!("{name}()"),
        allowed,
    }
}

#[test]
fn what_a_role_lacks_for_holds_comes_with_its_grants() {
    let formation = |read_move| Formation {
        name: "cn".to_owned(),
        coordinator: coordinator(),
        workers: Workers::Listed([].into()),
        register: false,
        policy: Policy {
            read_move,
            ..Policy::default()
        },
    };
    let whole = Rights {
        update: true,
        edit: true,
    };
    let able = Facts {
        signals: true,
        ..server(&[])
    };
    let recover = "recover_prepared_transactions";
    let found = may_hold(
        &formation(true),
        &able,
        &citus(whole, vec![function(recover, true)]),
    );
    assert_eq!(found.verdict, Verdict::Pass, "{found:?}");
    let said = |read_move, facts: &Facts, citus: &CitusFacts| {
        let found = may_hold(&formation(read_move), facts, citus);
        assert_eq!(found.verdict, Verdict::Warn, "{found:?}");
        text(&found)
    };
    let bare = citus(Rights::default(), vec![]);
    let missing = said(true, &able, &bare);
    assert!(
        missing.contains("reads cannot be moved")
            && missing.contains("INSERT, UPDATE, DELETE ON pg_catalog.pg_dist_node TO \"sync\""),
        "{missing}"
    );
    assert_eq!(
        may_hold(&formation(false), &able, &bare).verdict,
        Verdict::Pass,
        "reads that are not to be moved need no right"
    );
    let missing = said(true, &server(&[]), &citus(whole, vec![]));
    assert!(
        missing.contains("GRANT pg_signal_backend TO \"sync\""),
        "{missing}"
    );
    let others = CitusFacts {
        other_owners: vec!["app".to_owned(), "\"Shop\"".to_owned()],
        ..citus(whole, vec![])
    };
    let missing = said(true, &able, &others);
    assert!(
        missing.contains("nothing can be held")
            && missing.contains("GRANT app, \"Shop\" TO \"sync\""),
        "{missing}"
    );
    let missing = said(true, &able, &citus(whole, vec![function(recover, false)]));
    assert!(
        missing.contains("GRANT EXECUTE ON FUNCTION recover_prepared_transactions() TO"),
        "{missing}"
    );
}
