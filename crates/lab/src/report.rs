//! What clients saw. In: the outcome of every statement. Out: counts, failures
//! and gaps: of all clients, of one group or of one stream, over the whole time or a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::session::Protocol;
pub use crate::traffic::{Kind, Stream};

/// A summary keeps this many different errors.
const ERRORS: usize = 3;

/// One statement, from the start of its connection (if it needed a new one) to its
/// answer.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The stream it belongs to.
    pub stream: Arc<Stream>,
    /// When the client began.
    pub began: Instant,
    /// When the answer came, or the client gave up.
    pub ended: Instant,
    /// The error, if it failed.
    pub error: Option<String>,
}

/// One stream's part of a report.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Which stream.
    pub stream: Arc<Stream>,
    /// Statements that succeeded.
    pub succeeded: usize,
    /// Statements that failed.
    pub failed: usize,
    /// The first few different errors.
    pub errors: Vec<String>,
    /// The longest time without a success.
    pub longest_gap: Gap,
    /// The longest time that a client waited: from the first try of a statement until that or a later
    /// try succeeded. It is the gap of a client that never pauses.
    pub longest_wait: Gap,
}

/// A time without a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last success before it.
    pub from: Instant,
    /// The first success after it.
    pub to: Instant,
}

impl Gap {
    /// Its length.
    pub fn length(&self) -> Duration {
        self.to.saturating_duration_since(self.from)
    }
}

/// The outcomes between two moments.
#[derive(Clone, Debug)]
pub struct Report {
    from: Instant,
    to: Instant,
    outcomes: Vec<Outcome>,
}

impl Report {
    /// A report of what ended between `from` and `to`.
    pub fn new(from: Instant, to: Instant, mut outcomes: Vec<Outcome>) -> Self {
        outcomes.retain(|outcome| (from..=to).contains(&outcome.ended));
        outcomes.sort_by_key(|outcome| outcome.ended);
        Self { from, to, outcomes }
    }

    /// The part between two moments.
    #[must_use]
    pub fn between(&self, from: Instant, to: Instant) -> Self {
        Self::new(from.max(self.from), to.min(self.to), self.outcomes.clone())
    }

    /// This report and the one after it as one.
    #[must_use]
    pub fn and(mut self, next: Self) -> Self {
        self.outcomes.extend(next.outcomes);
        Self::new(self.from, next.to, self.outcomes)
    }

    /// The part of one group.
    #[must_use]
    pub fn of_group(&self, group: u32) -> Self {
        self.only(|stream| stream.group == Some(group))
    }

    /// The part of the wanted streams.
    #[must_use]
    pub fn only(&self, wanted: impl Fn(&Stream) -> bool) -> Self {
        let outcomes = self
            .outcomes
            .iter()
            .filter(|outcome| wanted(&outcome.stream));
        Self {
            outcomes: outcomes.cloned().collect(),
            ..*self
        }
    }

    /// The groups that have streams in it.
    pub fn groups(&self) -> BTreeSet<u32> {
        self.outcomes
            .iter()
            .filter_map(|outcome| outcome.stream.group)
            .collect()
    }

    /// Each stream, in order.
    pub fn streams(&self) -> Vec<Summary> {
        let mut streams: BTreeMap<&Arc<Stream>, Vec<&Outcome>> = BTreeMap::new();
        for outcome in &self.outcomes {
            streams.entry(&outcome.stream).or_default().push(outcome);
        }
        streams
            .into_iter()
            .map(|(stream, outcomes)| self.summary(stream, &outcomes))
            .collect()
    }

    fn summary(&self, stream: &Arc<Stream>, outcomes: &[&Outcome]) -> Summary {
        let failed: Vec<&str> = outcomes
            .iter()
            .filter_map(|outcome| outcome.error.as_deref())
            .collect();
        let mut errors: Vec<String> = Vec::new();
        for error in &failed {
            if errors.len() < ERRORS && !errors.iter().any(|known| known == error) {
                errors.push((*error).to_owned());
            }
        }
        let successes = outcomes.iter().filter(|outcome| outcome.error.is_none());
        Summary {
            stream: Arc::clone(stream),
            succeeded: outcomes.len() - failed.len(),
            failed: failed.len(),
            errors,
            longest_gap: self.longest_between(successes.map(|outcome| outcome.ended)),
            longest_wait: self.longest_wait_in(outcomes),
        }
    }

    /// Every statement.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// How many statements of a kind succeeded.
    pub fn succeeded(&self, kind: Kind) -> usize {
        self.of_kind(kind)
            .filter(|outcome| outcome.error.is_none())
            .count()
    }

    /// The statements of a kind that failed.
    pub fn failures(&self, kind: Kind) -> Vec<&Outcome> {
        self.of_kind(kind)
            .filter(|outcome| outcome.error.is_some())
            .collect()
    }

    /// The longest gap of any stream of this kind. The beginning and the end of the report count as
    /// successes.
    pub fn longest_gap(&self, kind: Kind) -> Gap {
        self.longest(kind, |summary| summary.longest_gap)
    }

    /// The longest [wait](Summary::longest_wait) of any stream of this kind.
    pub fn longest_wait(&self, kind: Kind) -> Gap {
        self.longest(kind, |summary| summary.longest_wait)
    }

    fn longest(&self, kind: Kind, of: impl Fn(&Summary) -> Gap) -> Gap {
        let streams = self.streams();
        streams
            .iter()
            .filter(|summary| summary.stream.kind == kind)
            .map(of)
            .max_by_key(Gap::length)
            .unwrap_or(self.no_gap())
    }

    /// True when the group's last statement was sent after `since` and succeeded.
    pub fn recovered(&self, kind: Kind, group: u32, since: Instant) -> bool {
        self.of_kind(kind)
            .rfind(|outcome| outcome.stream.group == Some(group))
            .is_some_and(|last| last.error.is_none() && last.began >= since)
    }

    fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(move |outcome| outcome.stream.kind == kind)
    }

    fn no_gap(&self) -> Gap {
        Gap {
            from: self.from,
            to: self.from,
        }
    }

    /// `outcomes` are those of one stream, in order of their end.
    fn longest_wait_in(&self, outcomes: &[&Outcome]) -> Gap {
        let mut longest = self.no_gap();
        let mut first_try = None;
        for outcome in outcomes {
            let from = *first_try.get_or_insert(outcome.began);
            let to = outcome.ended;
            let wait = Gap { from, to };
            if wait.length() > longest.length() {
                longest = wait;
            }
            if outcome.error.is_none() {
                first_try = None;
            }
        }
        longest
    }

    fn longest_between(&self, successes: impl Iterator<Item = Instant>) -> Gap {
        let mut longest = self.no_gap();
        let mut last = self.from;
        for moment in successes.chain([self.to]) {
            let gap = Gap {
                from: last,
                to: moment,
            };
            if gap.length() > longest.length() {
                longest = gap;
            }
            last = moment;
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(zero: Instant, group: u32, ended: u64, failed: bool) -> Outcome {
        let moment = zero + Duration::from_millis(ended);
        let error = failed.then(|| "refused".to_owned());
        let stream = Stream {
            kind: Kind::Write,
            protocol: Protocol::Prepared,
            entry_node: "cn".into(),
            database: "postgres".into(),
            group: Some(group),
        };
        Outcome {
            stream: Arc::new(stream),
            began: moment,
            ended: moment,
            error,
        }
    }

    #[test]
    fn a_gap_of_one_group_is_found_while_another_group_is_served() {
        let zero = Instant::now();
        let moment = |after: u64| zero + Duration::from_millis(after);
        let mut outcomes: Vec<Outcome> = (0..100).map(|n| outcome(zero, 1, n, false)).collect();
        outcomes.extend([2, 10, 90, 95].map(|n| outcome(zero, 2, n, false)));
        outcomes.extend([20, 30].map(|n| outcome(zero, 2, n, true)));
        let report = Report::new(zero, moment(100), outcomes);

        let gap = report.longest_gap(Kind::Write);
        assert_eq!(
            gap,
            Gap {
                from: moment(10),
                to: moment(90)
            }
        );
        assert_eq!(report.failures(Kind::Write).len(), 2);
        assert_eq!(report.of_group(1).failures(Kind::Write).len(), 0);
        assert_eq!(report.succeeded(Kind::Write), 104);
        let streams = report.streams();
        assert_eq!((streams.len(), streams[1].failed), (2, 2));
        assert_eq!(streams[1].errors, ["refused"], "each error once");
        assert_eq!(streams[1].longest_gap, gap);
        assert!(report.recovered(Kind::Write, 2, moment(90)));
        assert!(
            !report
                .between(zero, moment(30))
                .recovered(Kind::Write, 2, zero)
        );
        assert!(!report.recovered(Kind::Write, 2, moment(96)));
        assert!(!report.recovered(Kind::Read, 2, zero));
    }

    #[test]
    fn a_gap_of_one_stream_is_found_while_another_stream_of_its_group_is_served() {
        let zero = Instant::now();
        let moment = |after: u64| zero + Duration::from_millis(after);
        let mut outcomes: Vec<Outcome> = (0..100).map(|n| outcome(zero, 1, n, false)).collect();
        let mut other = outcome(zero, 1, 20, false);
        other.stream = Arc::new(Stream {
            entry_node: "wk2".into(),
            ..(*other.stream).clone()
        });
        outcomes.push(other);
        let report = Report::new(zero, moment(100), outcomes);
        assert_eq!(
            report.longest_gap(Kind::Write).length(),
            Duration::from_millis(80)
        );
        let through = report.only(|stream| &*stream.entry_node == "cn");
        assert!(through.longest_gap(Kind::Write).length() < Duration::from_millis(3));
        assert_eq!(report.groups().len(), 1);
    }

    #[test]
    fn a_wait_lasts_from_the_first_try_of_a_statement_to_its_success() {
        let zero = Instant::now();
        let after = |ms: u64| zero + Duration::from_millis(ms);
        let tried = |began, ended, failed| Outcome {
            began: after(began),
            ..outcome(zero, 1, ended, failed)
        };
        let report = |outcomes| Report::new(zero, after(1000), outcomes);
        let calm = vec![tried(0, 4, false), tried(54, 60, false)];
        let wait = report(calm).longest_wait(Kind::Write);
        assert_eq!(
            (wait.from, wait.to),
            (after(54), after(60)),
            "pauses do not count"
        );
        let failing = vec![
            tried(0, 4, false),
            tried(54, 60, true),
            tried(80, 90, true),
            tried(110, 115, false),
        ];
        let wait = report(failing.clone()).longest_wait(Kind::Write);
        assert_eq!((wait.from, wait.to), (after(54), after(115)));
        let never = report(failing[..3].to_vec()).longest_wait(Kind::Write);
        assert_eq!((never.from, never.to), (after(54), after(90)));
        assert_eq!(
            report(failing).longest_wait(Kind::Read).length(),
            Duration::ZERO
        );
    }

    #[test]
    fn a_gap_that_lasts_to_the_end_of_the_report_counts() {
        let zero = Instant::now();
        let end = zero + Duration::from_millis(50);
        let report = Report::new(zero, end, vec![outcome(zero, 1, 5, false)]);
        assert_eq!(
            report.longest_gap(Kind::Write).length(),
            Duration::from_millis(45)
        );
    }
}
