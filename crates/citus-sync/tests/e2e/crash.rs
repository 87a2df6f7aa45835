//! The leader is lost without notice: reads go on at its standby long before another member may lead.

use std::time::Instant;

use citus_core::plan::{Stay, Wait};
use citus_core::report::{TransitionKind, TransitionOutcome};
use lab::{Lab, Member, Scope, wait_for};
use serde_json::json;

use crate::clients::{clients, lost_nothing, wait_reads_flow};
use crate::daemon::{Daemon, SOON};
use crate::fixture::{
    coordinator, in_sync, laboratory, make_asynchronous, make_whole, scope, succeed,
};

/// Where the coordinator's primary row of group 1 points.
fn row(lab: &Lab, database: &str) -> String {
    lab.rows(database).expect("rows")[1].1.clone()
}

fn holds_the_key(scope: &Scope, member: &str) -> bool {
    let key = scope.key("leader").expect("etcd");
    key.is_some_and(|key| key.value == member)
}

#[test]
fn reads_are_back_while_the_dead_leader_still_has_its_key() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let wk1 = scope(&lab, "wk1");
    let standby = wk1.replicas().expect("replicas")[0].address();
    let traffic = clients(&lab, &[1], Some("wk2"));
    let victim = wk1.crash().expect("a crash").name();
    wait_reads_flow(&traffic, &daemon, Instant::now());
    assert!(holds_the_key(wk1, victim), "{}", daemon.log());
    for database in lab.databases() {
        assert_eq!(row(&lab, database), standby);
        let database = format!("database=\"{database}\"");
        daemon.wait_logged(&["reads are moved", "scope=wk1", &database]);
    }

    succeed(&lab, "wk1", victim);
    traffic.wait_flowing().expect("every client is served");
    make_whole(&lab);
    in_sync(&lab, &daemon);
    lost_nothing(traffic, &lab);
    let transition = daemon.transition(1);
    assert_eq!(
        (transition.kind, transition.outcome),
        (TransitionKind::Failover, TransitionOutcome::Followed),
        "{transition:#?}"
    );
    let phases = &transition.phases;
    assert!(
        phases.leader_gone_us < phases.reads_moved_us
            && phases.reads_moved_us < phases.leader_key_us,
        "{transition:#?}"
    );
    assert!(phases.writable_us.is_some(), "{transition:#?}");
}

#[test]
fn reads_leave_a_leader_that_patroni_restarts_in_place_and_come_back() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let wk1 = scope(&lab, "wk1");
    let leader = wk1.leader().expect("a leader");
    let traffic = clients(&lab, &[1], Some("wk2"));
    leader.crash_postgres().expect("its death");
    wait_reads_flow(&traffic, &daemon, Instant::now());
    daemon.wait_logged(&["reads are moved", "scope=wk1"]);
    traffic.wait_flowing().expect("every client is served");
    make_whole(&lab);
    in_sync(&lab, &daemon);
    lost_nothing(traffic, &lab);
    assert!(holds_the_key(wk1, leader.name()), "no failover");
    let transition = daemon.transition(1);
    assert_eq!(
        (transition.kind, transition.outcome),
        (TransitionKind::Failover, TransitionOutcome::Kept),
        "{transition:#?}"
    );
    let phases = &transition.phases;
    assert!(
        phases.reads_moved_us.is_some() && phases.reads_moved_us < phases.writable_us,
        "{transition:#?}"
    );
    assert_eq!(phases.leader_key_us, None, "{transition:#?}");
    assert!(phases.writable_us < phases.committed_us, "{transition:#?}");
}

#[test]
fn a_host_that_falls_silent_is_noticed() {
    let lab = laboratory();
    if !lab.flavour().is_citus() {
        eprintln!("skipped: the stand-in tries a silent host for two seconds, and Citus for less");
        return;
    }
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let wk1 = scope(&lab, "wk1");
    let standby = wk1.replicas().expect("replicas")[0].address();
    let traffic = clients(&lab, &[1], Some("wk2"));
    let silent = wk1.vanish().expect("silence");
    let moved = wait_for("reads to be moved", SOON, || {
        let mut databases = lab.databases().iter();
        Ok(databases.all(|database| row(&lab, database) == standby))
    });
    daemon.expect(moved);
    assert!(holds_the_key(wk1, silent.name()), "{}", daemon.log());
    wait_reads_flow(&traffic, &daemon, Instant::now());

    succeed(&lab, "wk1", silent.name());
    traffic.wait_flowing().expect("every client is served");
    // The host is booted by hand. (A Patroni that was only suspended, and not told of the time, takes
    // the key from its successor and so loses data: that is not what this scenario is about.)
    silent.crash().expect("the end of it");
    make_whole(&lab);
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    lost_nothing(traffic, &lab);
    let transition = daemon.transition(1);
    assert_eq!(
        (transition.kind, transition.outcome),
        (TransitionKind::Failover, TransitionOutcome::Followed),
        "{transition:#?}"
    );
}

/// Waits until the daemon says, in every database, that reads stay where they are, and why.
fn wait_stays(daemon: &Daemon, why: impl Fn(&Stay) -> bool) {
    let stays = wait_for("the daemon to say why reads stay", SOON, || {
        let group = daemon.group(1)?;
        Ok(group
            .databases
            .values()
            .all(|database| matches!(&database.wait, Some(Wait::Lost { stay, .. }) if why(stay))))
    });
    daemon.expect(stays);
}

/// Has the standby receive four megabytes of WAL and replay nothing of it.
fn make_lag(leader: &Member, standby: &Member) {
    standby.freeze_replay().expect("frozen");
    let mut writer = leader.connect("postgres").expect("the leader");
    let written: String = writer
        .query_one(
            "SELECT pg_logical_emit_message(false, 'scenario', repeat('x', 4000000))::text",
            &[],
        )
        .expect("four megabytes of WAL")
        .get(0);
    let mut session = standby.connect("postgres").expect("the standby");
    wait_for("the standby to receive it", SOON, || {
        let received = format!("SELECT pg_last_wal_receive_lsn() >= '{written}'");
        Ok(session.query_one(&received, &[])?.get(0))
    })
    .expect("received");
}

#[test]
fn an_asynchronous_standby_is_read_from_only_where_the_policy_says_so_and_never_when_it_lags() {
    let lab = laboratory();
    let wk1 = scope(&lab, "wk1");
    make_asynchronous(wk1);
    let strict = Daemon::start(&lab);
    in_sync(&lab, &strict);
    let (leader, standby) = (
        wk1.leader().expect("a leader"),
        wk1.replicas().expect("replicas")[0],
    );
    make_lag(leader, standby);
    let before = row(&lab, "postgres");
    leader.crash().expect("a crash");
    wait_stays(&strict, |stay| *stay == Stay::NoStandby);
    assert_eq!(row(&lab, "postgres"), before);
    drop(strict);

    let liberal = Daemon::start_with(&lab, |config| {
        config["policy"] = json!({"read_move_max_lag": "1MB"});
    });
    liberal.wait_ready();
    wait_stays(
        &liberal,
        |stay| matches!(stay, Stay::Behind { bytes, .. } if *bytes >= 4_000_000),
    );
    assert_eq!(row(&lab, "postgres"), before);

    standby.thaw_replay().expect("thawed");
    let moved = wait_for("reads to be moved", SOON, || {
        let mut databases = lab.databases().iter();
        Ok(databases.all(|database| row(&lab, database) == standby.address()))
    });
    liberal.expect(moved);
    assert!(holds_the_key(wk1, leader.name()), "{}", liberal.log());
    coordinator(&lab, "postgres")
        .query("SELECT * FROM customers", &[])
        .expect("a read of every group");

    succeed(&lab, "wk1", leader.name());
    wk1.configure(&json!({"synchronous_mode": true}))
        .expect("synchronous again");
    make_whole(&lab);
    in_sync(&lab, &liberal);
}
