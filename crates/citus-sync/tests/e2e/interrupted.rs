//! The daemon killed at each turn of a planned switchover, and started again.

use std::thread;
use std::time::Instant;

use lab::{Kind, Lab, wait_for};

use crate::clients::{clients, lost_nothing, none_failed};
use crate::daemon::{Daemon, SOON};
use crate::fixture::{in_sync, laboratory, make_whole, rows_are_leaders, scope, switch};

/// Where in a switchover the daemon is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    /// Writes wait in every database.
    Held,
    /// Reads were sent to the standby in every database.
    ReadsMoved,
    /// The leader key has changed hands; the new leader may be in recovery still.
    NewLeader,
}

impl Turn {
    /// Whether the switchover has come to it, or is past it.
    fn has_come(self, lab: &Lab, daemon: &Daemon, former: &str) -> anyhow::Result<bool> {
        let fan_out = |words: &str| {
            let log = daemon.log();
            let mut databases = lab.databases().iter();
            databases.all(|database| {
                let database = format!("database=\"{database}\"");
                let mut lines = log.lines();
                lines.any(|line| line.contains(words) && line.contains(&database))
            })
        };
        Ok(match self {
            Self::Held => fan_out("writes are held"),
            Self::ReadsMoved => fan_out("reads are moved"),
            Self::NewLeader => scope(lab, "wk1").leader()?.name() != former,
        })
    }
}

/// The holds of a daemon that is killed end at once: what its clients send then fails until the new
/// leader is there, or the next daemon. Nothing of what was acknowledged is lost, and no row stays
/// behind.
#[test]
fn a_daemon_killed_at_any_turn_of_a_switchover_leaves_no_trace() {
    let lab = laboratory();
    let mut daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let mut traffic = clients(&lab, &[1], Some("wk2"));
    for turn in [Turn::Held, Turn::ReadsMoved, Turn::NewLeader] {
        let former = scope(&lab, "wk1").leader().expect("a leader").name();
        let mut killed = Instant::now();
        thread::scope(|threads| {
            let lab = &*lab;
            let switching = threads.spawn(move || switch(lab, "wk1"));
            let came = wait_for(&format!("{turn:?}"), SOON, || {
                turn.has_come(lab, &daemon, former)
            });
            daemon.expect(came);
            daemon.kill();
            killed = Instant::now();
            switching.join().expect("a switchover");
        });
        // The standby that the reads were sent to is the leader now.
        if turn == Turn::ReadsMoved {
            for database in lab.databases() {
                rows_are_leaders(&lab, database).expect("reads were sent to the successor");
            }
        }
        daemon.start_again();
        daemon.wait_logged(&["in sync", "scope=wk1"]);
        let served = traffic.wait_flowing();
        daemon.expect(served);
        if turn == Turn::ReadsMoved {
            let report = traffic.report();
            none_failed(&report, &daemon, Kind::Read, |read| read.began > killed);
        }
        traffic.take_report();
        make_whole(&lab);
    }
    in_sync(&lab, &daemon);
    lost_nothing(traffic, &lab);
}
