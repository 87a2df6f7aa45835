//! One line of the log for each event that is worth one.

use std::time::Duration;

use citus_core::event::{Event, Whose};
use citus_core::plan::{Reason, Rule};
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

/// A line about one group; its first fields say which.
macro_rules! tell {
    ($level:ident, $whose:expr, $($rest:tt)+) => {
        $level!(
            formation = $whose.formation,
            group = $whose.group,
            scope = %$whose.scope,
            $($rest)+
        )
    };
}

pub(super) fn write(whose: &Whose, event: &Event) {
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
        Event::Violation { what } => tell!(
            error,
            whose,
            "a decision was stopped, nothing is changed; please report this as a bug: {what}"
        ),
        Event::HoldRequested { member, timeout } => tell!(
            info,
            whose,
            member = member.as_deref().unwrap_or("not told"),
            timeout_ms = timeout.as_millis(),
            "`citus-sync hold`: writes are to be held"
        ),
        Event::ReleaseRequested => tell!(info, whose, "`citus-sync release`: the hold is let go"),
        Event::CoordinatorNotAsked {
            address,
            failures,
            error,
        } => tell!(
            warn, whose, %address, failures,
            "the coordinator could not be asked whether it reaches a lost member, so reads stay where \
             they are; it is asked again: {error}"
        ),
        Event::ClonesRowMoved { .. } | Event::OutOfReach { .. } | Event::ReachedAgain { .. } => {
            addresses(whose, event);
        }
        Event::Recovered { .. } | Event::NotRecovered { .. } => recoveries(whose, event),
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
        Event::ReadsMoved { .. }
        | Event::RowChanged { .. }
        | Event::RowSuperseded { .. }
        | Event::Failed { .. } => rows(whose, event),
        Event::LeaderWritable { .. } | Event::SessionsTerminated { .. } | Event::Retried { .. } => {
        }
    }
}

/// What the coordinator reaches, and whose row had an address.
fn addresses(whose: &Whose, event: &Event) {
    match event {
        Event::OutOfReach {
            database,
            address,
            why,
            row: true,
            ..
        } => tell!(
            error, whose, database, %address,
            "the coordinator does not reach the address of this group's row, so its queries fail: \
             {why}; open the way from the coordinator to it, or map it under `addresses`"
        ),
        Event::OutOfReach {
            database,
            member,
            address,
            why,
            row: false,
        } => tell!(
            warn, whose, database, %address,
            member = member.as_deref().unwrap_or("none"),
            "the coordinator does not reach this address: a row that works is not moved there, nor \
             are reads of a hold: {why}"
        ),
        Event::ReachedAgain { database, address } => tell!(
            info, whose, database, %address, "the coordinator reaches this address again"
        ),
        Event::ClonesRowMoved {
            database,
            nodeid,
            from,
            to,
        } => tell!(
            warn,
            whose,
            database,
            "the row of clone node {nodeid} was at {from}, where the group's row points now: it is \
             at {to}, and the clone is to be registered anew before Citus promotes it \
             (citus_remove_clone_node, citus_add_clone_node)"
        ),
        _ => {}
    }
}

/// These have no line here: a move, whose end is an event; a stale view, which the watcher logs
/// once for all groups; an answer that is due any moment; and holds, which are events of their own.
fn decided(whose: &Whose, rule: Rule, leader: &str, has_address: bool, waits: &str) {
    match rule {
        Rule::InSync => tell!(info, whose, leader, "in sync"),
        Rule::Promoting | Rule::LeaderGone if !waits.is_empty() => {
            tell!(info, whose, leader, "waiting: {waits}");
        }
        Rule::Unreachable => tell!(warn, whose, leader, "waiting: {waits}"),
        Rule::Blocked | Rule::Foreign if !waits.is_empty() => {
            tell!(warn, whose, leader, "waiting: {waits}");
        }
        // Without an address no member can be asked: that lasts.
        Rule::Unproven if !has_address => tell!(warn, whose, leader, "waiting: {waits}"),
        _ => {}
    }
}

fn recoveries(whose: &Whose, event: &Event) {
    match event {
        Event::Recovered { database, count } => tell!(
            info,
            whose,
            database,
            count,
            "recovered prepared transactions that a lost session left"
        ),
        Event::NotRecovered { database, error } => tell!(
            debug,
            whose,
            database,
            "recover_prepared_transactions: {error}"
        ),
        _ => {}
    }
}

fn entry_nodes(whose: &Whose, event: &Event) {
    match event {
        Event::EntryNodeSkipped { database, skipped } => tell!(
            warn, whose, database, entry_node = %skipped.node,
            "skipped an entry node: its clients are not held, and go by its own metadata until Citus \
             has told it: {}", skipped.error
        ),
        Event::EntryNodesJoined {
            database,
            held,
            skipped,
            terminated,
        } => tell!(
            info,
            whose,
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
        } => tell!(
            info, whose, database, entry_node = %node,
            "an entry node has this group at {}: it missed a move, and gets the row by a resync",
            there.as_ref().map_or("no address".to_owned(), ToString::to_string)
        ),
        Event::EntryNodeNotAsked {
            database,
            node,
            error,
        } => tell!(
            debug, whose, database, entry_node = %node,
            "asked an entry node where it has this group: {error}"
        ),
        _ => {}
    }
}

fn holds(whose: &Whose, event: &Event) {
    match event {
        Event::Held {
            database,
            reason,
            after,
            entry_nodes,
            skipped,
            terminated,
            left,
        } => tell!(
            info,
            whose,
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
        } => tell!(
            warn,
            whose,
            database,
            failures,
            "could not hold writes, will try again while there is a reason: {error}"
        ),
        Event::HoldLost { database } => tell!(
            warn,
            whose,
            database,
            "lost a hold: the coordinator closed the session; its entry nodes stay held, and it is \
             taken again while there is a reason"
        ),
        Event::HoldExpired {
            reason,
            taken,
            after,
        } => hold_expired(whose, reason, *taken, *after),
        Event::WritesGoOn { leader, after, .. } => tell!(
            info,
            whose,
            leader = leader.as_deref().unwrap_or("none"),
            held_ms = millis(*after),
            "writes go on"
        ),
        _ => {}
    }
}

fn hold_expired(whose: &Whose, reason: &Reason, taken: bool, after: Duration) {
    let what = if taken {
        "the hold reached its deadline and is let go: writes go on, and fail where the leader takes \
         none"
    } else {
        "writes could not be held, and that is not tried any longer"
    };
    tell!(
        warn,
        whose,
        held_s = after.as_secs(),
        "{what}; it was for: {reason}. It is not held again for this; look at Patroni's log of {}",
        whose.scope
    );
}

fn rows(whose: &Whose, event: &Event) {
    match event {
        Event::ReadsMoved {
            database,
            from,
            to,
            after,
            took,
        } => tell!(
            info, whose, database, %from, %to,
            after_ms = after.map(millis),
            took_ms = millis(*took),
            "reads are moved"
        ),
        Event::RowChanged {
            database,
            step,
            times,
            phases,
        } => tell!(
            info,
            whose,
            database,
            writable_ms = millis(times.writable),
            locked_ms = millis(times.started + phases.locked),
            committed_ms = millis(times.started + phases.committed),
            forced = phases.forced,
            "done: {step}"
        ),
        Event::RowSuperseded { database, step } => tell!(
            info,
            whose,
            database,
            "skipped: superseded by newer state: {step}"
        ),
        Event::Failed {
            database,
            step,
            error,
            failures: Some(failures),
            ..
        } => tell!(
            warn,
            whose,
            database,
            failures,
            "failed, will be tried again: {step}: {error}"
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    /// What is logged, without the time.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(event: &Event) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let whose = Whose {
            formation: "cn".to_owned(),
            group: 1,
            scope: "wk1".to_owned(),
        };
        tracing::subscriber::with_default(subscriber, || write(&whose, event));
        let lines = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&lines).trim().to_owned()
    }

    #[test]
    fn a_line_says_what_happened_to_which_formation_group_scope_and_database() {
        let failed = Event::HoldFailed {
            database: "app".to_owned(),
            error: "no connection".to_owned(),
            failures: Some(1),
        };
        assert_eq!(
            logged(&failed),
            "WARN could not hold writes, will try again while there is a reason: no connection \
             formation=\"cn\" group=1 scope=wk1 database=\"app\" failures=1"
        );
    }

    #[test]
    fn a_failure_that_is_not_worth_a_line_has_none() {
        let failed = Event::HoldFailed {
            database: "app".to_owned(),
            error: "no connection".to_owned(),
            failures: None,
        };
        assert_eq!(logged(&failed), "");
    }
}
