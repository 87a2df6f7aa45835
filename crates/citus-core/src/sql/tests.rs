use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use dcs_watch::HostPort;

use super::*;
use crate::plan::{Exchange, ExchangePart, MakeWay, Move, Register, Repair};

const ALL: Rights = Rights {
    update: true,
    edit: true,
};

fn function(name: &str, arguments: i16) -> Function {
    Function {
        name: name.to_owned(),
        arguments,
    }
}

fn columns(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn citus_8_0() -> Dialect {
    Dialect::detect(
        &[
            function("master_update_node", 3),
            function("lock_shard_metadata", 2),
            function("master_add_node", 5),
        ],
        columns(&[
            "nodeid",
            "groupid",
            "nodename",
            "nodeport",
            "noderole",
            "nodecluster",
        ]),
        None,
        Rights::default(),
    )
    .unwrap()
}

fn citus_9_5() -> Dialect {
    Dialect::detect(
        &[
            function("master_update_node", 5),
            function("lock_shard_metadata", 2),
            function("master_add_node", 5),
        ],
        columns(&[
            "nodeid",
            "nodecluster",
            "isactive",
            "hasmetadata",
            "metadatasynced",
        ]),
        Some("Citus 9.5.12".to_owned()),
        ALL,
    )
    .unwrap()
}

fn citus_13() -> Dialect {
    Dialect::detect(
        &[
            function("citus_update_node", 5),
            function("master_update_node", 5),
            function("citus_pause_node_within_txn", 3),
            function("lock_shard_metadata", 2),
            function("citus_add_node", 5),
            function("master_add_node", 5),
            function("citus_set_coordinator_host", 4),
            function("citus_check_connection_to_node", 2),
            function("recover_prepared_transactions", 0),
            function("master_run_on_worker", 4),
        ],
        columns(&[
            "nodeid",
            "nodecluster",
            "nodeisclone",
            "isactive",
            "hasmetadata",
            "metadatasynced",
        ]),
        Some("Citus 13.2.2".to_owned()),
        ALL,
    )
    .unwrap()
}

struct Example {
    to: HostPort,
    old: HostPort,
    plain: Move,
    swap: Move,
}

fn example() -> Example {
    let to = HostPort {
        host: "10.0.0.2".to_owned(),
        port: 5432,
    };
    let old = HostPort {
        host: "10.0.0.1".to_owned(),
        port: 5432,
    };
    let plain = Move {
        nodeid: 2,
        from: old.clone(),
        to: to.clone(),
        make_way: None,
    };
    let swap = Move {
        make_way: Some(MakeWay {
            nodeid: 7,
            temporary: HostPort {
                host: "citus-sync-swap-7.invalid".to_owned(),
                port: 5432,
            },
            then: old.clone(),
        }),
        ..plain.clone()
    };
    Example {
        to,
        old,
        plain,
        swap,
    }
}

fn exchange(to: &HostPort) -> Exchange {
    let other: HostPort = "10.0.0.9:5432".parse().expect("an address");
    let part = |group, from: &HostPort, to: &HostPort| ExchangePart {
        group,
        nodeid: group + 1,
        from: from.clone(),
        to: to.clone(),
        temporary: HostPort {
            host: format!("citus-sync-swap-{}.invalid", group + 1),
            port: from.port,
        },
        revision: 7,
    };
    Exchange {
        parts: vec![part(1, &other, to), part(2, to, &other)],
    }
}

#[test]
fn a_servers_answer_through_the_coordinator_is_read_to_the_microsecond() {
    for (text, read) in [
        ("f 1764285000.123456", Some((false, 1_764_285_000_123_456))),
        ("t 1764285000.1", Some((true, 1_764_285_000_100_000))),
        ("f 1764285000", Some((false, 1_764_285_000_000_000))),
        ("f", None),
        ("x 1", None),
        ("f NaN", None),
        ("f 1e300", None),
    ] {
        let answer = answerer(text).map(|answer| (answer.in_recovery, answer.started));
        assert_eq!(answer, read, "{text}");
    }
}

fn tell(text: &mut String, title: &str, statements: &[String]) {
    let _ = writeln!(text, "-- {title}");
    for statement in statements {
        let _ = writeln!(text, "{statement}");
    }
}

fn everything(dialect: &Dialect) -> String {
    let Example {
        to,
        old,
        plain,
        swap,
    } = example();
    let mut text = format!("-- {}\n{}\n", dialect.version, dialect.read_rows());
    for (title, statements) in [
        (
            "wait for writers",
            dialect.lock_own_shards(1).into_iter().collect(),
        ),
        ("pause", dialect.pause(2, false).into_iter().collect()),
        (
            "pause by force",
            dialect.pause(2, true).into_iter().collect(),
        ),
        (
            "order",
            dialect.order().map(str::to_owned).into_iter().collect(),
        ),
        ("move", dialect.updates(&plain, false)),
        ("move by force", dialect.updates(&plain, true)),
        ("swap", dialect.updates(&swap, false)),
        (
            "repair",
            vec![dialect.repair(&Repair {
                nodeid: 7,
                from: old,
                to: to.clone(),
            })],
        ),
        (
            "register",
            dialect
                .register(&Register {
                    group: 1,
                    address: to.clone(),
                })
                .into_iter()
                .collect(),
        ),
        (
            "register the coordinator",
            dialect
                .register(&Register {
                    group: 0,
                    address: to.clone(),
                })
                .into_iter()
                .collect(),
        ),
        ("exchange", dialect.exchange(&exchange(&to))),
        ("plain exchange", dialect.plain_exchange(&exchange(&to))),
        ("check", dialect.check_connection(&to).into_iter().collect()),
        (
            "try to reach",
            dialect
                .try_to_reach(&to, Duration::from_millis(700))
                .into_iter()
                .collect(),
        ),
        (
            "who answers",
            dialect.who_answers(&to).into_iter().collect(),
        ),
    ] {
        tell(&mut text, title, &statements);
    }
    around_holds(dialect, &mut text);
    text
}

/// What holds, read moves and their aftermath say.
fn around_holds(dialect: &Dialect, text: &mut String) {
    let Example {
        to, plain, swap, ..
    } = example();
    let old_entry_node = HostPort {
        host: "o'brien".to_owned(),
        port: 5433,
    };
    let locks = |shards| {
        let locks = ShardLocks {
            shards,
            wait: Duration::from_secs(4),
            left: Duration::from_secs(30),
        };
        dialect.lock_shards(&locks).into_iter().collect()
    };
    for (title, statements) in [
        ("hold", locks(Shards::OfGroup(1))),
        ("hold of reference tables", locks(Shards::OfReferenceTables)),
        (
            "order for a plain move",
            dialect
                .order_plain()
                .map(str::to_owned)
                .into_iter()
                .collect(),
        ),
        ("plain move", dialect.plain_updates(1, &plain)),
        ("plain swap", dialect.plain_updates(1, &swap)),
        ("is it moved", vec![dialect.is_moved(1, &plain)]),
        (
            "mark out of sync",
            dialect
                .unsync(&[to.clone(), old_entry_node])
                .into_iter()
                .collect(),
        ),
        ("sync again", dialect.resync(1).unwrap_or_default()),
        (
            "recover",
            dialect
                .recover_prepared()
                .map(str::to_owned)
                .into_iter()
                .collect(),
        ),
        (
            "check within",
            dialect
                .check_connection_within(&to, Duration::from_millis(700))
                .into_iter()
                .collect(),
        ),
    ] {
        tell(text, title, &statements);
    }
}

#[test]
fn each_version_of_citus_gets_its_own_statements() {
    insta::assert_snapshot!("citus-8.0", everything(&citus_8_0()));
    insta::assert_snapshot!("citus-9.5", everything(&citus_9_5()));
    insta::assert_snapshot!("citus-13", everything(&citus_13()));
}

#[test]
fn a_database_without_citus_says_how_to_get_it() {
    let none = Dialect::detect(&[], BTreeSet::new(), None, Rights::default()).unwrap_err();
    assert_eq!(none, NoCitus::NoTable);
    assert!(none.to_string().contains("CREATE EXTENSION citus"));
    let old = Dialect::detect(&[], columns(&["nodeid"]), None, ALL).unwrap_err();
    assert_eq!(old, NoCitus::NoUpdate);
}

#[test]
fn a_quoted_text_cannot_end_its_own_quotes() {
    assert_eq!(quote("plain"), "'plain'");
    assert_eq!(quote("o'brien"), "'o''brien'");
    assert_eq!(quote("a\\'b"), " E'a\\\\''b'");
}

#[test]
fn versions_that_crash_on_renamed_sessions_are_named() {
    let named = |version: &str| {
        let dialect = Dialect {
            version: version.to_owned(),
            ..citus_13()
        };
        dialect.known_fault()
    };
    for faulty in [
        "Citus 11.2.0",
        "Citus 11.3.1",
        "Citus 12.0.0",
        "Citus 12.1.6",
    ] {
        let fault = named(faulty).expect(faulty);
        assert!(fault.starts_with(faulty) && fault.contains("citus#7791"));
    }
    for sound in [
        "Citus 11.1.7",
        "Citus 12.1.7",
        "Citus 12.1.12",
        "Citus 13.0.0",
        "Citus 14.0.1",
        "Citus 12.1devel",
        "unknown version",
    ] {
        assert_eq!(named(sound), None, "{sound}");
    }
}

/// Citus 11.2.0 to 12.1.6 crash PostgreSQL when such a transaction ends (citus#7791).
#[test]
fn no_transaction_of_ours_names_its_session() {
    for dialect in [citus_8_0(), citus_9_5(), citus_13()] {
        assert!(!everything(&dialect).contains("application_name ="));
    }
    assert_eq!(rename("o'brien"), "SET application_name = 'o''brien'");
}

#[test]
fn every_statement_of_a_batch_ends_with_a_semicolon() {
    assert_eq!(batch(["BEGIN", "COMMIT"]), "BEGIN;COMMIT;");
}

#[test]
fn sessions_in_the_way_are_terminated_unless_they_are_ours() {
    insta::assert_snapshot!("blockers", terminate_blockers(4711));
    insta::assert_snapshot!("untangle", untangle_blockers(4711));
}

#[test]
fn a_timeout_of_zero_does_not_mean_for_ever() {
    assert_eq!(
        set_local("lock_timeout", Duration::ZERO),
        "SET LOCAL lock_timeout = '1ms'"
    );
    assert_eq!(
        idle_until(Duration::from_micros(1)),
        "SET LOCAL idle_in_transaction_session_timeout = '1ms'"
    );
}

#[test]
fn a_role_without_update_on_pg_dist_node_gets_no_plain_update() {
    let update = Rights {
        update: true,
        edit: false,
    };
    let functions = [
        function("citus_update_node", 5),
        function("lock_shard_metadata", 2),
    ];
    let columns = columns(&["nodeid", "hasmetadata", "metadatasynced"]);
    let dialect = |rights| Dialect::detect(&functions, columns.clone(), None, rights).unwrap();
    assert!(dialect(ALL).moves_plainly());
    assert!(dialect(ALL).resync(1).is_some());
    assert!(!dialect(update).moves_plainly());
    assert!(dialect(update).order().is_some());
    assert_eq!(dialect(update).resync(1), None);
    assert_eq!(dialect(Rights::default()).order(), None);
}
