//! The application of a lab: the clients it has, and the errors it finds.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lab::{Kind, Lab, Load, Protocol, Report, Traffic, wait_for};

const BOTH: [Protocol; 2] = [Protocol::Simple, Protocol::Prepared];
const SOON: Duration = Duration::from_secs(30);

fn lab_with_two_databases() -> Lab {
    Lab::builder()
        .members(1)
        .databases(["postgres", "app2"])
        .start()
        .unwrap()
}

/// Every kind of client that the lab's flavour allows.
fn every_kind(lab: &Lab) -> Traffic {
    let load = Load {
        pause: Duration::from_millis(20),
        ..Load::default()
    };
    let mut builder = Traffic::builder(lab).protocols(BOTH).load(load);
    if lab.flavour().is_citus() {
        builder = builder.multi_shard(1).also_through("wk2").unwrap();
    } else {
        assert!(Traffic::builder(lab).also_through("wk2").is_err());
        assert!(Traffic::builder(lab).multi_shard(1).start().is_err());
    }
    builder.start().unwrap()
}

#[test]
fn traffic_uses_every_kind_protocol_database_group_and_entry_node() {
    let lab = lab_with_two_databases();
    let mut traffic = every_kind(&lab);
    traffic.wait_flowing().unwrap();
    let streams: BTreeSet<(Kind, Protocol, String, String, Option<u32>)> = traffic
        .take_report()
        .streams()
        .into_iter()
        .map(|summary| {
            assert_eq!((summary.failed, summary.errors), (0, vec![]));
            let stream = summary.stream;
            (
                stream.kind,
                stream.protocol,
                stream.entry_node.to_string(),
                stream.database.to_string(),
                stream.group,
            )
        })
        .collect();
    // 2 protocols in 2 databases, a writer and a reader for each of 2 groups. With Citus also a
    // writer and a reader of all shards, and everything through two entry nodes.
    let expected = if lab.flavour().is_citus() {
        4 * 6 * 2
    } else {
        4 * 4
    };
    assert_eq!((streams.len(), traffic.sessions()), (expected, expected));
}

#[test]
fn a_report_begins_where_the_last_one_taken_ended() {
    let lab = Lab::builder().workers(1).members(1).start().unwrap();
    let mut traffic = Traffic::start(&lab, "postgres", Load::default()).unwrap();
    let first = traffic.take_report();
    traffic.wait_flowing().unwrap();
    let second = traffic.take_report();
    let ends = |report: &Report| -> Vec<Instant> {
        let outcomes = report.outcomes().iter();
        outcomes.map(|outcome| outcome.ended).collect()
    };
    let begins = ends(&second).into_iter().min().unwrap();
    assert!(ends(&first).iter().all(|ended| *ended <= begins));
    // The ledgers have the writes of both reports, and those until the end.
    let writes = first.succeeded(Kind::Write) + second.succeeded(Kind::Write);
    let verified = traffic.verify(&lab).unwrap();
    assert!(verified > 0);
    if lab.flavour().is_citus() {
        assert!(verified >= writes, "{verified} of {writes}");
    }
}

#[test]
fn a_write_that_is_lost_executed_twice_or_never_sent_is_found() {
    let lab = lab_with_two_databases();
    let mut traffic = every_kind(&lab);
    assert!(traffic.verify(&lab).unwrap() > 0);
    if !lab.flavour().is_citus() {
        return;
    }
    let mut sql = lab.coordinator().connect("app2").unwrap();
    let mut broken = |break_it: &str, fix: &str, complaint: &str| {
        sql.batch_execute(break_it).unwrap();
        let said = format!("{:#}", traffic.verify(&lab).unwrap_err());
        assert!(said.contains(complaint) && said.contains("app2"), "{said}");
        sql.batch_execute(fix).unwrap();
        traffic.verify(&lab).unwrap();
    };
    broken(
        "CREATE TABLE taken AS SELECT * FROM journal ORDER BY number LIMIT 1;
         DELETE FROM journal j USING taken t WHERE j.key = t.key AND j.number = t.number",
        "INSERT INTO journal SELECT * FROM taken",
        "is lost",
    );
    broken(
        "INSERT INTO journal SELECT * FROM taken",
        "DELETE FROM journal j USING taken t WHERE j.key = t.key AND j.number = t.number;
         INSERT INTO journal SELECT * FROM taken",
        "executed twice",
    );
    broken(
        "INSERT INTO journal SELECT key, writer, number + 1000000 FROM taken",
        "DELETE FROM journal j USING taken t WHERE j.key = t.key AND j.number = t.number + 1000000",
        "never sent",
    );
}

#[test]
fn protocols_in_turn_give_each_database_one_protocol() {
    let lab = Lab::builder()
        .workers(1)
        .members(1)
        .databases(["postgres", "app2"])
        .start()
        .unwrap();
    let traffic = Traffic::builder(&lab).protocols(BOTH).in_turn();
    let report = traffic.start().unwrap().finish();
    let streams: BTreeSet<(String, Protocol)> = report
        .streams()
        .into_iter()
        .map(|summary| (summary.stream.database.to_string(), summary.stream.protocol))
        .collect();
    let expected = [
        ("postgres".into(), Protocol::Simple),
        ("app2".into(), Protocol::Prepared),
    ];
    assert_eq!(streams, BTreeSet::from(expected));
}

#[test]
fn a_stale_answer_is_a_failed_read() {
    let lab = Lab::builder().workers(1).members(1).start().unwrap();
    let (scope, remove) = if lab.flavour().is_citus() {
        (lab.coordinator(), "TRUNCATE journal")
    } else {
        (&lab.workers()[0], "UPDATE ledger SET note = '1'")
    };
    let traffic = Traffic::start(&lab, "postgres", Load::default()).unwrap();
    let began = Instant::now();
    let mut sql = scope.connect("postgres").unwrap();
    wait_for("a reader to miss an acknowledged write", SOON, || {
        sql.batch_execute(remove)?;
        let report = traffic.report().between(began, Instant::now());
        let mut failures = report.failures(Kind::Read).into_iter();
        Ok(failures.any(|failure| {
            failure
                .error
                .as_deref()
                .is_some_and(|error| error.starts_with("a stale answer"))
        }))
    })
    .unwrap();
}
