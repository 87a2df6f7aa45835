//! Clients of the formation, what they must not notice, and what a transition must say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use citus_core::report::{Phase, Transition, TransitionKind, TransitionOutcome};
use lab::report::Outcome;
use lab::{Kind, Lab, Load, Protocol, Report, Traffic, wait_for};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::daemon::{Daemon, SOON};

/// Few enough to leave two cores to Patroni and PostgreSQL, and patient: a write that waits in a hold
/// has not failed.
const LOAD: Load = Load {
    writers: 1,
    readers: 1,
    pause: Duration::from_millis(50),
    patience: Duration::from_secs(120),
};

/// Clients of these groups: simple statements in one database and prepared ones in the other
/// through the coordinator, and the other way round through the leader of `entry_node` where that
/// has the metadata.
pub(crate) fn clients(lab: &Lab, groups: &[u32], entry_node: Option<&str>) -> Traffic {
    let mut builder = Traffic::builder(lab)
        .load(LOAD)
        .protocols([Protocol::Simple, Protocol::Prepared])
        .in_turn()
        .groups(groups.iter().copied());
    match entry_node.map(|name| (name, lab.scope(name).expect("the entry node").group())) {
        Some((name, group))
            if lab
                .entry_nodes("postgres")
                .expect("entry nodes")
                .contains(&group) =>
        {
            builder = builder.also_through(name).expect("an entry node");
        }
        Some((name, _)) => {
            eprintln!(
                "skipped: clients through {name}, which is no entry node with {}",
                lab.flavour()
            );
        }
        None => {}
    }
    builder.start().expect("clients")
}

/// No statement that concerns a single group has failed.
pub(crate) fn nothing_failed(report: &Report, daemon: &Daemon) {
    none_failed(report, daemon, Kind::Write, |_| true);
    none_failed(report, daemon, Kind::Read, |_| true);
}

/// No statement of this kind has failed, of those that count.
pub(crate) fn none_failed(
    report: &Report,
    daemon: &Daemon,
    kind: Kind,
    counts: impl Fn(&Outcome) -> bool,
) {
    let failures = report.failures(kind).into_iter();
    let failures: Vec<&Outcome> = failures.filter(|outcome| counts(outcome)).collect();
    let words = failures.iter().take(20).map(|outcome| {
        let error = outcome.error.as_deref().unwrap_or_default();
        format!("{}: {error}", outcome.stream)
    });
    assert!(
        failures.is_empty(),
        "{} of {} {kind}s failed:\n{}\n--- the daemon's log:\n{}",
        failures.len(),
        failures.len() + report.succeeded(kind),
        words.collect::<Vec<_>>().join("\n"),
        daemon.log()
    );
    assert!(report.succeeded(kind) > 0, "no {kind} was tried");
}

/// Nothing has failed where reads were moved before the leader stopped, which is `certain` where
/// Patroni waits for the hook. A race that was lost costs what was sent before writes were held, and
/// reads that were sent before they were moved; nothing that came after.
pub(crate) fn nothing_failed_but_in_a_lost_race(
    report: &Report,
    daemon: &Daemon,
    transition: &Transition,
    certain: bool,
) {
    let phases = &transition.phases;
    let (held, moved) = (phases.held_us, phases.reads_moved_us);
    let won = held <= phases.leader_gone_us && moved <= phases.leader_gone_us;
    if certain || won {
        nothing_failed(report, daemon);
        return;
    }
    eprintln!(
        "group {}: the leader stopped before writes were held and reads moved",
        transition.group
    );
    let held = moment(transition, held.expect("held"));
    let moved = moment(transition, moved.expect("moved"));
    none_failed(report, daemon, Kind::Write, |write| write.began > held);
    none_failed(report, daemon, Kind::Read, |read| read.began > moved);
}

/// Waits until every reading client is served, by a read that was sent after `since`.
pub(crate) fn wait_reads_flow(traffic: &Traffic, daemon: &Daemon, since: Instant) {
    let flow = wait_for("reads of every client", SOON, || {
        let report = traffic.report();
        let mut latest = BTreeMap::new();
        for outcome in report.outcomes() {
            if outcome.stream.kind == Kind::Read {
                latest.insert(outcome.stream.clone(), outcome);
            }
        }
        let waits = latest
            .values()
            .find(|last| last.error.is_some() || last.began < since);
        match waits {
            Some(last) => bail!("{}: {:?}", last.stream, last.error),
            None => Ok(!latest.is_empty()),
        }
    });
    daemon.expect(flow);
}

/// When something happened in a transition, by our clock.
pub(crate) fn moment(transition: &Transition, microseconds: u64) -> Instant {
    let began = OffsetDateTime::parse(&transition.at, &Rfc3339).expect("RFC 3339");
    let then = began + Duration::from_micros(microseconds);
    let ago = Duration::try_from(OffsetDateTime::now_utc() - then).unwrap_or_default();
    Instant::now()
        .checked_sub(ago)
        .expect("not before the start")
}

/// Every acknowledged write is there, and none twice.
pub(crate) fn lost_nothing(mut traffic: Traffic, lab: &Lab) {
    let checked = traffic.verify(lab).expect("every acknowledged write once");
    assert!(checked > 0, "no write was acknowledged");
}

/// The transition was of this kind, ended so, and these things happened in it, in this order;
/// nothing else did.
pub(crate) fn was(
    transition: &Transition,
    kind: TransitionKind,
    outcome: TransitionOutcome,
    phases: &[Phase],
) {
    assert_eq!(
        (transition.kind, transition.outcome),
        (kind, outcome),
        "{transition:#?}"
    );
    let happened: Vec<Phase> = transition
        .phases
        .happened()
        .map(|(phase, _)| phase)
        .collect();
    assert_eq!(happened, phases, "{transition:#?}");
    let mut before = 0;
    for (phase, at) in transition.phases.happened() {
        assert!(at >= before, "{phase:?} came too early: {transition:#?}");
        before = at;
    }
}

/// Everything that can happen, in the usual order.
pub(crate) const ALL_PHASES: [Phase; 8] = [
    Phase::Requested,
    Phase::Held,
    Phase::ReadsMoved,
    Phase::LeaderGone,
    Phase::LeaderKey,
    Phase::Writable,
    Phase::Committed,
    Phase::Released,
];
