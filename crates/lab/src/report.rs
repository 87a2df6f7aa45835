//! What clients saw. In: the outcome of every statement. Out: counts, failures
//! and gaps, of all or of one group, of the whole time or of a part.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a statement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It wrote a row.
    Write,
    /// It read a row.
    Read,
}

/// One statement, from before its connection (if it needed a new one) to its
/// answer.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Read or write.
    pub kind: Kind,
    /// The worker group that has the row.
    pub group: u32,
    /// When it was sent.
    pub began: Instant,
    /// When its answer came, or it was given up.
    pub ended: Instant,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// A stretch of time without one success.
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

    /// The part that concerns one group.
    #[must_use]
    pub fn of_group(&self, group: u32) -> Self {
        let outcomes = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.group == group);
        Self {
            outcomes: outcomes.cloned().collect(),
            ..*self
        }
    }

    /// Groups that appear in it.
    pub fn groups(&self) -> BTreeSet<u32> {
        self.outcomes.iter().map(|outcome| outcome.group).collect()
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

    /// The longest time without a success of this kind, per group the longest
    /// of all groups; the report's own ends count as successes.
    pub fn longest_gap(&self, kind: Kind) -> Gap {
        let mut longest = Gap {
            from: self.from,
            to: self.from,
        };
        for group in self.groups() {
            let mut last = self.from;
            let successes = self
                .of_kind(kind)
                .filter(|outcome| outcome.group == group && outcome.error.is_none())
                .map(|outcome| outcome.ended);
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
        }
        longest
    }

    /// True when a statement sent after `since` succeeded, and the last one too.
    pub fn recovered(&self, kind: Kind, group: u32, since: Instant) -> bool {
        self.of_kind(kind)
            .rfind(|outcome| outcome.group == group)
            .is_some_and(|last| last.error.is_none() && last.began >= since)
    }

    fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(move |outcome| outcome.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(zero: Instant, group: u32, ended: u64, failed: bool) -> Outcome {
        let moment = zero + Duration::from_millis(ended);
        let error = failed.then(|| "refused".to_owned());
        Outcome {
            kind: Kind::Write,
            group,
            began: moment,
            ended: moment,
            error,
        }
    }

    #[test]
    fn a_gap_is_found_in_one_group_though_another_goes_on() {
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
    fn silence_to_the_end_is_a_gap() {
        let zero = Instant::now();
        let end = zero + Duration::from_millis(50);
        let report = Report::new(zero, end, vec![outcome(zero, 1, 5, false)]);
        assert_eq!(
            report.longest_gap(Kind::Write).length(),
            Duration::from_millis(45)
        );
    }
}
