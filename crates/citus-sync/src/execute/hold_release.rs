//! The end of a hold that leaves the coordinator's row as it is.
//!
//! 1. The coordinator rolls back.
//! 2. Side by side with it the entry nodes roll back, too. Those whose reads have not followed the
//!    coordinator's yet have their row moved now, whether they are held or not.
//! 3. The entry nodes that did not follow are marked.

use citus_core::entry_node::EntryNodeEnd;
use citus_core::outcome::Skipped;
use citus_core::sql::Dialect;
use dcs_watch::HostPort;

use super::entry_node_holds::HeldSessions;
use super::entry_nodes::EntryNodes;
use super::error::StepError;
use super::fan_out::{Part, Signal, follow, side_by_side};
use super::hold::Hold;
use super::order::{Change, Inside};
use super::place::Place;
use super::skipped_mark::mark_skipped;
use super::transaction::roll_back;
use crate::session::Database;

impl Hold {
    /// Rolls everything back, concurrently; at entry nodes whose reads did not follow the
    /// coordinator's yet, they do now. A session that does not answer within a second, and an entry
    /// node that takes 300 ms longer than the coordinator, is dropped. The entry nodes that did not
    /// follow, and why.
    pub async fn release(
        self,
        database: &Database,
        entry_nodes: &EntryNodes,
        held: HeldSessions,
        ends: &[EntryNodeEnd],
    ) -> Vec<Skipped> {
        let dialect = database.dialect().ok();
        let ending = Ending {
            database,
            entry_nodes,
            dialect: dialect.as_deref(),
            group: self.group,
            inside: Inside::Held(self.deadline),
        };
        let parts = ending.parts(held, ends);
        let mut coordinator = self.coordinator;
        let coordinator = async {
            let own = async {
                if roll_back(&mut coordinator).await.is_ok() {
                    database.release(coordinator);
                }
            };
            let place = Place::Coordinator(database);
            tokio::join!(own, place.leave(self.reference_tables));
            Ok::<_, StepError>(())
        };
        let skipped = match side_by_side(coordinator, parts).await {
            Ok(((), skipped)) => skipped,
            Err(_) => Vec::new(),
        };
        let follows = |skipped: &Skipped| {
            let mut ends = ends.iter().filter(|end| end.follow.is_some());
            ends.any(|end| end.node == skipped.node)
        };
        let not_followed: Vec<Skipped> = skipped.into_iter().filter(follows).collect();
        if let Some(dialect) = &dialect {
            mark_skipped(database, dialect, &not_followed).await;
        }
        not_followed
    }
}

/// What the entry nodes' parts share.
struct Ending<'a> {
    database: &'a Database,
    entry_nodes: &'a EntryNodes,
    dialect: Option<&'a Dialect>,
    group: i32,
    inside: Inside,
}

impl<'a> Ending<'a> {
    /// The parts of those that are held, and of those that are not and have yet to follow.
    fn parts(
        &self,
        HeldSessions(mut held): HeldSessions,
        ends: &'a [EntryNodeEnd],
    ) -> Vec<(HostPort, Part<'a, ()>)> {
        let sessions = self.entry_nodes.sessions();
        let mut parts: Vec<(HostPort, Part<'a, ()>)> = Vec::new();
        for end in ends {
            let change = self.change(end);
            if let Some(held) = held.remove(&end.node) {
                let part = held.end(sessions, self.database, change, self.inside);
                parts.push((end.node.clone(), Box::pin(part)));
            } else if let Some(change) = change {
                let (signaller, signal) = Signal::new();
                // The coordinator's row is moved already.
                signaller.send_replace(Some(true));
                let part = follow(sessions, self.database, &end.node, change, signal);
                parts.push((end.node.clone(), part));
            }
        }
        parts
    }

    fn change(&self, end: &'a EntryNodeEnd) -> Option<Change<'a>> {
        Some(Change {
            database: &self.database.name,
            dialect: self.dialect?,
            group: self.group,
            step: end.follow.as_ref()?,
        })
    }
}
