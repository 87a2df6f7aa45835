//! The application of a lab: varied, and not to be fooled.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lab::{Kind, Lab, Load, Protocol, Traffic, wait_for};

const BOTH: [Protocol; 2] = [Protocol::Simple, Protocol::Prepared];
const SOON: Duration = Duration::from_secs(30);

#[test]
fn an_application_is_varied_and_its_ledger_tells_lost_from_doubled() {
    let lab = Lab::builder()
        .members(1)
        .databases(["postgres", "app2"])
        .start()
        .unwrap();
    let citus = lab.flavour().is_citus();
    let load = Load {
        pause: Duration::from_millis(20),
        ..Load::default()
    };
    let mut builder = Traffic::builder(&lab).protocols(BOTH).load(load);
    if citus {
        builder = builder.multi_shard(1).also_through("wk2").unwrap();
    } else {
        assert!(Traffic::builder(&lab).also_through("wk2").is_err());
        assert!(Traffic::builder(&lab).multi_shard(1).start().is_err());
    }
    let mut traffic = builder.start().unwrap();
    traffic.wait_flowing().unwrap();

    let first = traffic.take_report();
    let sorts: BTreeSet<(Kind, Protocol, String, String, Option<u32>)> = first
        .streams()
        .into_iter()
        .map(|summary| {
            assert_eq!((summary.failed, summary.errors), (0, vec![]));
            let stream = summary.stream;
            (
                stream.kind,
                stream.protocol,
                stream.door.to_string(),
                stream.database.to_string(),
                stream.group,
            )
        })
        .collect();
    // 2 protocols, 2 databases; 2 groups with a writer and a reader each, and with Citus a
    // writer and a reader of all, all of it through two doors.
    assert_eq!(sorts.len(), if citus { 4 * 6 * 2 } else { 4 * 4 });
    assert_eq!(sorts.len(), traffic.sessions());

    traffic.wait_flowing().unwrap();
    let second = traffic.take_report();
    let begins = second
        .outcomes()
        .iter()
        .map(|outcome| outcome.ended)
        .min()
        .unwrap();
    assert!(
        first
            .outcomes()
            .iter()
            .all(|outcome| outcome.ended <= begins)
    );
    let writes = first.succeeded(Kind::Write) + second.succeeded(Kind::Write);
    assert!(traffic.verify(&lab).unwrap() > 0);
    if !citus {
        return;
    }
    // What was written until the end, and the multi-shard writes.
    assert!(traffic.verify(&lab).unwrap() >= writes);

    let mut sql = lab.coordinator().connect("app2").unwrap();
    let mut spoiled = |spoil: &str, mend: &str, complaint: &str| {
        sql.batch_execute(spoil).unwrap();
        let said = format!("{:#}", traffic.verify(&lab).unwrap_err());
        assert!(said.contains(complaint) && said.contains("app2"), "{said}");
        sql.batch_execute(mend).unwrap();
        traffic.verify(&lab).unwrap();
    };
    spoiled(
        "CREATE TABLE taken AS SELECT * FROM journal ORDER BY number LIMIT 1;
         DELETE FROM journal j USING taken t WHERE j.key = t.key AND j.number = t.number",
        "INSERT INTO journal SELECT * FROM taken",
        "is lost",
    );
    spoiled(
        "INSERT INTO journal SELECT * FROM taken",
        "DELETE FROM journal j USING taken t WHERE j.key = t.key AND j.number = t.number;
         INSERT INTO journal SELECT * FROM taken",
        "executed twice",
    );
    spoiled(
        "INSERT INTO journal SELECT key, writer, number + 1000000 FROM taken",
        "DELETE FROM journal j USING taken t WHERE j.key = t.key AND j.number = t.number + 1000000",
        "never sent",
    );
}

#[test]
fn protocols_may_take_turns() {
    let lab = Lab::builder()
        .workers(1)
        .members(1)
        .databases(["postgres", "app2"])
        .start()
        .unwrap();
    let traffic = Traffic::builder(&lab).protocols(BOTH).in_turn();
    let report = traffic.start().unwrap().finish();
    let sorts: BTreeSet<(String, Protocol)> = report
        .streams()
        .into_iter()
        .map(|summary| (summary.stream.database.to_string(), summary.stream.protocol))
        .collect();
    let expected = [
        ("postgres".into(), Protocol::Simple),
        ("app2".into(), Protocol::Prepared),
    ];
    assert_eq!(sorts, BTreeSet::from(expected));
}

#[test]
fn a_stale_answer_is_a_failed_read() {
    let lab = Lab::builder().workers(1).members(1).start().unwrap();
    let (scope, take_away) = if lab.flavour().is_citus() {
        (lab.coordinator(), "TRUNCATE journal")
    } else {
        (&lab.workers()[0], "UPDATE ledger SET note = '1'")
    };
    let traffic = Traffic::start(&lab, "postgres", Load::default()).unwrap();
    let began = Instant::now();
    let mut sql = scope.connect("postgres").unwrap();
    wait_for("a reader to miss what was acknowledged", SOON, || {
        sql.batch_execute(take_away)?;
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
