//! Two daemons on one formation: one writes.

use std::path::Path;

use citus_core::report::State;
use lab::{Daemon, wait_for};

use crate::fixture::{FIXTURE, native};
use crate::{PROGRAM, SOON, says, serves};

/// A daemon of this database that compares everything each second.
fn follower(namespace: &str, database: &str) -> Daemon {
    let listen = FIXTURE.sandbox.port().unwrap();
    let more = format!("listen: 127.0.0.1:{listen}\npolicy: {{ reconcile_every: 1s }}\n");
    let endpoint = FIXTURE.etcd.endpoint();
    let workers = [(1, "wk1")];
    let text = native(
        &endpoint,
        namespace,
        "postgres",
        &[database],
        &workers,
        &more,
    );
    let daemon = Daemon::start(&FIXTURE.sandbox, Path::new(PROGRAM), &text, listen).unwrap();
    serves(&daemon);
    daemon
}

fn state(daemon: &Daemon) -> State {
    serde_json::from_str(&daemon.get("/api/v1/state").unwrap().1).unwrap()
}

fn wait_in_sync(daemon: &Daemon) {
    wait_for("the daemon to have everything in sync", SOON, || {
        let groups = &state(daemon).formations[0].groups;
        Ok(groups.len() == 2 && groups.iter().all(|group| group.in_sync))
    })
    .unwrap();
}

/// The row of group 1 is spoilt, and mended by whoever writes.
fn a_row_is_mended(database: &str) {
    let port = FIXTURE.worker.port();
    let spoil = "UPDATE pg_catalog.pg_dist_node SET nodeport = 1 WHERE groupid = 1";
    FIXTURE.coordinator.execute(database, spoil).unwrap();
    let mut client = FIXTURE.coordinator.connect(database).unwrap();
    let row = "SELECT nodeport FROM pg_catalog.pg_dist_node WHERE groupid = 1";
    wait_for("the row to be right again", SOON, || {
        let found: i32 = client.query_one(row, &[])?.get(0);
        Ok(found == i32::from(port))
    })
    .unwrap();
}

fn changes(daemon: &Daemon) -> usize {
    let (_, metrics) = daemon.get("/metrics").unwrap();
    let steps = |line: &&str| line.starts_with("citus_sync_steps_total{");
    metrics.lines().filter(steps).count()
}

#[test]
fn a_second_daemon_on_a_formation_only_observes_until_the_first_is_gone() {
    FIXTURE.citus_database("two");
    FIXTURE.put_both("two");
    let first = follower("two", "two");
    wait_in_sync(&first);
    let second = follower("two", "two");
    // The process as it knows itself: the laboratory has a PID namespace of its own.
    let own = "citus-sync writer, pid ";
    let words = [
        "another citus-sync writes",
        "process ",
        "127.0.0.1",
        own,
        " on ",
    ];
    says(&second, &words);
    says(&second, &["started, and only observes"]);
    a_row_is_mended("two");
    assert_eq!((changes(&first), changes(&second)), (1, 0));
    let why = state(&second).formations[0].databases[0]
        .error
        .clone()
        .unwrap();
    assert!(why.contains(own), "{why}");
    assert_eq!(second.get("/readyz").unwrap().0, 503);

    // It comes back, and the session of its lock is lost: it is the writer again at once.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'two' AND \
               application_name LIKE 'citus-sync writer%'";
    second.kill().unwrap();
    FIXTURE.coordinator.execute("postgres", cut).unwrap();
    says(
        &first,
        &["terminating connection due to administrator command"],
    );
    wait_in_sync(&first);
    a_row_is_mended("two");

    let third = follower("two", "two");
    says(&third, &["run one instance"]);
    first.kill().unwrap();
    says(&third, &["this one writes from now on"]);
    wait_in_sync(&third);
    a_row_is_mended("two");
}

#[test]
fn a_frozen_daemon_does_not_stay_the_writer() {
    FIXTURE.citus_database("frozen");
    FIXTURE.put_both("frozen");
    let first = follower("frozen", "frozen");
    wait_in_sync(&first);
    let second = follower("frozen", "frozen");
    says(&second, &["run one instance"]);
    first.freeze().unwrap();
    says(&second, &["this one writes from now on"]);
    wait_in_sync(&second);
    first.thaw().unwrap();
    // The server has told it by then; it reads that before it does anything.
    says(&first, &["only observes"]);
    a_row_is_mended("frozen");
    assert_eq!((changes(&first), changes(&second)), (0, 1));
}
