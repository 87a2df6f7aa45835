//! The counts of a group's shards at servers that are not known to have them: which are under way, what
//! came of them, and when to count again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dcs_watch::{HostPort, ScopeView, SystemId};

use crate::plan::{Identity, ShardCount, ShardCounts};

/// The pause after a count that failed, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause, and that after a count that found too few: data that is being restored is found
/// within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What counts are about. Once it changes they say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct About {
    leader_revision: Option<i64>,
    created: Option<i64>,
    system: Option<SystemId>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ShardCounting {
    about: About,
    /// Rises when counts begin to be about something else.
    number: u64,
    counts: BTreeMap<(String, HostPort), Count>,
}

#[derive(Clone, Debug, Default)]
struct Count {
    under_way: bool,
    answer: Option<Result<ShardCount, String>>,
    failures: u32,
    /// When to count again.
    again: Option<Instant>,
}

impl ShardCounting {
    /// Forgets what was counted for another leader key, another scope, or at another cluster.
    pub(super) fn look(&mut self, view: &ScopeView, leader: Identity) {
        let about = About {
            leader_revision: view.leader.as_ref().map(|leader| leader.mod_revision),
            created: view.system.as_ref().map(|system| system.create_revision),
            system: leader.system,
        };
        if about != self.about {
            self.about = about;
            self.number += 1;
            self.counts.clear();
        }
    }

    /// Whether to count now, and under which number; if so, it is under way.
    pub(super) fn begin(&mut self, database: &str, address: &HostPort) -> Option<u64> {
        let key = (database.to_owned(), address.clone());
        let count = self.counts.entry(key).or_default();
        if count.under_way || count.again.is_some() {
            return None;
        }
        count.under_way = true;
        Some(self.number)
    }

    pub(super) fn heard(
        &mut self,
        number: u64,
        key: &(String, HostPort),
        answer: Result<ShardCount, String>,
        now: Instant,
    ) {
        let Some(count) = self.counts.get_mut(key).filter(|_| number == self.number) else {
            return;
        };
        count.under_way = false;
        count.failures = match &answer {
            Ok(_) => 0,
            Err(_) => count.failures.saturating_add(1),
        };
        let grown = FIRST_PAUSE.saturating_mul(1 << count.failures.clamp(1, 8).saturating_sub(1));
        let pause = match &answer {
            Ok(_) => LONGEST_PAUSE,
            Err(_) => grown.min(LONGEST_PAUSE),
        };
        count.again = Some(now + pause);
        count.answer = Some(answer);
    }

    /// Ends the pauses that are over, so that each is waited for once.
    pub(super) fn ripen(&mut self, now: Instant) {
        for count in self.counts.values_mut() {
            count.again = count.again.filter(|again| *again > now);
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.counts.values().filter_map(|count| count.again).min()
    }

    pub(super) fn answers(&self) -> ShardCounts {
        let counts = self.counts.iter();
        counts
            .filter_map(|(key, count)| Some((key.clone(), count.answer.clone()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use dcs_watch::{ScopeId, Versioned};

    use super::super::clock::zero;
    use super::*;

    fn key() -> (String, HostPort) {
        ("app".to_owned(), "10.0.0.1:5432".parse().unwrap())
    }

    fn none_found() -> ShardCount {
        ShardCount {
            expected: 4,
            found: 0,
            missing: Some(102_008),
            serves: Some(0),
            is_coordinator: false,
        }
    }

    fn begin(counting: &mut ShardCounting) -> Option<u64> {
        let (database, address) = key();
        counting.begin(&database, &address)
    }

    #[test]
    fn shards_are_counted_once_at_a_time_and_again_after_a_pause() {
        let mut counting = ShardCounting::default();
        let number = begin(&mut counting).expect("to be counted");
        assert_eq!(begin(&mut counting), None, "it is under way");
        counting.heard(number, &key(), Ok(none_found()), zero());
        assert_eq!(counting.answers().len(), 1);
        assert_eq!(begin(&mut counting), None, "it pauses");
        let due = counting.next_due().expect("again");
        counting.ripen(due);
        assert_eq!(counting.next_due(), None, "nothing is waited for twice");
        assert!(begin(&mut counting).is_some());
        assert_eq!(counting.answers().len(), 1, "the last count still counts");
    }

    #[test]
    fn pauses_grow_while_counting_fails() {
        let (mut counting, mut now) = (ShardCounting::default(), zero());
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let number = begin(&mut counting).expect("to be counted");
            counting.heard(number, &key(), Err("refused".to_owned()), now);
            let due = counting.next_due().expect("again");
            assert!(due - now >= last && due - now <= LONGEST_PAUSE);
            (last, now) = (due - now, due);
            counting.ripen(now);
        }
        assert_eq!(last, LONGEST_PAUSE);
    }

    #[test]
    fn a_count_says_nothing_of_a_scope_that_was_made_anew_since() {
        let mut view = ScopeView::empty(ScopeId::new("wk1"));
        let mut counting = ShardCounting::default();
        let made = |revision| {
            Some(Versioned {
                value: SystemId(7),
                mod_revision: revision,
                create_revision: revision,
            })
        };
        view.system = made(1);
        counting.look(&view, Identity::default());
        let early = begin(&mut counting).expect("to be counted");
        view.system = made(2);
        counting.look(&view, Identity::default());
        counting.heard(early, &key(), Ok(none_found()), zero());
        assert!(counting.answers().is_empty(), "it was about the last scope");
        let late = begin(&mut counting).expect("to be counted anew");
        counting.heard(late, &key(), Ok(none_found()), zero());
        assert_eq!(counting.answers().len(), 1);
    }
}
