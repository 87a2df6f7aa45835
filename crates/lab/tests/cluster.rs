//! A whole formation on real etcd, Patroni and PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::time::{Duration, Instant};

use lab::{Interruption, Kind, Lab, Load, Member, Observer, Timeline, Traffic, wait_for};

const LONG: Duration = Duration::from_secs(90);

fn introduce(lab: &Lab) {
    println!(
        "{} with {}, up in {:.1?}",
        lab.version(),
        lab.flavour(),
        lab.start_up_time()
    );
}

#[test]
fn a_formation_comes_up_switches_over_and_survives_a_crash() {
    let lab = Lab::builder()
        .workers(3)
        .databases(["postgres", "app2"])
        .start()
        .unwrap();
    introduce(&lab);
    let leaders = lab.leaders().unwrap();
    assert_eq!(leaders.len(), 4);
    for database in lab.databases() {
        assert_eq!(lab.rows(database).unwrap(), leaders, "database {database}");
    }

    let wk1 = lab.scope("wk1").unwrap();
    let former = wk1.leader().unwrap().name();
    let interruption = Interruption::watch(wk1).unwrap();
    let began = Instant::now();
    assert_eq!(interruption.after(began), None);
    wk1.switchover(None).unwrap();
    let second = wk1.wait_new_leader(former, LONG).unwrap().name();
    let interrupted = interruption.wait_over(began, LONG).unwrap();
    assert!(began < interrupted.stopped && interrupted.stopped < interrupted.writable);
    println!("no writes for {:.1?}", interrupted.length());
    wk1.wait_healthy(LONG).unwrap();
    assert_eq!(wk1.leader().unwrap().name(), second);
    wk1.switchover(Some(former)).unwrap();
    wk1.wait_new_leader(second, LONG).unwrap();
    wk1.wait_healthy(LONG).unwrap();
    let began = Instant::now();
    wk1.restart().unwrap();
    let interrupted = interruption.wait_over(began, LONG).unwrap();
    println!("no writes for {:.1?} in a restart", interrupted.length());
    wk1.wait_healthy(LONG).unwrap();
    assert_eq!(wk1.leader().unwrap().name(), former);

    let wk2 = lab.scope("wk2").unwrap();
    let victim = wk2.crash().unwrap();
    assert!(!victim.is_running() && victim.connect("postgres").is_err());
    wk2.expire_leader().unwrap();
    wk2.wait_new_leader(victim.name(), LONG).unwrap();
    assert_eq!(wk2.revive().unwrap(), [victim.name()]);
    wk2.wait_healthy(LONG).unwrap();

    let wk3 = lab.scope("wk3").unwrap();
    let frozen = wk3.freeze().unwrap();
    assert!(frozen.is_running() && frozen.connect("postgres").is_err());
    wk3.thaw();
    wk3.wait_healthy(LONG).unwrap();
    assert_eq!(wk3.leader().unwrap().name(), frozen.name());
}

#[test]
fn clients_see_a_crash_and_lose_nothing_on_the_stand_in() {
    clients_see_a_crash_and_lose_nothing(true);
}

#[test]
fn clients_see_a_crash_and_lose_nothing_on_citus() {
    clients_see_a_crash_and_lose_nothing(false);
}

fn clients_see_a_crash_and_lose_nothing(stand_in: bool) {
    let lab = Lab::builder()
        .workers(2)
        .stand_in(stand_in)
        .start()
        .unwrap();
    introduce(&lab);
    let mut traffic = Traffic::start(&lab, "postgres", Load::default()).unwrap();
    let timeline = Timeline::default();
    let began = Instant::now();
    let (victim, successor) = crash_and_move(&lab, &timeline);
    traffic.wait_flowing().unwrap();

    let report = traffic.report().between(began, Instant::now());
    for kind in [Kind::Write, Kind::Read] {
        let failures = report.of_group(1).failures(kind).len();
        assert!(failures > 0, "no {kind} of the crashed group failed");
    }
    let of_other = report.of_group(2).failures(Kind::Write).len();
    assert_eq!(of_other, 0, "writes of a group that did not crash failed");

    let seen = timeline.render(began, Instant::now(), 120);
    println!("{seen}{:?}", report.longest_gap(Kind::Write).length());
    for event in [
        format!("{:<13} does not answer", victim.name()),
        "etcd          leader key deleted".into(),
        format!("etcd          leader key = {}", successor.name()),
        format!("{:<13} takes writes", successor.name()),
        format!(
            "pg_dist_node  group 1 at {} (postgres)",
            successor.address()
        ),
    ] {
        assert!(seen.contains(&event), "{event:?} is missing in\n{seen}");
    }
    assert!(traffic.verify(&lab).unwrap() > 0);
}

/// Crashes the leader of `wk1` and, as the daemon would, moves the row to the new leader. Returns
/// both members.
fn crash_and_move<'a>(lab: &'a Lab, timeline: &Timeline) -> (&'a Member, &'a Member) {
    let wk1 = lab.scope("wk1").unwrap();
    let _observer = Observer::watch(lab, wk1, timeline).unwrap();
    let victim = wk1.crash().unwrap();
    wk1.expire_leader().unwrap();
    let successor = wk1.wait_new_leader(victim.name(), LONG).unwrap();
    let update = format!(
        "SELECT citus_update_node(nodeid, '127.0.0.1', {}) FROM pg_dist_node WHERE groupid = 1",
        successor.port()
    );
    let mut coordinator = lab.coordinator().connect("postgres").unwrap();
    coordinator.batch_execute(&update).unwrap();
    wait_for("the observer to see the move", LONG, || {
        let moved = format!("group 1 at {} (postgres)", successor.address());
        Ok(timeline.entries().iter().any(|entry| entry.text == moved))
    })
    .unwrap();
    (victim, successor)
}
