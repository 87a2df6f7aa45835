//! The end of a hold with the move of its row.
//!
//! 1. Entry nodes that are still being taken are called off.
//! 2. The coordinator moves the row inside the holding transaction, and commits.
//! 3. The entry nodes follow, held or not: those that are held in their holding transaction, which
//!    ends with it.
//! 4. The entry nodes that did not follow are marked.
//!
//! If the coordinator fails, the entry nodes give back what they hold all the same.

use std::time::{Duration, Instant};

use citus_core::outcome::{Finished, Phases};
use citus_core::plan::Move;
use dcs_watch::HostPort;

use super::entry_nodes::EntryNodes;
use super::error::StepError;
use super::fan_out::{Part, Signal, Signaller, decide, followers, side_by_side};
use super::held_entry_node::HeldEntryNode;
use super::hold::Hold;
use super::known_entry_nodes::{LastState, name_once};
use super::order::{Change, Inside};
use super::place::Place;
use super::skipped_mark::mark_skipped;
use crate::session::{Database, EntryNodeSessions, Leased, Share, SqlError};

impl Hold {
    /// Moves the row inside the holding transaction and commits; once that is done, the entry nodes
    /// (`targets`) concurrently, whether they were held or not. The locks are gone afterwards,
    /// whatever the result. Reports what [`Hold::entry_node_news`] has not. `still_right` is asked
    /// right before.
    ///
    /// # Errors
    ///
    /// [`StepError`]; unless it is `Ambiguous`, the coordinator's rows are as they were.
    pub async fn finish(
        self,
        database: &Database,
        entry_nodes: &EntryNodes,
        targets: &[HostPort],
        step: &Move,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, StepError> {
        let started = Instant::now();
        if !self.coordinator.is_usable() {
            // Not "ambiguous": nothing was sent.
            let lost = "the hold is lost: the coordinator closed its session";
            return Err(SqlError::Io(lost.to_owned()).into());
        }
        let dialect = database.dialect()?;
        // By a plain UPDATE, and on the entry nodes as well; or, where our role may not, by Citus's
        // own function, which tells the entry nodes.
        let plain = dialect.moves_plainly();
        let ending = Ending {
            database,
            sessions: entry_nodes.sessions(),
            change: Change {
                database: &database.name,
                dialect: &dialect,
                group: self.group,
                step,
            },
            inside: Inside::Held(self.deadline),
            plain,
            following: if plain { targets } else { &[] },
        };
        let LastState {
            held, named, news, ..
        } = self.held.end();
        let (signaller, signal) = Signal::new();
        let parts = ending.parts(held, &signal);
        let (session, share) = (self.coordinator, self.reference_tables);
        // If it fails the entry nodes go on all the same: they give back what they hold.
        let coordinator = async {
            let decided = ending.at_coordinator(session, share, signaller, still_right);
            Ok(decided.await)
        };
        let (decided, skipped) = side_by_side(coordinator, parts).await?;
        let committed = decided?;
        if plain {
            mark_skipped(database, &dialect, &skipped).await;
        }
        let mut all_skipped = news.skipped;
        name_once(&mut all_skipped, skipped, &named);
        Ok(Finished {
            phases: Phases {
                locked: Duration::ZERO,
                committed: committed.duration_since(started),
                forced: !self.terminated.is_empty(),
            },
            skipped: all_skipped,
            terminated: news.terminated,
            plain: plain && dialect.has_metadata(),
        })
    }
}

/// What all of the parts share.
#[derive(Clone, Copy)]
struct Ending<'a> {
    database: &'a Database,
    sessions: &'a EntryNodeSessions,
    change: Change<'a>,
    inside: Inside,
    /// By a plain UPDATE.
    plain: bool,
    /// The entry nodes whose row we move.
    following: &'a [HostPort],
}

impl<'a> Ending<'a> {
    /// The coordinator's part: moves the row, and commits. When that was.
    async fn at_coordinator(
        self,
        session: Leased,
        mut reference_tables: Option<Share>,
        signaller: Signaller,
        still_right: impl Fn() -> bool,
    ) -> Result<Instant, StepError> {
        let (database, change, inside) = (self.database, self.change, self.inside);
        let place = Place::Coordinator(database);
        if !self.plain {
            // Citus's own function wants them for itself, and would wait for us.
            place.leave(reference_tables.take()).await;
        }
        let decided = decide(database, session, change, inside, signaller, still_right).await;
        place.leave(reference_tables).await;
        decided
    }

    /// The entry nodes' parts: of those that follow without being held, and of those that are held.
    fn parts(self, held: Vec<HeldEntryNode>, signal: &Signal) -> Vec<(HostPort, Part<'a, ()>)> {
        let Self {
            database,
            sessions,
            change,
            ..
        } = self;
        let is_held =
            |entry_node: &HostPort| held.iter().any(|held| held.entry_node == *entry_node);
        let others = self.following.iter().filter(|node| !is_held(node));
        let mut parts = followers(sessions, database, others, change, signal);
        for held in held {
            let entry_node = held.entry_node.clone();
            parts.push((entry_node, self.part(held, signal.clone())));
        }
        parts
    }

    /// The part of one that is held: once the coordinator has decided, its row is moved or it rolls
    /// back.
    fn part(self, held: HeldEntryNode, signal: Signal) -> Part<'a, ()> {
        Box::pin(async move {
            let moved = signal.moved().await;
            let follows = moved && self.following.contains(&held.entry_node);
            let change = follows.then_some(self.change);
            held.end(self.sessions, self.database, change, self.inside)
                .await
        })
    }
}
