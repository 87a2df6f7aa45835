//! Rule 2: whatever becomes of the daemon, no hold outlives its deadline; the server sees to it.
//!
//! The first scenarios are told without read moves: where reads were sent to a standby, writes that
//! go on are refused by it until the daemon is back, which the last scenario tells.

use std::time::Duration;

use citus_core::report::{TransitionKind, TransitionOutcome};
use lab::{Kind, Lab, wait_for};
use serde_json::json;

use crate::clients::{clients, lost_nothing, none_failed, nothing_failed};
use crate::daemon::{Daemon, SOON};
use crate::fixture::{holders, in_sync, laboratory, scope};

/// Waits until clients wait in a hold, on the coordinator and on the entry node.
fn wait_until_writers_wait(lab: &Lab, daemon: &Daemon) {
    let mut nodes = vec![lab.coordinator()];
    if lab
        .entry_nodes("postgres")
        .expect("entry nodes")
        .contains(&2)
    {
        nodes.push(scope(lab, "wk2"));
    }
    for node in nodes {
        let mut observer = node.connect("postgres").expect("an observer");
        let waiting = wait_for("clients to wait in the hold", SOON, || {
            let waiting = "SELECT count(DISTINCT datname) FROM pg_stat_activity \
                 WHERE application_name = 'lab' AND wait_event_type = 'Lock'";
            Ok(observer.query_one(waiting, &[])?.get::<_, i64>(0) == 2)
        });
        daemon.expect(waiting);
    }
}

/// No session that holds is left on any leader, although the daemon did not let go.
fn let_go_by_the_servers(lab: &Lab, daemon: &Daemon) {
    let gone = wait_for("the servers to end the hold", SOON, || {
        Ok(holders(lab)?.is_empty())
    });
    daemon.expect(gone);
}

#[test]
fn writes_go_on_while_the_daemon_that_held_them_is_frozen() {
    let lab = laboratory();
    let daemon = Daemon::start_by(&lab, &json!({"hold_timeout": "5s", "read_move": false}));
    in_sync(&lab, &daemon);
    let traffic = clients(&lab, &[1], Some("wk2"));
    daemon.hold(1);
    wait_until_writers_wait(&lab, &daemon);
    daemon.freeze();
    traffic.wait_flowing().expect("every client is served");
    let_go_by_the_servers(&lab, &daemon);

    daemon.thaw();
    in_sync(&lab, &daemon);
    daemon.wait_logged(&["WARN", "the hold reached its deadline", "scope=wk1"]);
    let transition = daemon.transition(1);
    assert_eq!(
        transition.outcome,
        TransitionOutcome::Expired,
        "{transition:#?}"
    );
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
}

#[test]
fn writes_go_on_when_the_host_of_the_daemon_that_held_them_vanishes() {
    let lab = laboratory();
    // Longer than anything here is waited for: it is not the deadline that ends it.
    let daemon = Daemon::start_by(&lab, &json!({"hold_timeout": "300s", "read_move": false}));
    in_sync(&lab, &daemon);
    let traffic = clients(&lab, &[1], Some("wk2"));
    daemon.hold(1);
    wait_until_writers_wait(&lab, &daemon);
    daemon.vanish();
    traffic.wait_flowing().expect("every client is served");
    let_go_by_the_servers(&lab, &daemon);

    // Back, it lets go of what it may still believe to hold.
    daemon.reappear();
    let fresh = wait_for("the daemon to hear from etcd again", SOON, || {
        Ok(daemon.state()?.etcd.fresh)
    });
    daemon.expect(fresh);
    daemon.release(1);
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    // The server has closed every session of ours meanwhile. Where that is seen for the leader's before
    // the hold is over, the leader counts as away.
    let transition = daemon.transition(1);
    assert!(
        matches!(
            transition.kind,
            TransitionKind::Hold | TransitionKind::Restart
        ) && transition.outcome == TransitionOutcome::Kept,
        "{transition:#?}"
    );
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
}

#[test]
fn writes_go_on_when_the_daemon_that_held_them_is_killed() {
    let lab = laboratory();
    let mut daemon = Daemon::start_by(&lab, &json!({"hold_timeout": "300s", "read_move": false}));
    in_sync(&lab, &daemon);
    let traffic = clients(&lab, &[1], Some("wk2"));
    daemon.hold(1);
    wait_until_writers_wait(&lab, &daemon);
    daemon.kill();
    traffic.wait_flowing().expect("every client is served");
    let_go_by_the_servers(&lab, &daemon);

    daemon.start_again();
    in_sync(&lab, &daemon);
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
}

#[test]
fn a_daemon_killed_while_reads_are_at_a_standby_sends_them_back_when_it_is_back() {
    let lab = laboratory();
    let mut daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let traffic = clients(&lab, &[1], Some("wk2"));
    let answer = daemon.hold(1);
    assert!(answer.reads_moved_to.is_some(), "{answer:?}");
    wait_until_writers_wait(&lab, &daemon);
    daemon.kill();
    // No writer waits any more: the standby refuses writes at once.
    let refused = wait_for("writes to be answered", SOON, || {
        let report = traffic.report();
        let failures = report.failures(Kind::Write);
        Ok(failures.iter().any(|write| {
            write
                .error
                .as_deref()
                .is_some_and(|error| error.contains("read-only"))
        }))
    });
    daemon.expect(refused);
    let_go_by_the_servers(&lab, &daemon);

    daemon.start_again();
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    none_failed(&traffic.report(), &daemon, Kind::Read, |_| true);
    lost_nothing(traffic, &lab);
}

#[test]
fn a_hold_ends_at_its_deadline_although_the_leader_is_there() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let traffic = clients(&lab, &[1], Some("wk2"));
    daemon.hold_for(1, Some(Duration::from_secs(2)));
    wait_until_writers_wait(&lab, &daemon);
    daemon.wait_let_go(1);
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    daemon.wait_logged(&["WARN", "the hold reached its deadline", "scope=wk1"]);
    daemon.wait_logged(&["WARN", "hold over, expired", "scope=wk1"]);
    let ended = |outcome: &str| {
        let outcome = format!("outcome=\"{outcome}\"");
        daemon
            .metric("citus_sync_holds_total", &["group=\"1\"", &outcome])
            .expect("metrics")
    };
    assert_eq!((ended("expired"), ended("released")), (1, 0));

    // Who asks again is held for again.
    daemon.hold(1);
    daemon.release(1);
    in_sync(&lab, &daemon);
    let outcomes: Vec<TransitionOutcome> = daemon
        .transitions(1)
        .iter()
        .map(|transition| transition.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [TransitionOutcome::Expired, TransitionOutcome::Kept]
    );
    assert_eq!((ended("expired"), ended("released")), (1, 1));
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
}
