//! One event as its clients saw it. In: the outcome of every statement meanwhile, and when each
//! group's members took no writes. Out: numbers. Pure arithmetic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use citus_core::report::Transition;
use lab::interruption::Interrupted;
use lab::report::{Kind, Outcome, Report, Stream};
use serde::Serialize;

use super::event::{Event, Who};

/// A client that waited longer was without service, though nothing failed: counted of reads,
/// printed of all.
pub(crate) const OUTAGE: Duration = Duration::from_millis(250);
/// Different errors that are kept.
const ERRORS: usize = 4;

/// What an event left to look at.
pub(crate) struct Seen<'a> {
    /// All statements from its beginning to the end of its consequences.
    pub(crate) report: &'a Report,
    /// When it was asked for, or done.
    pub(crate) began: Instant,
    /// The groups it happened to.
    pub(crate) interrupted: &'a [(u32, Interrupted)],
    /// What the daemon reports of it.
    pub(crate) transitions: Vec<Transition>,
}

/// The numbers of one event. Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) who: Who,
    pub(crate) event: Event,
    pub(crate) round: usize,
    /// How many groups at once.
    pub(crate) groups: usize,
    /// Single-shard statements on these groups that failed, by the entry node they took.
    pub(crate) failed_writes: BTreeMap<String, usize>,
    pub(crate) failed_reads: BTreeMap<String, usize>,
    /// Multi-shard statements that failed.
    pub(crate) failed_multi_writes: usize,
    pub(crate) failed_multi_reads: usize,
    /// Single-shard statements on other groups that failed.
    pub(crate) failed_elsewhere: usize,
    /// Statements that succeeded, of all sorts.
    pub(crate) succeeded: usize,
    /// The longest time that one client of these groups waited for a write or a read, from its first
    /// try to its success: its gap, if it never paused.
    pub(crate) write_gap: f64,
    pub(crate) read_gap: f64,
    /// The same of multi-shard statements.
    pub(crate) multi_write_gap: f64,
    pub(crate) multi_read_gap: f64,
    /// The longest time that one of the groups had no writable leader, seen at its members.
    pub(crate) stop_to_writable: f64,
    /// By how much the writes of a group were away longer than its leader, the worst group.
    pub(crate) write_gap_beyond: f64,
    /// The part of it from a client's first try to the old leader's end, the worst group.
    pub(crate) last_write: f64,
    /// From a writable leader to the first write, the worst group, database and entry node.
    pub(crate) first_write: f64,
    /// From the event until reads of these groups neither failed nor waited any more.
    pub(crate) reads_back: f64,
    /// From the event until every client of these groups was served by a writable leader.
    pub(crate) over: f64,
    /// Errors with their number, the most frequent first.
    pub(crate) errors: Vec<(String, usize)>,
    /// The daemon's own account.
    pub(crate) transitions: Vec<Transition>,
}

impl Sample {
    pub(crate) fn of(who: Who, event: Event, round: usize, seen: Seen<'_>) -> Self {
        let Seen {
            report,
            began,
            interrupted,
            transitions,
        } = seen;
        let hit = |stream: &Stream| {
            interrupted
                .iter()
                .any(|(group, _)| stream.group == Some(*group))
        };
        let of_groups = report.only(hit);
        let elsewhere = report.only(|stream| stream.kind.is_single() && !hit(stream));
        let failed = |report: &Report, kind| report.failures(kind).len();
        let gap = |report: &Report, kind| ms(report.longest_wait(kind).length());
        let beyond = interrupted
            .iter()
            .map(|(group, own)| gap(&report.of_group(*group), Kind::Write) - ms(own.length()));
        Self {
            who,
            event,
            round,
            groups: interrupted.len(),
            failed_writes: by_entry_node(&of_groups, Kind::Write),
            failed_reads: by_entry_node(&of_groups, Kind::Read),
            failed_multi_writes: failed(report, Kind::WriteAll),
            failed_multi_reads: failed(report, Kind::ReadAll),
            failed_elsewhere: failed(&elsewhere, Kind::Write) + failed(&elsewhere, Kind::Read),
            succeeded: report
                .outcomes()
                .iter()
                .filter(|outcome| outcome.error.is_none())
                .count(),
            write_gap: gap(&of_groups, Kind::Write),
            read_gap: gap(&of_groups, Kind::Read),
            multi_write_gap: gap(report, Kind::WriteAll),
            multi_read_gap: gap(report, Kind::ReadAll),
            stop_to_writable: worst(interrupted.iter().map(|(_, own)| ms(own.length()))),
            last_write: worst(interrupted.iter().map(|(group, own)| {
                let wait = report.of_group(*group).longest_wait(Kind::Write);
                ms(own.stopped.saturating_duration_since(wait.from))
            })),
            write_gap_beyond: beyond.fold(f64::NEG_INFINITY, f64::max),
            first_write: worst(
                interrupted
                    .iter()
                    .map(|(group, own)| first_write(&report.of_group(*group), own.writable)),
            ),
            reads_back: reads_back(&of_groups, began),
            over: worst(
                interrupted
                    .iter()
                    .map(|(group, own)| all_served(&report.of_group(*group), own.writable, began)),
            ),
            errors: errors(report),
            transitions,
        }
    }

    /// Failed single-shard statements on the groups, through whichever entry node.
    pub(crate) fn failed(&self) -> (usize, usize) {
        (
            self.failed_writes.values().sum(),
            self.failed_reads.values().sum(),
        )
    }

    /// A line for the person who waits for the bench.
    pub(crate) fn line(&self) -> String {
        let (writes, reads) = self.failed();
        let who = if self.who == Who::Poll { "poll: " } else { "" };
        format!(
            "{who}{}, {} at once: failed {writes} writes and {reads} reads (multi-shard {} and {}, \
             elsewhere {}); write gap {:.0} ms ({:.0} ms no leader), read gap {:.0} ms, over after {:.1} s",
            self.event,
            self.groups,
            self.failed_multi_writes,
            self.failed_multi_reads,
            self.failed_elsewhere,
            self.write_gap,
            self.stop_to_writable,
            self.read_gap,
            self.over / 1e3,
        )
    }
}

fn by_entry_node(report: &Report, kind: Kind) -> BTreeMap<String, usize> {
    let mut failed = BTreeMap::new();
    for summary in report.streams() {
        if summary.stream.kind == kind {
            *failed
                .entry(summary.stream.entry_node.to_string())
                .or_insert(0) += summary.failed;
        }
    }
    failed
}

/// The statements of each stream, in order of their end.
fn streams(report: &Report) -> BTreeMap<&Stream, Vec<&Outcome>> {
    let mut streams: BTreeMap<&Stream, Vec<&Outcome>> = BTreeMap::new();
    for outcome in report.outcomes() {
        streams.entry(&outcome.stream).or_default().push(outcome);
    }
    streams
}

/// The first success that ended after `moment`.
fn served(outcomes: &[&Outcome], moment: Instant) -> Option<Instant> {
    let mut ends = outcomes
        .iter()
        .filter(|outcome| outcome.error.is_none())
        .map(|outcome| outcome.ended);
    ends.find(|ended| *ended > moment)
}

/// Each database and entry node is served by statements of its own; any one of its writes is the
/// first.
fn first_write(report: &Report, writable: Instant) -> f64 {
    let mut first: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for (stream, outcomes) in streams(report) {
        if stream.kind == Kind::Write {
            let after = served(&outcomes, writable).map_or(f64::INFINITY, |end| ms(end - writable));
            let known = first
                .entry((&stream.database, &stream.entry_node))
                .or_insert(f64::INFINITY);
            *known = known.min(after);
        }
    }
    worst(first.into_values())
}

/// The end of the last failure or long silence of any reader.
fn reads_back(report: &Report, began: Instant) -> f64 {
    let outages = report
        .streams()
        .into_iter()
        .filter(|summary| summary.stream.kind == Kind::Read);
    let silences = outages.filter_map(|summary| {
        let wait = summary.longest_wait;
        (wait.length() > OUTAGE).then(|| ms(wait.to.saturating_duration_since(began)))
    });
    let streams = streams(report);
    let readers = streams
        .iter()
        .filter(|(stream, _)| stream.kind == Kind::Read);
    let failures = readers.filter_map(|(_, outcomes)| {
        let last = outcomes.iter().rfind(|outcome| outcome.error.is_some())?;
        let back = served(outcomes, last.ended).unwrap_or(last.ended);
        Some(ms(back.saturating_duration_since(began)))
    });
    worst(silences.chain(failures))
}

fn all_served(report: &Report, writable: Instant, began: Instant) -> f64 {
    let streams = streams(report);
    worst(streams.values().map(|outcomes| {
        served(outcomes, writable).map_or(f64::INFINITY, |end| {
            ms(end.saturating_duration_since(began))
        })
    }))
}

fn errors(report: &Report) -> Vec<(String, usize)> {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for outcome in report.outcomes() {
        if let Some(error) = &outcome.error {
            let who = format!("{}: {}", outcome.stream.kind, plain(error));
            *counted.entry(who).or_default() += 1;
        }
    }
    let mut errors: Vec<(String, usize)> = counted.into_iter().collect();
    errors.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    errors.truncate(ERRORS);
    errors
}

/// The first line, without the addresses, in which the same error differs, and with its code.
fn plain(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let code = error.rsplit_once(" (").map_or("", |(_, code)| code);
    let mut words = Vec::new();
    for word in line.split(' ') {
        // user@host:port, or host:port
        let address = word.contains(':') && word.contains("127.0.0.1");
        words.push(if address { "ADDRESS" } else { word });
    }
    let text = words.join(" ");
    if code.is_empty() || text.ends_with(code) {
        text
    } else {
        format!("{text} ({code}")
    }
}

fn worst(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
