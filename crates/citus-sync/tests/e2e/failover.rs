//! Crash, restart, coordinator failover, pause; and with the daemon killed in the middle.

use std::thread;
use std::time::Duration;

use citus_core::report::TransitionOutcome;
use lab::wait_for;

use crate::daemon::{Daemon, SOON};
use crate::fixture::{crash, in_sync, laboratory, make_whole, scope, switch};

#[test]
fn a_crash_moves_the_row_as_soon_as_the_new_leader_takes_writes() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    crash(&lab, "wk2");
    in_sync(&lab, &daemon);
    make_whole(&lab);
    in_sync(&lab, &daemon);
}

#[test]
fn a_leader_restarted_in_place_keeps_its_row() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let before = lab.rows("postgres").expect("rows");
    lab.scope("wk1").expect("wk1").restart().expect("a restart");
    in_sync(&lab, &daemon);
    assert_eq!(lab.rows("postgres").expect("rows"), before);
    // Its reads may have been at the standby meanwhile, and have come back.
    let transition = daemon.transition(1);
    assert_eq!(
        transition.outcome,
        TransitionOutcome::Kept,
        "{transition:#?}"
    );
}

#[test]
fn the_coordinators_own_row_follows_its_leader_and_workers_stay() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let before = lab.rows("second").expect("rows");
    switch(&lab, "cn");
    in_sync(&lab, &daemon);
    let after = lab.rows("second").expect("rows");
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
    // And what happens after it is done on the new coordinator.
    switch(&lab, "wk3");
    in_sync(&lab, &daemon);
}

#[test]
fn a_coordinator_crash_is_survived() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    crash(&lab, "cn");
    in_sync(&lab, &daemon);
    make_whole(&lab);
}

#[test]
fn a_worker_that_failed_over_together_with_the_coordinator_is_followed() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    thread::scope(|threads| {
        for name in ["cn", "wk1"] {
            let lab = &*lab;
            threads.spawn(move || switch(lab, name));
        }
    });
    in_sync(&lab, &daemon);
}

#[test]
fn a_frozen_worker_delays_no_other_group() {
    // Citus's metadata sync, which every move starts, may wait 30 s at a worker that accepts and
    // never answers, with pg_dist_node locked; `overtaken.rs` shows that certainly, this shows it
    // whole. (The workers may hear of it only when that one is back: the row is what is followed
    // here.)
    const SOONER_THAN_THE_SYNC_GIVES_UP: Duration = Duration::from_secs(20);
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let coordinator = lab.coordinator().leader().expect("the coordinator");
    let citus = |line: &str| {
        if lab.flavour().is_citus() {
            let mut client = coordinator.connect("postgres").expect("the coordinator");
            client.execute(line, &[]).expect(line);
            client
                .execute("SELECT pg_reload_conf()", &[])
                .expect("reloaded");
        }
    };
    citus("ALTER SYSTEM SET citus.node_connection_timeout = '30s'");
    // Paused, so that Patroni does not replace it meanwhile.
    let wk1 = scope(&lab, "wk1");
    let pause = |paused: bool| {
        wk1.configure(&serde_json::json!({"pause": paused}))
            .expect("configured");
    };
    pause(true);
    let frozen = wk1.freeze().expect("frozen");
    for (name, group) in [("wk2", 2), ("wk3", 3)] {
        // Not asked of Patroni: with the frozen worker in its cluster, a PostgreSQL with Citus may
        // take long to stop in an orderly way.
        crash(&lab, name);
        let leader = scope(&lab, name).leader_address().expect("a leader");
        wait_for(
            &format!("{name}'s row to follow while wk1's leader is frozen"),
            SOONER_THAN_THE_SYNC_GIVES_UP,
            || {
                for database in lab.databases() {
                    if lab.rows(database)?[group].1 != leader {
                        return Ok(false);
                    }
                }
                Ok(true)
            },
        )
        .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    }
    citus("ALTER SYSTEM RESET citus.node_connection_timeout");
    frozen.thaw();
    pause(false);
    make_whole(&lab);
    in_sync(&lab, &daemon);
}

#[test]
fn pause_does_not_keep_a_row_from_following() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    let scope = lab.scope("wk1").expect("wk1");
    scope
        .configure(&serde_json::json!({"pause": true}))
        .expect("paused");
    wait_for("the daemon to see the pause", SOON, || {
        Ok(daemon.group(1)?.paused)
    })
    .expect("paused");
    let candidate = scope.replicas().expect("replicas")[0].name().to_owned();
    // Patroni takes a switchover to a named candidate while paused.
    scope.switchover(Some(&candidate)).expect("a switchover");
    in_sync(&lab, &daemon);
    scope
        .configure(&serde_json::json!({"pause": null}))
        .expect("resumed");
    make_whole(&lab);
}

#[test]
fn a_daemon_killed_in_the_middle_finishes_the_transition_when_it_is_back() {
    let lab = laboratory();
    let mut daemon = Daemon::start(&lab);

    thread::scope(|threads| {
        let lab = &*lab;
        let switching = threads.spawn(move || switch(lab, "wk1"));
        // In the middle: the request is in etcd, the leader key has not changed hands yet.
        wait_for("the failover request", SOON, || {
            let request = lab.scope("wk1")?.key("failover")?;
            Ok(request.is_some_and(|key| !key.value.is_empty() && key.value != "{}"))
        })
        .expect("a request");
        daemon.kill();
        switching.join().expect("a switchover");
    });
    daemon.start_again();
    in_sync(&lab, &daemon);

    let victim = lab
        .scope("wk2")
        .expect("wk2")
        .crash()
        .expect("a crash")
        .name()
        .to_owned();
    daemon.kill_and_start_again();
    lab.scope("wk2")
        .expect("wk2")
        .expire_leader()
        .expect("the end of its lease");
    lab.scope("wk2")
        .expect("wk2")
        .wait_new_leader(&victim, SOON)
        .expect("a new leader");
    in_sync(&lab, &daemon);

    crash(&lab, "cn");
    daemon.kill_and_start_again();
    in_sync(&lab, &daemon);
    make_whole(&lab);
    in_sync(&lab, &daemon);
}

#[test]
fn the_daemon_stops_cleanly() {
    let lab = laboratory();
    let mut daemon = Daemon::start(&lab);
    assert_eq!(daemon.stop(), Some(0), "{}", daemon.log());
    assert!(daemon.log().contains("stopped"), "{}", daemon.log());
}
