//! What came of it all. In: each operation with what its clients saw. Out: a line for it, and a
//! summary by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::{Kind, Report};

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
    write_gap: Duration,
    read_gap: Duration,
}

impl Seen {
    pub(super) fn of(report: &Report) -> Self {
        let failed = |kind| report.failures(kind).len();
        let all = [Kind::Write, Kind::Read, Kind::WriteAll, Kind::ReadAll];
        Self {
            done: all.iter().map(|kind| report.succeeded(*kind)).sum(),
            failed_writes: failed(Kind::Write),
            failed_reads: failed(Kind::Read),
            failed_multi: failed(Kind::WriteAll) + failed(Kind::ReadAll),
            write_gap: report.longest_gap(Kind::Write).length(),
            read_gap: report.longest_gap(Kind::Read).length(),
        }
    }

    /// For the operation's line.
    pub(super) fn line(&self) -> String {
        format!(
            "{} done, failed {} writes {} reads {} multi-shard; gaps {} and {}",
            self.done,
            self.failed_writes,
            self.failed_reads,
            self.failed_multi,
            screen::span(self.write_gap),
            screen::span(self.read_gap)
        )
    }
}

impl Tally {
    pub(super) fn add(&mut self, operation: &Operation, seen: &Seen) {
        let sum = self.kinds.entry(operation.kind()).or_default();
        sum.times += 1;
        sum.done += seen.done;
        sum.failed_writes += seen.failed_writes;
        sum.failed_reads += seen.failed_reads;
        sum.failed_multi += seen.failed_multi;
        sum.longest_write = sum.longest_write.max(seen.write_gap);
        sum.longest_read = sum.longest_read.max(seen.read_gap);
    }

    /// How many there were.
    pub(super) fn operations(&self) -> usize {
        self.kinds.values().map(|sum| sum.times).sum()
    }

    /// A table, a line for each kind.
    pub(super) fn table(&self) -> Vec<String> {
        let head = format!(
            "{:<28} {:>5} {:>9}  {:>6} {:>6} {:>11}  {:>9} {:>9}",
            "", "times", "done", "writes", "reads", "multi-shard", "write gap", "read gap"
        );
        let mut lines = vec![head];
        for (kind, sum) in &self.kinds {
            lines.push(format!(
                "{kind:<28} {:>5} {:>9}  {:>6} {:>6} {:>11}  {:>9} {:>9}",
                sum.times,
                sum.done,
                sum.failed_writes,
                sum.failed_reads,
                sum.failed_multi,
                screen::span(sum.longest_write),
                screen::span(sum.longest_read)
            ));
        }
        lines
    }
}
