//! What the metrics count of the events, and the gauges of what a group is like.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use citus_core::event::{self, Event, Whose};
use citus_core::plan::Step;
use citus_core::report::{GroupReport, ReachReport, Transition};

use crate::metrics::{
    DatabaseLabels, EntryNodeLabels, GroupLabels, HoldEnd, HoldLabels, Metrics, Operation,
    OperationLabels, Outcome, PhaseLabels, ReachLabels, RowLabels, StepLabels,
};

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
        Event::Held { .. }
        | Event::HoldFailed { .. }
        | Event::HoldLost { .. }
        | Event::HoldExpired { .. }
        | Event::WritesGoOn { .. } => holds(metrics, whose, event),
        Event::RowChanged { .. } | Event::RowSuperseded { .. } | Event::Failed { .. } => {
            steps(metrics, whose, event);
        }
        Event::EntryNodeSkipped { database, skipped } => {
            let labels = EntryNodeLabels::of(whose, database, &skipped.node);
            metrics.entry_nodes_skipped.get_or_create(&labels).inc();
        }
        Event::SessionsTerminated { database, count } => {
            let terminated = RowLabels::of(whose, database);
            let terminated = metrics.terminated.get_or_create(&terminated);
            terminated.inc_by(*count as u64);
        }
        Event::ReadsMoved { database, .. } => {
            let labels = RowLabels::of(whose, database);
            metrics.read_moves.get_or_create(&labels).inc();
        }
        Event::Retried { database } => {
            let labels = RowLabels::of(whose, database);
            metrics.retries.get_or_create(&labels).inc();
        }
        Event::Recovered { database, count } => {
            let labels = DatabaseLabels::of(whose, database);
            metrics.recovered.get_or_create(&labels).inc_by(*count);
        }
        Event::TransitionOver(transition) => phases(metrics, transition),
        Event::Decided { .. }
        | Event::HoldRequested { .. }
        | Event::ReleaseRequested
        | Event::EntryNodesJoined { .. }
        | Event::CoordinatorNotAsked { .. }
        | Event::ClonesRowMoved { .. }
        | Event::OutOfReach { .. }
        | Event::ReachedAgain { .. }
        | Event::NotRecovered { .. }
        | Event::EntryNodeBehind { .. }
        | Event::EntryNodeNotAsked { .. } => {}
    }
}

/// Whether writes are held, until when, and how each hold ended.
fn holds(metrics: &Metrics, whose: &Whose, event: &Event) {
    let end = match event {
        Event::Held { left, .. } => {
            holding(metrics, whose, 1, seconds_in(*left));
            return;
        }
        Event::HoldFailed { .. } => HoldEnd::Failed,
        Event::HoldLost { .. } => HoldEnd::Lost,
        Event::HoldExpired { .. } => HoldEnd::Expired,
        Event::WritesGoOn { after, end, .. } => {
            metrics.held.observe(after.as_secs_f64());
            holding(metrics, whose, 0, 0);
            match end {
                event::HoldEnd::Released => HoldEnd::Released,
                event::HoldEnd::Followed => HoldEnd::Followed,
                // Counted when the deadline passed.
                event::HoldEnd::Expired => return,
            }
        }
        _ => return,
    };
    let labels = HoldLabels::of(whose, end);
    metrics.holds.get_or_create(&labels).inc();
}

/// Sets whether the group is held, and the Unix time at which that ends by itself.
fn holding(metrics: &Metrics, whose: &Whose, held: i64, deadline: i64) {
    let labels = GroupLabels::of(whose);
    metrics.holding.get_or_create(&labels).set(held);
    metrics.hold_deadline.get_or_create(&labels).set(deadline);
}

/// What came of the steps that change a row, and how soon the row followed its leader.
fn steps(metrics: &Metrics, whose: &Whose, event: &Event) {
    let (database, step, outcome) = match event {
        Event::RowChanged {
            database,
            step,
            times,
            phases,
        } => {
            let follow = times.started.saturating_sub(times.writable) + phases.committed;
            let operation = Operation::of(step);
            let follows = metrics.follow.get_or_create(&OperationLabels { operation });
            follows.observe(follow.as_secs_f64());
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
            step: step @ (Step::Move(_) | Step::Exchange(_) | Step::Register(_) | Step::Repair(_)),
            ambiguous: true,
            ..
        } => (database, step, Outcome::Ambiguous),
        Event::Failed {
            database,
            step: step @ (Step::Move(_) | Step::Exchange(_) | Step::Register(_) | Step::Repair(_)),
            ambiguous: false,
            ..
        } => (database, step, Outcome::Failed),
        _ => return,
    };
    let labels = StepLabels::of(whose, database, Operation::of(step), outcome);
    metrics.steps.get_or_create(&labels).inc();
}

fn phases(metrics: &Metrics, transition: &Transition) {
    for (phase, time) in transition.phases.happened() {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one transition")]
        let seconds = time as f64 / 1e6;
        let labels = PhaseLabels::of(phase);
        metrics.phases.get_or_create(&labels).observe(seconds);
    }
}

/// What the coordinator reaches; an address that matters no more has no number any more.
pub(super) fn reach(metrics: &Metrics, whose: &Whose, before: &[ReachReport], now: &[ReachReport]) {
    let same = |one: &ReachReport, other: &ReachReport| {
        one.database == other.database
            && one.member == other.member
            && one.address.is_spelled(&other.address)
    };
    for gone in before {
        if !now.iter().any(|report| same(report, gone)) {
            metrics.reach.remove(&ReachLabels::of(whose, gone));
        }
    }
    for report in now {
        let reached = i64::from(report.why.is_none());
        let labels = ReachLabels::of(whose, report);
        metrics.reach.get_or_create(&labels).set(reached);
    }
}

pub(super) fn gauge(metrics: &Metrics, whose: &Whose, report: &GroupReport) {
    let labels = GroupLabels::of(whose);
    let writable = i64::from(report.writable);
    metrics.leader_writable.get_or_create(&labels).set(writable);
    let paused = i64::from(report.paused);
    metrics.paused.get_or_create(&labels).set(paused);
    // What did not happen yet is counted, too: an alert compares with 0, and not with nothing.
    drop(metrics.holding.get_or_create(&labels));
    drop(metrics.hold_deadline.get_or_create(&labels));
    for outcome in HoldEnd::ALL {
        let labels = HoldLabels::of(whose, outcome);
        drop(metrics.holds.get_or_create(&labels));
    }
    for (name, database) in &report.databases {
        let labels = RowLabels::of(whose, name);
        drop(metrics.retries.get_or_create(&labels));
        drop(metrics.read_moves.get_or_create(&labels));
        drop(metrics.terminated.get_or_create(&labels));
        let disagrees = match (&database.row, &report.address) {
            (Some(row), Some(leader)) => row != leader && !database.in_sync,
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
