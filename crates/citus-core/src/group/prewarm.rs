//! Keeps sessions warm on this group's leader, through which clients enter as well: when another group
//! is held nobody has time to connect to every entry node. In: in sync or not. Out: sessions.

use std::time::{Duration, Instant};

/// After the group was in sync: clients come first.
const FIRST: Duration = Duration::from_secs(1);

/// From then on; sessions on entry nodes outlive it.
const AGAIN: Duration = Duration::from_secs(60);

/// Sessions of all entry nodes and databases of a formation together: each costs this program 16 kB and a
/// server a process. Formations that are larger connect when they have to.
const AT_MOST: usize = 256;

/// Sessions for one hold on an entry node, in one database: one holds, one moves the row.
pub const SPARE: usize = 2;

/// When to see to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Prewarm {
    due: Option<Instant>,
}

impl Prewarm {
    /// The next moment that is waited for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is time to.
    pub(super) fn look(&mut self, in_sync: bool, now: Instant) -> bool {
        if !in_sync {
            self.due = None;
            return false;
        }
        let due = *self.due.get_or_insert(now + FIRST);
        if due > now {
            return false;
        }
        self.due = Some(now + AGAIN);
        true
    }
}

/// Whether sessions may be kept at so many entry nodes, in so many databases.
pub(super) fn is_affordable(entry_nodes: usize, databases: usize) -> bool {
    entry_nodes * databases * SPARE <= AT_MOST
}

#[cfg(test)]
mod tests {
    use super::super::clock::zero;
    use super::*;

    #[test]
    fn large_formations_keep_no_sessions_warm() {
        assert!(is_affordable(64, 2));
        assert!(!is_affordable(65, 2));
        assert!(!is_affordable(500, 1));
    }

    #[test]
    fn sessions_are_seen_to_a_moment_after_the_group_is_in_sync_and_in_time_from_then_on() {
        let (mut prewarm, zero) = (Prewarm::default(), zero());
        assert!(!prewarm.look(true, zero));
        assert_eq!(prewarm.next_due(), Some(zero + FIRST));
        assert!(prewarm.look(true, zero + FIRST));
        assert!(!prewarm.look(true, zero + FIRST));
        assert_eq!(prewarm.next_due(), Some(zero + FIRST + AGAIN));
        // Another leader is another entry node.
        assert!(!prewarm.look(false, zero + FIRST));
        assert_eq!(prewarm.next_due(), None);
        assert!(!prewarm.look(true, zero + AGAIN));
        assert!(prewarm.look(true, zero + AGAIN + FIRST));
    }
}
