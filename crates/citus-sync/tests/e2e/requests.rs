//! Requests for a switchover that come to nothing, or come late: withdrawn, overdue, not yet due, not
//! about the leader; and etcd away in the middle of one. Written by hand: no Patroni acts on them.

use std::time::Duration;

use citus_core::report::{Phase, TransitionKind, TransitionOutcome};
use lab::wait_for;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bare::Bare;
use crate::clients::was;
use crate::daemon::{Daemon, SOON};

const ALL_WENT_ON: [Phase; 3] = [Phase::Requested, Phase::Held, Phase::Released];

/// A group whose leader is its first member, in sync.
fn in_sync_group(policy: &serde_json::Value) -> (Bare, Daemon) {
    let bare = Bare::start();
    bare.put_leader("wk1", &bare.members[0]);
    bare.distribute();
    let daemon = bare.daemon(policy);
    bare.wait_row(&daemon, &bare.members[0]);
    (bare, daemon)
}

fn holds(daemon: &Daemon) -> u64 {
    daemon
        .metric("citus_sync_holds_total", &[])
        .expect("metrics")
}

#[test]
fn a_request_that_is_withdrawn_lets_writes_go() {
    let (bare, daemon) = in_sync_group(&json!({}));
    let leader = &bare.members[0];
    for (number, withdraw) in [(|bare: &Bare| bare.withdraw()) as fn(&Bare), |bare| {
        bare.request(&json!({}));
    }]
    .into_iter()
    .enumerate()
    {
        bare.request(&json!({"leader": leader.name(), "member": bare.members[1].name()}));
        daemon.wait_held(1);
        let writer = bare.writer();
        bare.wait_writer_waits(&daemon);
        withdraw(&bare);
        // It has its locks; and lets go of them.
        drop(writer.join().expect("the writer goes on"));
        bare.in_sync(&daemon, leader);
        let transitions = daemon.transitions(1);
        assert_eq!(transitions.len(), number + 1, "{transitions:#?}");
        was(
            &transitions[number],
            TransitionKind::Hold,
            TransitionOutcome::Kept,
            &ALL_WENT_ON,
        );
        assert_eq!(transitions[number].reason, "a switchover was asked for");
    }
    daemon.wait_logged(&["writes go on", "scope=wk1"]);
}

#[test]
fn a_request_that_is_never_fulfilled_is_held_for_once() {
    let (bare, daemon) = in_sync_group(&json!({"hold_timeout": "1s", "lock_cooldown": "100ms"}));
    let leader = &bare.members[0];
    // No member has that name. Patroni would refuse the request; written by hand it stays.
    let request = json!({"leader": leader.name(), "member": "ghost"});
    bare.request(&request);
    daemon.wait_logged(&[
        "WARN",
        "the hold reached its deadline",
        "Patroni's log of wk1",
    ]);
    bare.in_sync(&daemon, leader);
    assert_eq!(
        daemon.wait_transition(1).outcome,
        TransitionOutcome::Expired
    );
    // News come, and the request stands on: it is not held for again.
    bare.wait_seen(&daemon);
    assert!(daemon.group(1).expect("a report").hold.is_none());
    assert_eq!(holds(&daemon), 1, "{}", daemon.log());
    assert_eq!(daemon.transitions(1).len(), 1, "{}", daemon.log());

    // The next request, of the same words, is another one.
    bare.withdraw();
    bare.wait_seen(&daemon);
    bare.request(&request);
    daemon.wait_held(1);
    bare.withdraw();
    bare.in_sync(&daemon, leader);
    assert_eq!(daemon.transitions(1).len(), 2, "{}", daemon.log());
}

#[test]
fn no_writes_are_held_for_a_request_that_patroni_does_not_act_on_now() {
    let (bare, daemon) = in_sync_group(&json!({}));
    let [leader, other] = &bare.members;
    let (leader, other) = (leader.name(), other.name());
    for request in [
        // Tomorrow.
        json!({"leader": leader, "member": other, "scheduled_at": "2999-01-01T00:00:00+00:00"}),
        // Long overdue: Patroni drops it.
        json!({"leader": leader, "scheduled_at": "2001-01-01T00:00:00+00:00"}),
        // Another member is to leave.
        json!({"leader": other}),
        // The leader is to lead.
        json!({"leader": leader, "member": leader}),
        json!({"member": leader}),
        json!({}),
    ] {
        bare.request(&request);
        bare.wait_seen(&daemon);
        let report = daemon.group(1).expect("a report");
        assert!(
            report.in_sync && report.hold.is_none(),
            "{request}: {report:?}"
        );
    }
    bare.in_sync(&daemon, &bare.members[0]);
    assert_eq!(holds(&daemon), 0, "{}", daemon.log());
    assert!(daemon.transitions(1).is_empty(), "{}", daemon.log());
}

#[test]
fn a_scheduled_switchover_is_held_when_its_time_comes() {
    let (bare, daemon) = in_sync_group(&json!({}));
    let [old, new] = &bare.members;
    let due = OffsetDateTime::now_utc() + Duration::from_secs(3);
    let text = due.format(&Rfc3339).expect("RFC 3339");
    bare.request(&json!({"leader": old.name(), "member": new.name(), "scheduled_at": text}));
    daemon.wait_held(1);
    // What Patroni does at that time.
    bare.put_leader("wk1", new);
    bare.withdraw();
    bare.in_sync(&daemon, new);
    let transition = daemon.wait_transition(1);
    assert_eq!(
        (transition.kind, transition.outcome),
        (TransitionKind::Switchover, TransitionOutcome::Followed)
    );
    let began = OffsetDateTime::parse(&transition.at, &Rfc3339).expect("RFC 3339");
    let early = due - began;
    assert!(
        early <= Duration::from_millis(150),
        "held {early} before its time"
    );
}

#[test]
fn a_hold_ends_at_its_deadline_while_etcd_is_away() {
    let (bare, daemon) = in_sync_group(&json!({"hold_timeout": "15s"}));
    let leader = &bare.members[0];
    bare.request(&json!({"leader": leader.name()}));
    daemon.wait_held(1);
    bare.etcd.freeze();
    let stale = wait_for("the view to be stale", SOON, || {
        Ok(!daemon.state()?.etcd.fresh)
    });
    daemon.expect(stale);
    assert!(daemon.group(1).expect("a report").hold.is_some());
    // It cannot be known whether the request was withdrawn: the hold is kept until its deadline.
    daemon.wait_logged(&["WARN", "the hold reached its deadline"]);
    drop(bare.writer().join().expect("the writer goes on"));
    assert!(!daemon.state().expect("a state").etcd.fresh);
    bare.etcd.thaw();
    bare.in_sync(&daemon, leader);
    assert_eq!(
        daemon.wait_transition(1).outcome,
        TransitionOutcome::Expired
    );
    assert_eq!(holds(&daemon), 1, "{}", daemon.log());
    bare.withdraw();
    bare.in_sync(&daemon, leader);
}

#[test]
fn a_stop_of_the_daemon_lets_writes_go() {
    let (bare, mut daemon) = in_sync_group(&json!({}));
    daemon.hold(1);
    let writer = bare.writer();
    bare.wait_writer_waits(&daemon);
    assert_eq!(daemon.stop(), Some(0), "{}", daemon.log());
    drop(writer.join().expect("the writer goes on"));
    daemon.wait_logged(&["writes go on", "scope=wk1"]);
    daemon.start_again();
    daemon.wait_ready();
    bare.in_sync(&daemon, &bare.members[0]);
}
