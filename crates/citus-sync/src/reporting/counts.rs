//! What the metrics count of the events, and the gauges of what a group is like.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use citus_core::event::{self, Event, Whose};
use citus_core::plan::Step;
use citus_core::report::{GroupReport, Transition};

use crate::metrics::{
    DatabaseLabels, EntryNodeLabels, GroupLabels, HoldEnd, HoldLabels, Metrics, Operation,
    OperationLabels, Outcome, PhaseLabels, RowLabels, StepLabels,
};

fn group_labels(whose: &Whose) -> GroupLabels {
    GroupLabels {
        formation: whose.formation.clone(),
        group: whose.group,
        scope: whose.scope.clone(),
    }
}

fn row_labels(whose: &Whose, database: &str) -> RowLabels {
    RowLabels {
        formation: whose.formation.clone(),
        group: whose.group,
        database: database.to_owned(),
    }
}

fn database_labels(whose: &Whose, database: &str) -> DatabaseLabels {
    DatabaseLabels {
        formation: whose.formation.clone(),
        database: database.to_owned(),
    }
}

/// A moment ahead, in seconds since 1970.
fn seconds_in(ahead: Duration) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| {
        i64::try_from((now + ahead).as_secs()).unwrap_or(i64::MAX)
    })
}

pub(super) fn count(metrics: &Metrics, whose: &Whose, event: &Event) {
    match event {
        Event::Violation { .. } => {
            metrics.violations.inc();
        }
        Event::LeaderWritable { after } => metrics.promotion.observe(after.as_secs_f64()),
        Event::Held { left, .. } => {
            let labels = group_labels(whose);
            metrics.holding.get_or_create(&labels).set(1);
            let deadline = seconds_in(*left);
            metrics.hold_deadline.get_or_create(&labels).set(deadline);
        }
        Event::HoldFailed { .. } => hold_ended(metrics, whose, HoldEnd::Failed),
        Event::HoldLost { .. } => hold_ended(metrics, whose, HoldEnd::Lost),
        Event::HoldExpired { .. } => hold_ended(metrics, whose, HoldEnd::Expired),
        Event::WritesGoOn { after, end, .. } => {
            metrics.held.observe(after.as_secs_f64());
            let labels = group_labels(whose);
            metrics.holding.get_or_create(&labels).set(0);
            metrics.hold_deadline.get_or_create(&labels).set(0);
            match end {
                event::HoldEnd::Released => hold_ended(metrics, whose, HoldEnd::Released),
                event::HoldEnd::Followed => hold_ended(metrics, whose, HoldEnd::Followed),
                // Counted when it did.
                event::HoldEnd::Expired => {}
            }
        }
        Event::EntryNodeSkipped { database, skipped } => {
            let labels = EntryNodeLabels {
                formation: whose.formation.clone(),
                database: database.clone(),
                entry_node: skipped.node.to_string(),
            };
            metrics.entry_nodes_skipped.get_or_create(&labels).inc();
        }
        Event::SessionsTerminated { database, count } => {
            let labels = row_labels(whose, database);
            metrics
                .terminated
                .get_or_create(&labels)
                .inc_by(*count as u64);
        }
        Event::ReadsMoved { database, .. } => {
            let labels = row_labels(whose, database);
            metrics.read_moves.get_or_create(&labels).inc();
        }
        Event::RowChanged { .. } | Event::RowSuperseded { .. } | Event::Failed { .. } => {
            steps(metrics, whose, event);
        }
        Event::Retried { database } => {
            let labels = row_labels(whose, database);
            metrics.retries.get_or_create(&labels).inc();
        }
        Event::Recovered { database, count } => {
            let labels = database_labels(whose, database);
            metrics.recovered.get_or_create(&labels).inc_by(*count);
        }
        Event::TransitionOver(transition) => phases(metrics, transition),
        Event::Decided { .. }
        | Event::HoldRequested { .. }
        | Event::ReleaseRequested
        | Event::EntryNodesJoined { .. }
        | Event::CoordinatorNotAsked { .. }
        | Event::NotRecovered { .. }
        | Event::EntryNodeBehind { .. }
        | Event::EntryNodeNotAsked { .. } => {}
    }
}

fn hold_ended(metrics: &Metrics, whose: &Whose, outcome: HoldEnd) {
    let labels = HoldLabels {
        formation: whose.formation.clone(),
        group: whose.group,
        outcome,
    };
    metrics.holds.get_or_create(&labels).inc();
}

/// Steps that change a row are counted by what came of them, and how soon the leader was followed.
fn steps(metrics: &Metrics, whose: &Whose, event: &Event) {
    let (database, step, outcome) = match event {
        Event::RowChanged {
            database,
            step,
            times,
            phases,
        } => {
            let operation = operation_of(step);
            let follow = times.started.saturating_sub(times.writable) + phases.committed;
            let labels = OperationLabels { operation };
            metrics
                .follow
                .get_or_create(&labels)
                .observe(follow.as_secs_f64());
            let outcome = if phases.forced {
                Outcome::Forced
            } else {
                Outcome::Committed
            };
            (database, step, outcome)
        }
        Event::RowSuperseded { database, step } => (database, step, Outcome::Superseded),
        Event::Failed {
            database,
            step: step @ (Step::Move(_) | Step::Register(_) | Step::Repair(_)),
            ambiguous,
            ..
        } => {
            let outcome = if *ambiguous {
                Outcome::Ambiguous
            } else {
                Outcome::Failed
            };
            (database, step, outcome)
        }
        _ => return,
    };
    let labels = StepLabels {
        formation: whose.formation.clone(),
        group: whose.group,
        database: database.clone(),
        operation: operation_of(step),
        outcome,
    };
    metrics.steps.get_or_create(&labels).inc();
}

fn operation_of(step: &Step) -> Operation {
    match step {
        Step::Register(_) => Operation::Register,
        Step::Repair(_) => Operation::Repair,
        _ => Operation::Move,
    }
}

fn phases(metrics: &Metrics, transition: &Transition) {
    for (phase, time) in transition.phases.happened() {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one transition")]
        let seconds = time as f64 / 1e6;
        let labels = PhaseLabels {
            phase: phase.name(),
        };
        metrics.phases.get_or_create(&labels).observe(seconds);
    }
}

pub(super) fn gauge(metrics: &Metrics, whose: &Whose, report: &GroupReport) {
    let labels = group_labels(whose);
    let writable = i64::from(report.writable);
    metrics.leader_writable.get_or_create(&labels).set(writable);
    let paused = i64::from(report.paused);
    metrics.paused.get_or_create(&labels).set(paused);
    // What did not happen yet is counted, too: an alert compares with 0, and not with nothing.
    drop(metrics.holding.get_or_create(&labels));
    drop(metrics.hold_deadline.get_or_create(&labels));
    for outcome in HoldEnd::ALL {
        let labels = HoldLabels {
            formation: whose.formation.clone(),
            group: whose.group,
            outcome,
        };
        drop(metrics.holds.get_or_create(&labels));
    }
    for (name, database) in &report.databases {
        let labels = row_labels(whose, name);
        drop(metrics.retries.get_or_create(&labels));
        drop(metrics.read_moves.get_or_create(&labels));
        drop(metrics.terminated.get_or_create(&labels));
        let disagrees = match (&database.row, &report.address) {
            (Some(row), Some(leader)) => row != leader,
            _ => false,
        };
        let disagrees = i64::from(disagrees);
        metrics.disagree.get_or_create(&labels).set(disagrees);
        if database.in_sync {
            metrics
                .in_sync_at
                .get_or_create(&labels)
                .set(seconds_in(Duration::ZERO));
        }
    }
}
