//! Planned work that does not go as planned: candidates that are refused or die, two requests in a
//! row, and the coordinator, or the held group itself, lost in the middle.

use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use citus_core::report::{TransitionKind, TransitionOutcome};
use lab::{Kind, Lab, Member, Traffic, wait_for, wait_until};
use serde_json::json;

use crate::clients::{
    ALL_PHASES, clients, lost_nothing, moment, none_failed, nothing_failed,
    nothing_failed_but_in_a_lost_race, was,
};
use crate::daemon::{Daemon, SOON};
use crate::fixture::{
    HookOn, crash, holders, in_sync, laboratory, make_whole, rows_at, scope, switch,
};

/// Waits until group 1 is held on the coordinator and on every entry node, which may come later,
/// and the entry nodes have it where the coordinator has it.
fn wait_held_fan_out(lab: &Lab, daemon: &Daemon) {
    let held = wait_for("group 1 to be held everywhere", SOON, || {
        let holders = holders(lab)?;
        for database in lab.databases() {
            let reads_at = &lab.rows(database)?[1];
            for entry_node in lab.entry_nodes(database)? {
                let entry_node = lab
                    .workers()
                    .iter()
                    .find(|scope| scope.group() == entry_node);
                let entry_node = entry_node.context("an entry node that is no worker")?;
                if entry_node.group() != 1 && rows_at(entry_node, database)?[1] != *reads_at {
                    return Ok(false);
                }
            }
        }
        let mut entry_nodes = lab.entry_nodes("postgres")?;
        entry_nodes.retain(|group| *group != 1);
        let mut nodes = lab
            .scopes()
            .iter()
            .filter(|scope| scope.group() == 0 || entry_nodes.contains(&scope.group()));
        Ok(nodes.all(|node| {
            let here = format!("citus-sync: hold group 1 at {}", node.name());
            let here = holders.iter().filter(|holder| **holder == here);
            here.count() == lab.databases().len()
        }))
    });
    daemon.expect(held);
    daemon.wait_held(1);
}

/// Has the coordinator fail over while group 1 is held, until it is held again on the new one.
fn taken_again(lab: &Lab, daemon: &Daemon, fail_over: impl FnOnce()) {
    let before = lab.coordinator().leader().expect("a coordinator").name();
    fail_over();
    wait_held_fan_out(lab, daemon);
    daemon.wait_logged(&["WARN", "lost a hold", "scope=wk1"]);
    assert_ne!(
        lab.coordinator().leader().expect("a coordinator").name(),
        before
    );
}

/// Has Patroni asked for a switchover of `wk1` to a member that it cannot use. It looks at that in
/// its next round, and clears the request away; its own interface would not even have taken it.
fn ask_in_vain(lab: &Lab, daemon: &Daemon, candidate: &str) {
    let wk1 = scope(lab, "wk1");
    let leader = wk1.leader().expect("a leader");
    let before = daemon.transitions(1).len();
    let request = json!({"leader": leader.name(), "member": candidate});
    let kv = lab.etcd().kv();
    kv.put(&wk1.path("failover"), &request.to_string())
        .expect("a request");
    let over = wait_until("the end of the request", SOON, || {
        Ok(daemon.transitions(1).get(before).cloned())
    });
    let transition = daemon.expect(over);
    assert_eq!(
        (transition.kind, transition.outcome),
        (TransitionKind::Hold, TransitionOutcome::Kept),
        "{transition:#?}"
    );
    assert_eq!(transition.reason, "a switchover was asked for");
    assert_eq!(wk1.leader().expect("a leader").name(), leader.name());
}

#[test]
fn a_candidate_that_patroni_refuses_leaves_everything_as_it_was() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let traffic = clients(&lab, &[1], Some("wk2"));
    ask_in_vain(&lab, &daemon, "ghost");
    daemon.wait_logged(&["hold over, kept", "scope=wk1"]);
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
}

/// Whether the row of `wk1` points at `member`, in every database.
fn reads_are_at(lab: &Lab, member: &Member) -> anyhow::Result<bool> {
    for database in lab.databases() {
        if lab.rows(database)?[1].1 != member.address() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Asks for a switchover, and crashes the candidate as soon as reads have moved to it.
fn switch_to_a_candidate_that_dies(lab: &Lab, daemon: &Daemon, candidate: &Member) {
    thread::scope(|threads| {
        // Patroni says that it failed, or nothing in time: that is what this scenario is about.
        let asking = threads.spawn(|| scope(lab, "wk1").switchover(Some(candidate.name())));
        let moved = wait_for("reads to be at the candidate", SOON, || {
            reads_are_at(lab, candidate)
        });
        daemon.expect(moved);
        candidate.crash().expect("a crash");
        let said = asking.join().expect("the thread");
        eprintln!(
            "Patroni: {:#}",
            said.map_or_else(|error| error, anyhow::Error::msg)
        );
    });
}

/// The only transition of group 1 says that the old leader stayed, and from the hold on no write
/// through the coordinator failed. Where the candidate was promoted before it died there are two
/// transitions, which say nothing about this.
fn assert_kept(daemon: &Daemon, traffic: &Traffic) {
    let transitions = daemon.transitions(1);
    let [only] = &transitions[..] else {
        eprintln!("the candidate was promoted before it died: {transitions:#?}");
        return;
    };
    // Patroni may have seen the candidate's end before it stopped the leader.
    let kind = match only.phases.leader_gone_us {
        Some(_) => TransitionKind::Switchover,
        None => TransitionKind::Hold,
    };
    assert_eq!(
        (only.kind, only.outcome, &only.from),
        (kind, TransitionOutcome::Kept, &only.to),
        "{only:#?}"
    );
    // No member could be read from while both were down. Writes waited all the time, but for those
    // through an entry node that may have been held too late.
    let held = moment(only, only.phases.held_us.expect("held"));
    let report = traffic.report().only(|stream| &*stream.entry_node == "cn");
    none_failed(&report, daemon, Kind::Write, |write| write.began > held);
}

#[test]
fn a_switchover_whose_candidate_dies_leaves_the_row_at_the_old_leader() {
    let lab = laboratory();
    // Longer than anything here is waited for.
    let daemon = Daemon::start_by(&lab, &json!({"hold_timeout": "300s"}));
    in_sync(&lab, &daemon);
    let traffic = clients(&lab, &[1], Some("wk2"));
    let wk1 = scope(&lab, "wk1");
    let (leader, candidate) = (
        wk1.leader().expect("a leader"),
        wk1.replicas().expect("replicas")[0],
    );
    switch_to_a_candidate_that_dies(&lab, &daemon, candidate);
    let back = wk1.wait_new_leader(candidate.name(), SOON);
    assert_eq!(daemon.expect(back).name(), leader.name());
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    assert_kept(&daemon, &traffic);
    let away = format!("to={}", candidate.address());
    daemon.wait_logged(&["reads are moved", "scope=wk1", &away]);
    let home = format!("to=\"{}\"", leader.address());
    daemon.wait_logged(&["over, ", "scope=wk1", &home]);

    // The candidate is still down, and is asked for again.
    let asked = Instant::now();
    ask_in_vain(&lab, &daemon, candidate.name());
    traffic.wait_flowing().expect("every client is served");
    nothing_failed(&traffic.report().between(asked, Instant::now()), &daemon);
    make_whole(&lab);
    in_sync(&lab, &daemon);
    lost_nothing(traffic, &lab);
}

#[test]
fn a_switchover_and_one_straight_back_are_two_transitions() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let hook = HookOn::where_there_is_one(&lab);
    let began = Instant::now();
    let traffic = clients(&lab, &[1], Some("wk2"));
    let wk1 = scope(&lab, "wk1");
    let before = wk1.leader().expect("a leader").name();
    switch(&lab, "wk1");
    // As soon as Patroni takes it.
    let back = wait_until("a switchover back", SOON, || {
        wk1.switchover(Some(before)).map(Some)
    });
    daemon.expect(back);
    in_sync(&lab, &daemon);
    traffic.wait_flowing().expect("every client is served");
    assert_eq!(wk1.leader().expect("a leader").name(), before);
    let log = daemon.log();
    let told = log
        .lines()
        .filter(|line| line.contains("switchover over, followed") && line.contains("scope=wk1"));
    assert_eq!(told.count(), 2, "{log}");
    let transitions = daemon.transitions(1);
    assert_eq!(transitions.len(), 2, "{transitions:#?}");
    let report = traffic.report();
    for transition in &transitions {
        assert_eq!(
            (transition.kind, transition.outcome),
            (TransitionKind::Switchover, TransitionOutcome::Followed),
            "{transition:#?}"
        );
    }
    assert_eq!(transitions[0].to, transitions[1].from);
    let half = moment(&transitions[1], 0);
    let halves = [
        report.between(began, half),
        report.between(half, Instant::now()),
    ];
    for (report, transition) in halves.iter().zip(&transitions) {
        nothing_failed_but_in_a_lost_race(report, &daemon, transition, hook.is_some());
    }
    lost_nothing(traffic, &lab);
}

#[test]
fn a_hold_outlives_the_coordinator_that_it_was_taken_on() {
    let lab = laboratory();
    // Longer than anything here is waited for.
    let daemon = Daemon::start_by(&lab, &json!({"hold_timeout": "300s"}));
    in_sync(&lab, &daemon);
    let traffic = clients(&lab, &[1], Some("wk2"));
    daemon.hold(1);
    wait_held_fan_out(&lab, &daemon);
    // In an orderly way, and without notice.
    taken_again(&lab, &daemon, || switch(&lab, "cn"));
    lab.coordinator()
        .wait_healthy(SOON)
        .expect("a standby for it");
    taken_again(&lab, &daemon, || drop(crash(&lab, "cn")));
    // The same hold all the time, with the deadline that it had from the beginning.
    assert!(daemon.transitions(1).is_empty(), "{}", daemon.log());
    daemon.release(1);
    traffic.wait_flowing().expect("every client is served");
    make_whole(&lab);
    in_sync(&lab, &daemon);
    let transition = daemon.transition(1);
    assert_eq!(
        (transition.kind, transition.outcome),
        (TransitionKind::Hold, TransitionOutcome::Kept),
        "{transition:#?}"
    );
    daemon.wait_logged(&["hold over, kept", "scope=wk1"]);
    // The clients of the coordinator were cut off with it. Those of another entry node were not,
    // and are held there all the time.
    if lab
        .entry_nodes("postgres")
        .expect("entry nodes")
        .contains(&2)
    {
        let report = traffic.report().only(|stream| &*stream.entry_node == "wk2");
        nothing_failed(&report, &daemon);
    }
    lost_nothing(traffic, &lab);
}

#[test]
fn a_group_that_crashes_while_it_is_held_costs_its_clients_nothing() {
    let lab = laboratory();
    let daemon = Daemon::start(&lab);
    in_sync(&lab, &daemon);
    let traffic = clients(&lab, &[1], Some("wk2"));
    let answer = daemon.hold(1);
    assert!(answer.reads_moved_to.is_some(), "{answer:?}");
    wait_held_fan_out(&lab, &daemon);
    crash(&lab, "wk1");
    traffic.wait_flowing().expect("every client is served");
    make_whole(&lab);
    in_sync(&lab, &daemon);
    nothing_failed(&traffic.report(), &daemon);
    lost_nothing(traffic, &lab);
    let transition = daemon.transition(1);
    let (kind, outcome) = (TransitionKind::Switchover, TransitionOutcome::Followed);
    was(&transition, kind, outcome, &ALL_PHASES);
    daemon.wait_logged(&["switchover over, followed", "scope=wk1"]);
}
