//! The end of a hold with the move of its row.
//!
//! 1. The coordinator moves the row inside the holding transaction, and commits.
//! 2. The entry nodes follow, held or not: those that are held in their holding transaction, which
//!    ends with it.
//! 3. The entry nodes that did not follow are marked.
//!
//! If the coordinator fails, the entry nodes give back what they hold all the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use citus_core::outcome::{Finished, Phases};
use citus_core::plan::Move;
use dcs_watch::HostPort;

use super::entry_node_holds::HeldSessions;
use super::entry_nodes::EntryNodes;
use super::error::StepError;
use super::fan_out::{Part, Signal, Signaller, decide, followers, side_by_side};
use super::held_entry_node::HeldEntryNode;
use super::hold::Hold;
use super::order::{Change, Inside};
use super::place::Place;
use super::skipped_mark::mark_skipped;
use crate::session::{Database, EntryNodeSessions, Leased, Share, SqlError};

impl Hold {
    /// Moves the row inside the holding transaction and commits; once that is done, the entry nodes
    /// (`targets`) concurrently, whether they were held or not. The locks are gone afterwards,
    /// whatever the result: entry nodes that are `held` and no targets are rolled back. `still_right`
    /// is asked right before.
    ///
    /// # Errors
    ///
    /// [`StepError`]; unless it is `Ambiguous`, the coordinator's rows are as they were.
    pub async fn finish(
        self,
        database: &Database,
        entry_nodes: &EntryNodes,
        HeldSessions(held): HeldSessions,
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
        Ok(Finished {
            phases: Phases {
                locked: Duration::ZERO,
                committed: committed.duration_since(started),
                forced: !self.terminated.is_empty(),
            },
            skipped,
            terminated: Vec::new(),
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
    fn parts(
        self,
        held: BTreeMap<HostPort, HeldEntryNode>,
        signal: &Signal,
    ) -> Vec<(HostPort, Part<'a, ()>)> {
        let Self {
            database,
            sessions,
            change,
            ..
        } = self;
        let others = self.following.iter();
        let others = others.filter(|node| !held.contains_key(node));
        let mut parts = followers(sessions, database, others, change, signal);
        for (entry_node, held) in held {
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
