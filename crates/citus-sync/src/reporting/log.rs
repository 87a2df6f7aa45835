//! One line of the log for each event that is worth one.

use std::time::Duration;

use citus_core::event::{Event, Whose};
use citus_core::plan::Rule;
use citus_core::report::{Phase, Transition, TransitionOutcome};
use dcs_watch::HostPort;
use tracing::{debug, error, info, warn};

/// Milliseconds, to the hundredth.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 1e2
}

fn address(address: Option<&HostPort>) -> String {
    address.map_or("none".to_owned(), ToString::to_string)
}

pub(super) fn write(whose: &Whose, event: &Event) {
    let (formation, group, scope) = (&whose.formation, whose.group, whose.scope.as_str());
    match event {
        Event::Decided {
            rule,
            leader,
            has_address,
            waits,
        } => {
            let leader = leader.as_deref().unwrap_or("none");
            decided(whose, *rule, leader, *has_address, waits);
        }
        Event::Violation { what } => error!(
            formation,
            group,
            %scope,
            "a decision was stopped, nothing is changed; please report this as a bug: {what}"
        ),
        Event::HoldRequested { member, timeout } => info!(
            formation,
            group,
            %scope,
            member = member.as_deref().unwrap_or("not told"),
            timeout_ms = timeout.as_millis(),
            "`citus-sync hold`: writes are to be held"
        ),
        Event::ReleaseRequested => info!(
            formation,
            group, %scope, "`citus-sync release`: the hold is let go"
        ),
        Event::RowSuperseded { database, step } => info!(
            formation,
            group, %scope, database, "skipped: superseded by newer state: {step}"
        ),
        Event::Failed {
            database,
            step,
            error,
            failures: Some(failures),
            ..
        } => warn!(
            formation,
            group, %scope, database, failures, "failed, will be tried again: {step}: {error}"
        ),
        Event::Recovered { database, count } => info!(
            formation,
            group,
            %scope,
            database,
            count,
            "recovered prepared transactions that a lost session left"
        ),
        Event::NotRecovered { database, error } => debug!(
            formation,
            group, %scope, database, "recover_prepared_transactions: {error}"
        ),
        Event::CoordinatorNotAsked {
            address,
            failures,
            error,
        } => warn!(
            formation, group, %scope, %address, failures,
            "the coordinator could not be asked whether it reaches a lost member, so reads stay where \
             they are; it is asked again: {error}"
        ),
        Event::TransitionOver(transition) => transition_over(transition),
        Event::EntryNodeSkipped { .. }
        | Event::EntryNodesJoined { .. }
        | Event::EntryNodeBehind { .. }
        | Event::EntryNodeNotAsked { .. } => entry_nodes(whose, event),
        Event::Held { .. }
        | Event::HoldFailed { .. }
        | Event::HoldLost { .. }
        | Event::HoldExpired { .. }
        | Event::WritesGoOn { .. } => holds(whose, event),
        Event::ReadsMoved { .. } | Event::RowChanged { .. } => moves(whose, event),
        Event::Failed { failures: None, .. }
        | Event::LeaderWritable { .. }
        | Event::SessionsTerminated { .. }
        | Event::Retried { .. } => {}
    }
}

/// Not told here: a move, whose end is the event; a stale view, which the watcher tells of once for all
/// groups; an answer that is being waited for this very moment; and holds, which tell of themselves.
fn decided(whose: &Whose, rule: Rule, leader: &str, has_address: bool, waits: &str) {
    let (formation, group, scope) = (&whose.formation, whose.group, whose.scope.as_str());
    match rule {
        Rule::InSync => info!(formation, group, %scope, leader, "in sync"),
        Rule::Promoting | Rule::LeaderGone if !waits.is_empty() => {
            info!(formation, group, %scope, leader, "waiting: {waits}");
        }
        Rule::Unreachable => {
            warn!(formation, group, %scope, leader, "waiting: {waits}");
        }
        Rule::Blocked | Rule::Foreign if !waits.is_empty() => {
            warn!(formation, group, %scope, leader, "waiting: {waits}");
        }
        // Without an address no member can be asked: that lasts.
        Rule::Unproven if !has_address => {
            warn!(formation, group, %scope, leader, "waiting: {waits}");
        }
        _ => {}
    }
}

fn entry_nodes(whose: &Whose, event: &Event) {
    let (formation, group, scope) = (&whose.formation, whose.group, whose.scope.as_str());
    match event {
        Event::EntryNodeSkipped { database, skipped } => warn!(
            formation, group, %scope, database, entry_node = %skipped.node,
            "skipped an entry node: its clients are not held, and go by its own metadata until Citus \
             has told it: {}", skipped.error
        ),
        Event::EntryNodesJoined {
            database,
            held,
            skipped,
            terminated,
        } => info!(
            formation,
            group,
            %scope,
            database,
            entry_nodes = held,
            skipped,
            terminated,
            "writes are held at the entry nodes, too"
        ),
        Event::EntryNodeBehind {
            database,
            node,
            there,
        } => info!(
            formation, group, %scope, database, entry_node = %node,
            "an entry node was not told of a move: it has this group at {}; Citus is made to tell it",
            there.as_ref().map_or("no address".to_owned(), ToString::to_string)
        ),
        Event::EntryNodeNotAsked {
            database,
            node,
            error,
        } => debug!(
            formation, group, %scope, database, entry_node = %node,
            "asked an entry node where it has this group: {error}"
        ),
        _ => {}
    }
}

fn holds(whose: &Whose, event: &Event) {
    let (formation, group, scope) = (&whose.formation, whose.group, whose.scope.as_str());
    match event {
        Event::Held {
            database,
            reason,
            after,
            entry_nodes,
            skipped,
            terminated,
            left,
        } => info!(
            formation,
            group,
            %scope,
            database,
            held_ms = millis(*after),
            entry_nodes,
            skipped,
            terminated,
            ends_in_ms = left.as_millis(),
            "writes are held: {reason}"
        ),
        Event::HoldFailed {
            database,
            error,
            failures: Some(failures),
        } => warn!(
            formation,
            group,
            %scope,
            database,
            failures,
            "could not hold writes, will try again while there is a reason: {error}"
        ),
        Event::HoldLost { database } => warn!(
            formation,
            group,
            %scope,
            database,
            "lost a hold: the coordinator closed the session; its entry nodes stay held, and it is \
             taken again while there is a reason"
        ),
        Event::HoldExpired {
            reason,
            taken,
            after,
        } => {
            let what = if *taken {
                "the hold reached its deadline and is let go: writes go on, and fail where the \
                 leader takes none"
            } else {
                "writes could not be held, and that is not tried any longer"
            };
            warn!(
                formation,
                group,
                %scope,
                held_s = after.as_secs(),
                "{what}; it was for: {reason}. It is not held again for this; look at Patroni's log \
                 of {scope}"
            );
        }
        Event::WritesGoOn { leader, after, .. } => info!(
            formation,
            group,
            %scope,
            leader = leader.as_deref().unwrap_or("none"),
            held_ms = millis(*after),
            "writes go on"
        ),
        _ => {}
    }
}

fn moves(whose: &Whose, event: &Event) {
    let (formation, group, scope) = (&whose.formation, whose.group, whose.scope.as_str());
    match event {
        Event::ReadsMoved {
            database,
            from,
            to,
            after,
            took,
        } => info!(
            formation, group, %scope, database, %from, %to,
            after_ms = after.map(millis),
            took_ms = millis(*took),
            "reads are moved"
        ),
        Event::RowChanged {
            database,
            step,
            times,
            phases,
        } => info!(
            formation,
            group,
            %scope,
            database,
            writable_ms = millis(times.writable),
            locked_ms = millis(times.started + phases.locked),
            committed_ms = millis(times.started + phases.committed),
            forced = phases.forced,
            "done: {step}"
        ),
        _ => {}
    }
}

fn transition_over(transition: &Transition) {
    let phases: Vec<String> = transition
        .phases
        .happened()
        .filter(|(phase, _)| *phase != Phase::Requested)
        .map(|(phase, time)| format!("{} {}.{} ms", phase.name(), time / 1000, time % 1000 / 100))
        .collect();
    let (from, to) = (
        address(transition.from.as_ref()),
        address(transition.to.as_ref()),
    );
    let (kind, outcome) = (transition.kind.name(), transition.outcome.name());
    let (formation, group) = (&transition.formation, transition.group);
    let (scope, phases) = (transition.scope.as_str(), phases.join(", "));
    if transition.outcome == TransitionOutcome::Expired {
        warn!(
            formation,
            group, %scope, from, to, "{kind} over, {outcome}: {phases}"
        );
    } else {
        info!(
            formation,
            group, %scope, from, to, "{kind} over, {outcome}: {phases}"
        );
    }
}
