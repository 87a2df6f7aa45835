//! Patroni's `before_stop`: planned restarts are held for, stops of standbys are not, and no
//! PostgreSQL is kept from stopping.
//!
//! Patroni has it since 3.0.3. With an older one the same command is given by hand.

use std::thread;

use citus_core::report::{
    HoldOutcome, HoldRequest, Phase, Transition, TransitionKind, TransitionOutcome,
};
use lab::{Lab, wait_for};
use serde_json::json;

use crate::clients::{ALL_PHASES, clients, lost_nothing, nothing_failed, was};
use crate::daemon::{Daemon, SOON};
use crate::fixture::{
    DATABASES, HookOn, in_sync, key_of_group, laboratory, make_asynchronous, make_whole, moves,
    scope, switch,
};

/// The same leader is back, and the row with it.
const RESTARTED: [Phase; 7] = [
    Phase::Requested,
    Phase::Held,
    Phase::ReadsMoved,
    Phase::LeaderGone,
    Phase::Writable,
    Phase::Committed,
    Phase::Released,
];

fn was_a_restart(transition: &Transition) {
    was(
        transition,
        TransitionKind::Restart,
        TransitionOutcome::Kept,
        &RESTARTED,
    );
    assert_eq!(transition.from, transition.to);
    assert_eq!(transition.reason, "`citus-sync hold` asked for it");
}

#[test]
fn clients_do_not_notice_a_planned_restart() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let hook = HookOn::where_there_is_one(&lab);
    let traffic = clients(&lab, &[1], Some("wk2"));
    let before = lab.rows("postgres").expect("rows");
    if hook.is_none() {
        hold_by_hand(&lab, &daemon);
    }
    scope(&lab, "wk1").restart().expect("a restart");
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
    assert_eq!(lab.rows("postgres").expect("rows"), before);
    was_a_restart(&daemon.transition(1));
    // Back to the leader, in each database.
    assert_eq!(moves(&daemon, 1), 2, "{}", daemon.log());
}

/// Patroni's default, and the older guides'.
#[test]
fn clients_do_not_notice_a_planned_restart_without_synchronous_standbys() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let hook = HookOn::where_there_is_one(&lab);
    let wk1 = scope(&lab, "wk1");
    make_asynchronous(wk1);
    let traffic = clients(&lab, &[1], Some("wk2"));
    if hook.is_none() {
        hold_by_hand(&lab, &daemon);
    }
    wk1.restart().expect("a restart");
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("everybody is served");
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
    was_a_restart(&daemon.transition(1));
}

/// The hold begins when Patroni is about to stop its leader, and not with the request, before the
/// checkpoint that Patroni writes in between.
#[test]
fn a_switchover_is_held_for_when_the_hook_asks() {
    let lab = laboratory();
    let daemon = Daemon::start_by(&lab, &json!({"hold_on_request": false}));
    in_sync(&lab, &daemon);
    let hook = HookOn::where_there_is_one(&lab);
    let traffic = clients(&lab, &[1], Some("wk2"));
    if hook.is_none() {
        hold_by_hand(&lab, &daemon);
    }
    switch(&lab, "wk1");
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
    let transition = daemon.transition(1);
    let (kind, outcome) = (TransitionKind::Switchover, TransitionOutcome::Followed);
    was(&transition, kind, outcome, &ALL_PHASES);
    assert_eq!(transition.reason, "`citus-sync hold` asked for it");
}

/// They would fail with the leader; who holds by hand is told of them, and they are not waited for
/// endlessly.
#[test]
fn a_hook_waits_for_reads_that_run_at_the_leader() {
    let lab = laboratory();
    if !lab.flavour().is_citus() {
        eprintln!("skipped: the stand-in sends no statements to workers");
        return;
    }
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let leader = scope(&lab, "wk1").leader().expect("a leader");
    let mut gate = leader.connect("second").expect("a session");
    gate.batch_execute("SELECT pg_advisory_lock(42)")
        .expect("the gate is shut");
    let mut reader = lab.coordinator().connect("second").expect("a reader");
    let key = key_of_group(&mut reader, 1);
    let read =
        format!("SELECT count(pg_advisory_xact_lock_shared(42)) FROM ledger WHERE id = {key}");
    reader
        .batch_execute(&format!(
            "INSERT INTO ledger VALUES ({key}, 'read') ON CONFLICT (id) DO NOTHING"
        ))
        .expect("a row");
    let reading = thread::spawn(move || reader.batch_execute(&read));
    wait_for("the reader to be there", SOON, || {
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        Ok(gate.query_one(waits, &[])?.get::<_, i64>(0) == 1)
    })
    .expect("it reads");
    let answer = daemon.hold(1);
    assert!(
        answer.message.contains("still run at the leader"),
        "{answer:?}"
    );
    assert!(answer.took_ms >= 500, "it was not waited for: {answer:?}");
    gate.batch_execute("SELECT pg_advisory_unlock(42)")
        .expect("the gate is open");
    reading.join().expect("no panic").expect("what it read");
    let answer = daemon.hold(1);
    assert_eq!(answer.message, "", "{answer:?}");
    daemon.release(1);
    in_sync(&lab, &daemon);
}

/// Where Patroni does not ask.
fn hold_by_hand(lab: &Lab, daemon: &Daemon) {
    eprintln!("{} has no before_stop: held by hand", lab.version());
    let (done, said) = daemon.command(&["hold", "--group", "1"]);
    assert!(done, "{said}\n{}", daemon.log());
    assert!(said.contains("reads are at"), "{said}");
}

#[test]
fn a_standby_that_stops_holds_nothing() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let standby = scope(&lab, "wk1").replicas().expect("replicas")[0];
    if let Some(hook) = HookOn::where_there_is_one(&lab) {
        let before = hook.log().len();
        standby.stop().expect("a stop");
        let said = hook.log()[before..].to_owned();
        assert!(
            said.contains(standby.name()) && said.contains("does not lead"),
            "{said}"
        );
        standby.start().expect("a start");
        make_whole(&lab);
    } else {
        eprintln!("{} has no before_stop: asked by hand", lab.version());
        let request = HoldRequest {
            member: Some(standby.name().to_owned()),
            ..HoldRequest::default()
        };
        let answer = daemon.ask_for_hold(1, &request);
        assert_eq!(answer.outcome, HoldOutcome::NotTheLeader, "{answer:?}");
    }
    in_sync(&lab, &daemon);
    assert!(daemon.transitions(1).is_empty(), "{}", daemon.log());
    assert!(
        !daemon.log().contains("writes are held"),
        "{}",
        daemon.log()
    );
}

#[test]
fn a_daemon_that_is_away_or_frozen_keeps_no_postgresql_from_stopping() {
    let lab = laboratory();
    let Some(hook) = HookOn::where_there_is_one(&lab) else {
        eprintln!("skipped: {} has no before_stop", lab.version());
        return;
    };
    // No daemon listens.
    scope(&lab, "wk2").restart().expect("a restart");
    let said = hook.log();
    assert!(said.contains("not held"), "{said}");

    // A daemon listens and never answers. Thawed, it finds everything as it was.
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    daemon.freeze();
    scope(&lab, "wk2").restart().expect("a restart");
    let said = hook.log()[said.len()..].to_owned();
    assert!(said.contains("not held"), "{said}");
    daemon.thaw();
    make_whole(&lab);
    in_sync(&lab, &daemon);
}

#[test]
fn a_hold_by_hand_lasts_until_it_is_released_by_hand() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let (done, said) = daemon.command(&["hold", "--scope", "wk3", "--json"]);
    assert!(done, "{said}\n{}", daemon.log());
    let mut writer = lab.coordinator().connect("second").expect("a writer");
    let key = key_of_group(&mut writer, 3);
    let sql = if lab.flavour().is_citus() {
        format!("INSERT INTO ledger VALUES ({key}, 'held') ON CONFLICT (id) DO NOTHING")
    } else {
        format!("SELECT citus_stand_in_write('ledger', {key}, 'held')")
    };
    let writing = thread::spawn(move || writer.batch_execute(&sql));
    let mut observer = lab.coordinator().connect("second").expect("an observer");
    wait_for("the writer to wait", SOON, || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lab' \
             AND datname = 'second' AND wait_event_type = 'Lock'";
        Ok(observer.query_one(waits, &[])?.get::<_, i64>(0) == 1)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    let report = daemon.group(3).expect("a report").hold.expect("a hold");
    assert_eq!(report.reason, "`citus-sync hold` asked for it");
    for database in DATABASES {
        assert_eq!(report.databases[database], "held");
    }

    let (done, said) = daemon.command(&["release", "--group", "3"]);
    assert!(done, "{said}\n{}", daemon.log());
    writing.join().expect("the thread").expect("it was written");
    in_sync(&lab, &daemon);
    let transition = daemon.transition(3);
    assert_eq!(
        (transition.kind, transition.outcome),
        (TransitionKind::Hold, TransitionOutcome::Kept),
        "{transition:#?}"
    );
    let (done, said) = daemon.command(&["release", "--group", "3"]);
    assert!(done && said.contains("nothing"), "{said}");
    let (done, said) = daemon.command(&["history"]);
    assert!(done && said.contains("wk3"), "{said}");
}
