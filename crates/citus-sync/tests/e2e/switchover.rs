//! Planned switchovers, as the clients see them: writes wait, reads go on, nothing fails.
//!
//! With a Patroni that has `before_stop` the hook makes sure of that. With an older one reads are
//! sent to the standby in the time that Patroni takes to stop the leader, which is a race.

use std::thread;

use citus_core::report::{Transition, TransitionKind, TransitionOutcome};
use lab::Lab;

use crate::clients::{
    ALL_PHASES, clients, lost_nothing, nothing_failed, nothing_failed_but_in_a_lost_race, was,
};
use crate::daemon::Daemon;
use crate::fixture::{DATABASES, HookOn, in_sync, laboratory, moves, switch};

/// The only transition of the group: a switchover in which writes were held and reads moved, in
/// every database and at every entry node. The row needed no move of its own, because reads were
/// sent to the very member that leads now.
fn held_and_followed(lab: &Lab, daemon: &Daemon, group: u32) -> Transition {
    let transition = daemon.transition(i32::try_from(group).expect("small"));
    assert_eq!(
        (transition.kind, transition.outcome),
        (TransitionKind::Switchover, TransitionOutcome::Followed),
        "{transition:#?}"
    );
    let leader = lab.leaders().expect("leaders")[group as usize].1.clone();
    assert_eq!(
        transition.to.as_ref().map(ToString::to_string),
        Some(leader)
    );
    assert_ne!(transition.from, transition.to);
    for database in DATABASES {
        let there = &transition.databases[database];
        assert!(
            there.held_us < there.reads_moved_us && there.reads_moved_us < there.released_us,
            "{transition:#?}"
        );
        let entry_nodes = lab.with_metadata(database).expect("entry nodes");
        let others = entry_nodes
            .iter()
            .filter(|entry_node| **entry_node != group)
            .count();
        assert_eq!(there.entry_nodes, others, "{transition:#?}");
        assert!(there.terminated.is_empty(), "{transition:#?}");
    }
    assert_eq!(moves(daemon, group), 0, "{}", daemon.log());
    transition
}

#[test]
fn clients_do_not_notice_a_planned_switchover() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let _hook = HookOn::where_there_is_one(&lab);
    let traffic = clients(&lab, &[1], Some("wk2"));
    let before = lab.rows("postgres").expect("rows");
    switch(&lab, "wk1");
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);

    assert_ne!(lab.rows("postgres").expect("rows"), before);
    let transition = held_and_followed(&lab, &daemon, 1);
    let (kind, outcome) = (TransitionKind::Switchover, TransitionOutcome::Followed);
    was(&transition, kind, outcome, &ALL_PHASES);
    assert_eq!(transition.reason, "a switchover was asked for");
    for database in DATABASES {
        assert!(
            transition.databases[database].skipped.is_empty(),
            "{transition:#?}"
        );
        let database = format!("database=\"{database}\"");
        daemon.wait_logged(&["writes are held", "scope=wk1", &database]);
        daemon.wait_logged(&["reads are moved", "scope=wk1", &database]);
    }
    daemon.wait_logged(&["writes go on", "scope=wk1"]);
    daemon.wait_logged(&["switchover over, followed", "scope=wk1"]);
    let labels = ["group=\"1\"", "outcome=\"followed\""];
    let followed = daemon.metric("citus_sync_holds_total", &labels);
    assert_eq!(followed.expect("metrics"), 1, "{}", daemon.log());
    for database in DATABASES {
        let label = format!("database=\"{database}\"");
        let up = daemon.metric("citus_sync_database_up", &[&label]);
        assert_eq!(up.expect("metrics"), 1, "{database}");
    }
    for other in [0, 2, 3] {
        assert!(
            daemon.transitions(other).is_empty(),
            "group {other} is left alone"
        );
        assert_eq!(moves(&daemon, other.unsigned_abs()), 0);
    }
}

#[test]
fn three_groups_at_once_are_held_side_by_side() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let hook = HookOn::where_there_is_one(&lab);
    // Through the coordinator only: every other entry node is switched over itself.
    let traffic = clients(&lab, &[1, 2, 3], None);
    thread::scope(|threads| {
        for name in ["wk1", "wk2", "wk3"] {
            let lab = &*lab;
            threads.spawn(move || switch(lab, name));
        }
    });
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    for group in [1, 2, 3] {
        let transition = held_and_followed(&lab, &daemon, group);
        let report = traffic.report().of_group(group);
        nothing_failed_but_in_a_lost_race(&report, &daemon, &transition, hook.is_some());
    }
    lost_nothing(traffic, &lab);
}
