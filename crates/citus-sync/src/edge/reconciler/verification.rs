//! Once the group is in sync: whether every entry node knows it. In: in sync or not, and what the entry nodes'
//! own copies of `pg_dist_node` say. Out: resyncs that are owed.
//!
//! What is owed after a move by a plain UPDATE is remembered by the process that made it, and dies with
//! it; and what Citus was about to tell its workers may die with the coordinator. So it is looked at, after
//! each time the group was anything but in sync, this program's own start included.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use tracing::{debug, info};

use super::Reconciler;
use super::carry::Aside;
use crate::execute::{MetadataAnswer, ask_entry_nodes};
use citus_core::plan::{Decision, Rows, Situation, Writes};

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
#[derive(Default)]
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
    fn look(&mut self, in_sync: bool, now: Instant) -> bool {
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

    fn begin(&mut self, databases: usize) {
        self.under_way = databases;
        self.all_know = true;
    }

    /// One database was looked at.
    fn end(&mut self, all_know: bool, now: Instant) {
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

impl Reconciler {
    /// Asks the entry nodes, when it is time to.
    pub(super) fn look_after_entry_nodes(
        &mut self,
        situation: &Situation<'_>,
        decision: &Decision,
    ) {
        let in_sync = decision.is_in_sync() && self.context.writes == Writes::Allowed;
        if !self
            .verification
            .look(in_sync && !situation.stopping, Instant::now())
        {
            return;
        }
        let mut asked = Vec::new();
        for database in &self.context.databases {
            let Some(Rows::Known(rows)) = situation.rows.get(&*database.name) else {
                continue;
            };
            let entry_nodes = rows.iter().filter(|row| row.is_entry_node());
            let name = database.name.to_string();
            let targets: Vec<_> = entry_nodes
                .map(|row| row.address.clone())
                .filter(|entry_node| {
                    !self
                        .verification
                        .know
                        .contains(&(name.clone(), entry_node.clone()))
                })
                .collect();
            let own = rows
                .iter()
                .any(|row| row.groupid == self.group && row.is_primary());
            if own && !targets.is_empty() {
                asked.push((database.clone(), targets));
            }
        }
        self.verification.begin(asked.len());
        for (database, targets) in asked {
            let (entry_nodes, group) = (self.context.entry_nodes.clone(), self.group);
            self.aside.push(Box::pin(async move {
                let told = ask_entry_nodes(&database, &entry_nodes, &targets, group).await;
                Aside::Told {
                    database: database.name.to_string(),
                    told,
                }
            }));
        }
    }

    /// What the entry nodes of one database said.
    pub(super) fn entry_nodes_said(&mut self, database: &str, told: &[MetadataAnswer]) {
        let view = self.view.borrow().clone();
        let leader = view.leader_address();
        let mut all_know = true;
        for (entry_node, answer) in told {
            match answer {
                // News came first, and will be looked after by itself.
                _ if !self.verification.in_sync => {}
                Ok(Some(there)) if Some(there) == leader => {
                    let whose = (database.to_owned(), entry_node.clone());
                    self.verification.know.insert(whose);
                }
                Ok(there) => {
                    all_know = false;
                    info!(
                        formation = self.context.name, group = self.group, scope = %self.scope,
                        database, %entry_node,
                        "an entry node was not told of a move: it has this group at {}; Citus is made to \
                         tell it",
                        there.as_ref().map_or("no address".to_owned(), ToString::to_string)
                    );
                    self.holds.owe_resync(database);
                }
                Err(error) => {
                    all_know = false;
                    debug!(
                        formation = self.context.name, group = self.group, scope = %self.scope,
                        database, %entry_node,
                        "asked an entry node where it has this group: {error}"
                    );
                }
            }
        }
        self.verification.end(all_know, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_group_that_became_in_sync_is_looked_at_once() {
        let (mut care, zero) = (MetadataVerification::default(), Instant::now());
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
        let (mut care, zero) = (MetadataVerification::default(), Instant::now());
        assert!(!care.look(false, zero), "nothing is known yet");
        care.look(true, zero);
        assert_eq!(care.next_due(), Some(zero + AT_START));
        care.look(false, zero);
        care.look(true, zero);
        assert_eq!(care.next_due(), Some(zero + FIRST), "a move of our own");
    }

    #[test]
    fn a_group_that_is_in_sync_no_more_is_not_looked_at() {
        let (mut care, zero) = (MetadataVerification::default(), Instant::now());
        care.look(true, zero);
        assert!(!care.look(false, zero + FIRST));
        assert_eq!(care.next_due(), None);
    }

    #[test]
    fn entry_nodes_that_do_not_know_are_asked_again_and_ever_more_seldom() {
        let (mut care, zero) = (MetadataVerification::default(), Instant::now());
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
