//! Once the group is in sync: whether every entry node knows it. In: in sync or not, and what the entry nodes'
//! own copies of `pg_dist_node` say. Out: resyncs that are owed.
//!
//! What is owed after a move by a plain UPDATE is remembered by the process that made it, and dies with
//! it; and what Citus was about to tell its workers may die with the coordinator. So it is looked at, after
//! each time the group was anything but in sync, this program's own start included.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;

/// After the group was in sync: by then Citus has told everybody, if it is about to.
const FIRST: Duration = Duration::from_secs(3);

/// The same for the first time after this program's start: only a move of its own can be on its way to
/// the entry nodes by then, which takes Citus a tenth of a second. What a killed predecessor left is told by
/// nobody else, and clients of those entry nodes fail meanwhile.
const AT_START: Duration = Duration::from_millis(300);

/// Between two looks while some entry node does not know it, or does not answer; each pause is twice as long
/// as the one before, up to this.
const LONGEST: Duration = Duration::from_secs(60);

/// When to look.
#[derive(Clone, Debug, Default)]
pub(super) struct MetadataVerification {
    in_sync: bool,
    /// The group was in sync before, since this program's start.
    was_in_sync: bool,
    /// The next look.
    due: Option<Instant>,
    pause: Duration,
    /// Databases that are being looked at, and whether all entry nodes of those that were knew it.
    under_way: usize,
    all_know: bool,
    /// Entry nodes that said so, by database; they are not asked again.
    know: BTreeSet<(String, HostPort)>,
}

impl MetadataVerification {
    /// The next moment that is waited for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        // The end of what is under way is news by itself.
        self.due.filter(|_| self.under_way == 0)
    }

    /// Whether it is time to look.
    pub(super) fn look(&mut self, in_sync: bool, now: Instant) -> bool {
        if self.in_sync != in_sync {
            self.in_sync = in_sync;
            let first = if self.was_in_sync { FIRST } else { AT_START };
            self.was_in_sync |= in_sync;
            self.pause = self.pause.max(first);
            self.due = in_sync.then(|| now + self.pause);
            self.know.clear();
        }
        let due = self.under_way == 0 && self.due.is_some_and(|due| due <= now);
        if due {
            self.due = None;
        }
        due
    }

    pub(super) fn begin(&mut self, databases: usize) {
        self.under_way = databases;
        self.all_know = true;
    }

    /// Whether the group is still as it was when it was looked at.
    pub(super) fn is_current(&self) -> bool {
        self.in_sync
    }

    pub(super) fn knows(&self, database: &str, node: &HostPort) -> bool {
        self.know.contains(&(database.to_owned(), node.clone()))
    }

    /// An entry node said where the leader is.
    pub(super) fn known(&mut self, database: &str, node: &HostPort) {
        self.know.insert((database.to_owned(), node.clone()));
    }

    /// One database was looked at.
    pub(super) fn end(&mut self, all_know: bool, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.all_know &= all_know;
        if self.under_way > 0 {
            return;
        }
        if self.all_know {
            self.pause = FIRST;
        } else {
            self.pause = (self.pause * 2).clamp(FIRST, LONGEST);
            self.due = self.in_sync.then(|| now + self.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::zero;
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_group_that_became_in_sync_is_looked_at_once() {
        let (mut care, zero) = (MetadataVerification::default(), zero());
        assert!(!care.look(true, zero), "Citus may be about to tell them");
        assert_eq!(care.next_due(), Some(zero + AT_START));
        assert!(care.look(true, zero + FIRST));
        care.begin(2);
        care.end(true, zero + FIRST);
        assert!(
            !care.look(true, zero + seconds(60)),
            "the other is not done"
        );
        care.end(true, zero + FIRST);
        assert_eq!(care.next_due(), None, "all know: never again");
        assert!(!care.look(false, zero + seconds(100)));
        assert!(!care.look(true, zero + seconds(101)));
        assert!(care.look(true, zero + seconds(104)), "something was moved");
    }

    #[test]
    fn only_what_was_found_at_the_start_is_looked_at_sooner() {
        let (mut care, zero) = (MetadataVerification::default(), zero());
        assert!(!care.look(false, zero), "nothing is known yet");
        care.look(true, zero);
        assert_eq!(care.next_due(), Some(zero + AT_START));
        care.look(false, zero);
        care.look(true, zero);
        assert_eq!(care.next_due(), Some(zero + FIRST), "a move of our own");
    }

    #[test]
    fn a_group_that_is_in_sync_no_more_is_not_looked_at() {
        let (mut care, zero) = (MetadataVerification::default(), zero());
        care.look(true, zero);
        assert!(!care.look(false, zero + FIRST));
        assert_eq!(care.next_due(), None);
    }

    #[test]
    fn entry_nodes_that_do_not_know_are_asked_again_and_ever_more_seldom() {
        let (mut care, zero) = (MetadataVerification::default(), zero());
        care.look(true, zero);
        let mut now = zero + FIRST;
        for pause in [3, 6, 12, 24, 48, 60, 60] {
            assert!(care.look(true, now));
            care.begin(1);
            care.end(false, now);
            assert_eq!(care.next_due(), Some(now + seconds(pause)));
            // The resync that is made for them is no reason to hurry.
            care.look(false, now);
            care.look(true, now);
            assert_eq!(care.next_due(), Some(now + seconds(pause)));
            now += seconds(pause);
        }
        assert!(care.look(true, now));
        care.begin(1);
        care.end(true, now);
        assert_eq!((care.next_due(), care.pause), (None, FIRST));
    }
}
