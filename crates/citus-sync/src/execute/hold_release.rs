//! The end of a hold that leaves the coordinator's row as it is.
//!
//! 1. Entry nodes that are still being taken are called off.
//! 2. The coordinator rolls back.
//! 3. Side by side with it the entry nodes roll back, too. Those whose reads have not followed the
//!    coordinator's yet have their row moved now, whether they are held or not.
//! 4. The entry nodes that did not follow are marked.

use std::collections::BTreeMap;

use citus_core::outcome::{EntryNodeNews, Skipped};
use citus_core::plan::Move;
use citus_core::sql::Dialect;
use dcs_watch::HostPort;

use super::fan_out::{Part, Signal, follow, side_by_side};
use super::held_entry_node::HeldEntryNode;
use super::hold::Hold;
use super::known_entry_nodes::{LastState, name_once};
use super::order::{Change, Inside};
use super::place::Place;
use super::skipped_mark::mark_skipped;
use super::transaction::roll_back;
use crate::session::{Database, EntryNodeSessions};

impl Hold {
    /// Rolls everything back, concurrently; at entry nodes whose reads did not follow the
    /// coordinator's yet, they do now. A session that does not answer within a second, and an entry
    /// node that takes 300 ms longer than the coordinator, is dropped. What had become of the entry
    /// nodes, as far as it was not reported.
    pub async fn release(self, database: &Database) -> EntryNodeNews {
        let mut coordinator = self.coordinator;
        let LastState {
            held,
            behind,
            named,
            mut news,
        } = self.held.end();
        let dialect = database.dialect().ok();
        let sessions = self.entry_nodes.sessions();
        let late = Late {
            database,
            dialect: dialect.as_deref(),
            group: self.group,
            behind: &behind,
        };
        let mut parts = late.not_held(sessions, &held);
        for held in held {
            let entry_node = held.entry_node.clone();
            let change = late.change_at(&entry_node);
            let inside = Inside::Held(self.deadline);
            let end = held.end(sessions, database, change, inside);
            parts.push((entry_node, Box::pin(end)));
        }
        let coordinator = async {
            let own = async {
                if roll_back(&mut coordinator).await.is_ok() {
                    database.release(coordinator);
                }
            };
            let place = Place::Coordinator(database);
            tokio::join!(own, place.leave(self.reference_tables));
            Ok(())
        };
        let skipped = match side_by_side(coordinator, parts).await {
            Ok(((), skipped)) => skipped,
            Err(_) => Vec::new(),
        };
        let skipped = skipped.into_iter();
        let skipped: Vec<Skipped> = skipped
            .filter(|left| behind.contains_key(&left.node))
            .collect();
        if let Some(dialect) = &dialect {
            mark_skipped(database, dialect, &skipped).await;
        }
        name_once(&mut news.skipped, skipped, &named);
        news
    }
}

/// The entry nodes whose row has yet to follow a read move.
struct Late<'a> {
    database: &'a Database,
    dialect: Option<&'a Dialect>,
    group: i32,
    behind: &'a BTreeMap<HostPort, Move>,
}

impl<'a> Late<'a> {
    fn change_at(&self, entry_node: &HostPort) -> Option<Change<'a>> {
        Some(Change {
            database: &self.database.name,
            dialect: self.dialect?,
            group: self.group,
            step: self.behind.get(entry_node)?,
        })
    }

    /// The parts of those that are not held.
    fn not_held(
        &self,
        sessions: &'a EntryNodeSessions,
        held: &[HeldEntryNode],
    ) -> Vec<(HostPort, Part<'a, ()>)> {
        let is_held =
            |entry_node: &HostPort| held.iter().any(|held| held.entry_node == *entry_node);
        let mut parts = Vec::new();
        for entry_node in self.behind.keys().filter(|node| !is_held(node)) {
            if let Some(change) = self.change_at(entry_node) {
                let (signaller, signal) = Signal::new();
                // The coordinator's row is moved already.
                signaller.send_replace(Some(true));
                let part = follow(sessions, self.database, entry_node, change, signal);
                parts.push((entry_node.clone(), part));
            }
        }
        parts
    }
}
