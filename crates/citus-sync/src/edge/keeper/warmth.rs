//! Keeps sessions warm on this group's leader, through which clients enter as well: when another group
//! is held nobody has time to connect to every door. In: settled or not. Out: sessions.

use std::time::{Duration, Instant};

use tracing::debug;

use super::Keeper;
use super::carry::Aside;
use crate::edge::sql::SPARE;
use citus_core::plan::{COORDINATOR_GROUP, Decision, Rows, Situation, Writes};

/// After the group was settled: clients come first.
const FIRST: Duration = Duration::from_secs(1);

/// From then on; sessions on doors outlive it.
const AGAIN: Duration = Duration::from_secs(60);

/// Sessions of all doors and databases of a formation together: each costs this program 16 kB and a
/// server a process. Formations that are larger connect when they have to.
const AT_MOST: usize = 256;

/// When to see to them.
#[derive(Default)]
pub(super) struct Warmth {
    due: Option<Instant>,
}

impl Warmth {
    /// The next moment that is waited for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is time to.
    fn look(&mut self, settled: bool, now: Instant) -> bool {
        if !settled {
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

/// Whether sessions may be kept at so many doors, in so many databases.
fn is_affordable(doors: usize, databases: usize) -> bool {
    doors * databases * SPARE <= AT_MOST
}

impl Keeper {
    pub(super) fn keep_door_warm(&mut self, situation: &Situation<'_>, decision: &Decision) {
        let settled = decision.is_settled()
            && !situation.stopping
            && self.group != COORDINATOR_GROUP
            && self.context.writes == Writes::Allowed;
        if !self.warmth.look(settled, Instant::now()) {
            return;
        }
        for database in &self.context.databases {
            let Some(Rows::Known(rows)) = situation.rows.get(&*database.name) else {
                continue;
            };
            let doors = || rows.iter().filter(|row| row.is_door());
            let own = doors().find(|row| row.groupid == self.group);
            let Some(door) = own.map(|row| row.address.clone()) else {
                continue;
            };
            if !is_affordable(doors().count(), self.context.databases.len()) {
                continue;
            }
            let (doors, name) = (self.context.doors.clone(), database.name.clone());
            self.aside.push(Box::pin(async move {
                if let Err(error) = doors.keep_warm(&door, &name).await {
                    debug!(database = %name, %door, "keeping sessions warm on a door: {error}");
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
    fn sessions_are_seen_to_a_moment_after_the_group_is_settled_and_in_time_from_then_on() {
        let (mut warmth, zero) = (Warmth::default(), Instant::now());
        assert!(!warmth.look(true, zero));
        assert_eq!(warmth.next_due(), Some(zero + FIRST));
        assert!(warmth.look(true, zero + FIRST));
        assert!(!warmth.look(true, zero + FIRST));
        assert_eq!(warmth.next_due(), Some(zero + FIRST + AGAIN));
        // Another leader is another door.
        assert!(!warmth.look(false, zero + FIRST));
        assert_eq!(warmth.next_due(), None);
        assert!(!warmth.look(true, zero + AGAIN));
        assert!(warmth.look(true, zero + AGAIN + FIRST));
    }
}
