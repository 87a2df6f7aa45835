//! The one laboratory of a run, and what every story begins and ends with.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{Lab, wait_for};

use crate::daemon::{Daemon, SOON};

/// Two databases, so that each story is told twice at once.
pub(crate) const DATABASES: [&str; 2] = ["postgres", "second"];

/// Time for Patroni to make a scope whole again: rewind, restart, a synchronous standby.
const HEALTHY: Duration = Duration::from_secs(90);

/// The laboratory, healthy. It is started by the first story, and ended by its reaper when this
/// process is gone, however it went.
pub(crate) fn laboratory() -> MutexGuard<'static, Lab> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    let lab = LAB.get_or_init(|| {
        let lab = Lab::builder()
            .workers(3)
            .members(2)
            .databases(DATABASES)
            .start()
            .expect("the laboratory must start");
        eprintln!(
            "laboratory: {}, {}, started in {:.1} s",
            lab.version(),
            lab.flavour(),
            lab.start_up_time().as_secs_f64()
        );
        Mutex::new(lab)
    });
    // A story that failed leaves the lab as it was then; the next one makes it whole first.
    let lab = lab.lock().unwrap_or_else(PoisonError::into_inner);
    make_whole(&lab);
    lab
}

/// Starts and thaws whatever is not running, and waits until every scope is healthy.
pub(crate) fn make_whole(lab: &Lab) {
    lab.etcd().thaw();
    if lab.etcd().kv().status().is_err() {
        lab.etcd().start_again().expect("etcd starts again");
    }
    for scope in lab.scopes() {
        scope.thaw();
        scope.revive().expect("members start again");
    }
    if lab.wait_healthy(HEALTHY).is_ok() {
        return;
    }
    // A Patroni can be wedged by what it went through (3.0 may follow a leader that is gone, after
    // etcd was restarted under it). That is not what these stories are about.
    eprintln!("some scope does not become healthy: every member is started anew");
    for member in lab.scopes().iter().flat_map(lab::Scope::members) {
        member.crash().expect("a crash");
        member.start().expect("a start");
    }
    lab.wait_healthy(HEALTHY).expect("every scope is healthy");
}

/// Every primary row of `database` is its leader's.
pub(crate) fn rows_are_leaders(lab: &Lab, database: &str) -> Result<()> {
    let (rows, leaders) = (lab.rows(database)?, lab.leaders()?);
    ensure!(
        rows == leaders,
        "{database}: rows {rows:?}, leaders {leaders:?}"
    );
    Ok(())
}

/// The end of every story: in every database, rows = leaders, and deciding again says settled.
pub(crate) fn settled(lab: &Lab, daemon: &Daemon) {
    let settled = wait_for("rows = leaders, and nothing left to decide", SOON, || {
        for database in lab.databases() {
            rows_are_leaders(lab, database)?;
        }
        let state = daemon.state()?;
        let groups = &state.formations[0].groups;
        ensure!(
            groups.len() == lab.scopes().len(),
            "{} groups are followed",
            groups.len()
        );
        for group in groups {
            ensure!(group.settled, "{group:?}");
        }
        Ok(true)
    });
    if let Err(error) = settled {
        panic!("{error:#}\n--- the daemon's log:\n{}", daemon.log());
    }
    assert_eq!(
        daemon
            .metric("citus_sync_rule_violations_total", &[])
            .expect("metrics"),
        0,
        "the invariant checker stopped a decision"
    );
}

/// How many moves were committed so far, of one group.
pub(crate) fn moves(daemon: &Daemon, group: u32) -> u64 {
    let group = format!("group=\"{group}\"");
    daemon
        .metric(
            "citus_sync_steps_total",
            &["operation=\"move\"", &group, "outcome=\"committed\""],
        )
        .expect("metrics")
        + daemon
            .metric(
                "citus_sync_steps_total",
                &["operation=\"move\"", &group, "outcome=\"forced\""],
            )
            .expect("metrics")
}
