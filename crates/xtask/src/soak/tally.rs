//! Results. In: each operation, and what its clients saw. Out: a line for the operation, and a
//! table of all kinds.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::{Kind, Report, Stream};

use super::describe::name;
use super::operation::Operation;
use crate::screen;

/// All operations of one kind.
#[derive(Default)]
struct Sum {
    times: usize,
    done: usize,
    failed_writes: usize,
    failed_reads: usize,
    failed_multi: usize,
    failed_through_ended: usize,
    longest_write: Duration,
    longest_read: Duration,
}

/// All operations.
#[derive(Default)]
pub(super) struct Tally {
    kinds: BTreeMap<&'static str, Sum>,
}

/// What clients saw of one operation.
pub(super) struct Seen {
    done: usize,
    failed_writes: usize,
    failed_reads: usize,
    failed_multi: usize,
    failed_through_ended: usize,
    write_gap: Duration,
    read_gap: Duration,
    /// Errors of other clients, each with its number, the most frequent first.
    errors: Vec<(usize, String)>,
}

/// Different errors that are shown of one operation.
const ERRORS: usize = 4;

impl Seen {
    /// Statements through a node that ended are counted separately, and make no gap.
    pub(super) fn of(report: &Report, operation: &Operation) -> Self {
        let scopes: Vec<String> = operation.ends().into_iter().map(name).collect();
        let through_ended =
            |stream: &Stream| scopes.iter().any(|name| **name == *stream.entry_node);
        let failed = |report: &Report, kind| report.failures(kind).len();
        let all = [Kind::Write, Kind::Read, Kind::WriteAll, Kind::ReadAll];
        let ended = report.only(through_ended);
        let others = report.only(|stream| !through_ended(stream));
        Self {
            done: all.iter().map(|kind| report.succeeded(*kind)).sum(),
            failed_writes: failed(&others, Kind::Write),
            failed_reads: failed(&others, Kind::Read),
            failed_multi: failed(&others, Kind::WriteAll) + failed(&others, Kind::ReadAll),
            failed_through_ended: all.iter().map(|kind| failed(&ended, *kind)).sum(),
            write_gap: others.longest_gap(Kind::Write).length(),
            read_gap: others.longest_gap(Kind::Read).length(),
            errors: errors(&others),
        }
    }

    /// The results in words, for the operation's line.
    pub(super) fn line(&self) -> String {
        format!(
            "{} done, failed {} writes {} reads {} multi-shard, {} through a node that ended; gaps {} and {}",
            self.done,
            self.failed_writes,
            self.failed_reads,
            self.failed_multi,
            self.failed_through_ended,
            screen::span(self.write_gap),
            screen::span(self.read_gap)
        )
    }

    /// The most frequent errors of other clients, in words.
    pub(super) fn errors(&self) -> impl Iterator<Item = String> {
        let shown = self.errors.iter().take(ERRORS);
        shown.map(|(times, error)| format!("{times} x {error}"))
    }
}

fn errors(report: &Report) -> Vec<(usize, String)> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for outcome in report.outcomes() {
        if let Some(error) = &outcome.error {
            let stream = &outcome.stream;
            let text = format!("{} through {}: {error}", stream.kind, stream.entry_node);
            *times.entry(text.replace('\n', " ")).or_default() += 1;
        }
    }
    let mut errors: Vec<(usize, String)> = times
        .into_iter()
        .map(|(error, times)| (times, error))
        .collect();
    errors.sort_by_key(|(times, _)| std::cmp::Reverse(*times));
    errors
}

impl Tally {
    pub(super) fn add(&mut self, operation: &Operation, seen: &Seen) {
        let sum = self.kinds.entry(operation.kind()).or_default();
        sum.times += 1;
        sum.done += seen.done;
        sum.failed_writes += seen.failed_writes;
        sum.failed_reads += seen.failed_reads;
        sum.failed_multi += seen.failed_multi;
        sum.failed_through_ended += seen.failed_through_ended;
        sum.longest_write = sum.longest_write.max(seen.write_gap);
        sum.longest_read = sum.longest_read.max(seen.read_gap);
    }

    /// The number of operations.
    pub(super) fn operations(&self) -> usize {
        self.kinds.values().map(|sum| sum.times).sum()
    }

    /// A table with a line for each kind.
    pub(super) fn table(&self) -> Vec<String> {
        let head = format!(
            "{:<28} {:>5} {:>9}  {:>6} {:>6} {:>11} {:>7}  {:>9} {:>9}",
            "",
            "times",
            "done",
            "writes",
            "reads",
            "multi-shard",
            "through",
            "write gap",
            "read gap"
        );
        let mut lines = vec![head];
        for (kind, sum) in &self.kinds {
            lines.push(format!(
                "{kind:<28} {:>5} {:>9}  {:>6} {:>6} {:>11} {:>7}  {:>9} {:>9}",
                sum.times,
                sum.done,
                sum.failed_writes,
                sum.failed_reads,
                sum.failed_multi,
                sum.failed_through_ended,
                screen::span(sum.longest_write),
                screen::span(sum.longest_read)
            ));
        }
        lines
    }
}
