//! Keeps sessions warm on this group's leader, through which clients enter as well: when another group
//! is held nobody has time to connect to every entry node. In: in sync or not. Out: sessions.

use std::time::{Duration, Instant};

use tracing::debug;

use super::Reconciler;
use super::carry::Aside;
use crate::session::SPARE;
use citus_core::plan::{COORDINATOR_GROUP, Decision, Rows, Situation, Writes};

/// After the group was in sync: clients come first.
const FIRST: Duration = Duration::from_secs(1);

/// From then on; sessions on entry nodes outlive it.
const AGAIN: Duration = Duration::from_secs(60);

/// Sessions of all entry nodes and databases of a formation together: each costs this program 16 kB and a
/// server a process. Formations that are larger connect when they have to.
const AT_MOST: usize = 256;

/// When to see to them.
#[derive(Default)]
pub(super) struct Prewarm {
    due: Option<Instant>,
}

impl Prewarm {
    /// The next moment that is waited for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is time to.
    fn look(&mut self, in_sync: bool, now: Instant) -> bool {
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
fn is_affordable(entry_nodes: usize, databases: usize) -> bool {
    entry_nodes * databases * SPARE <= AT_MOST
}

impl Reconciler {
    pub(super) fn keep_entry_node_warm(&mut self, situation: &Situation<'_>, decision: &Decision) {
        let in_sync = decision.is_in_sync()
            && !situation.stopping
            && self.group != COORDINATOR_GROUP
            && self.context.writes == Writes::Allowed;
        if !self.prewarm.look(in_sync, Instant::now()) {
            return;
        }
        for database in &self.context.databases {
            let Some(Rows::Known(rows)) = situation.rows.get(&*database.name) else {
                continue;
            };
            let entry_nodes = || rows.iter().filter(|row| row.is_entry_node());
            let own = entry_nodes().find(|row| row.groupid == self.group);
            let Some(entry_node) = own.map(|row| row.address.clone()) else {
                continue;
            };
            if !is_affordable(entry_nodes().count(), self.context.databases.len()) {
                continue;
            }
            let (entry_nodes, name) = (self.context.entry_nodes.clone(), database.name.clone());
            self.aside.push(Box::pin(async move {
                if let Err(error) = entry_nodes.keep_warm(&entry_node, &name).await {
                    debug!(database = %name, %entry_node, "keeping sessions warm on an entry node: {error}");
                }
                Aside::Over
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_formations_keep_no_sessions_warm() {
        assert!(is_affordable(64, 2));
        assert!(!is_affordable(65, 2));
        assert!(!is_affordable(500, 1));
    }

    #[test]
    fn sessions_are_seen_to_a_moment_after_the_group_is_in_sync_and_in_time_from_then_on() {
        let (mut prewarm, zero) = (Prewarm::default(), Instant::now());
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
