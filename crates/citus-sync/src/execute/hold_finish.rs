//! The end of a hold with the move of its row.
//!
//! 1. The coordinator moves the row inside the holding transaction, and commits.
//! 2. The entry nodes follow, held or not: those that are held in their holding transaction, which
//!    ends with it.
//! 3. The entry nodes that did not follow are marked.
//!
//! If the coordinator fails, the entry nodes give back what they hold; but where `pg_dist_node` only
//! stays locked, the hold may be kept: writes wait on, and the move is tried again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use citus_core::outcome::{Finished, Phases, Skipped};
use citus_core::plan::Move;
use dcs_watch::HostPort;

use super::conclude::conclude;
use super::entry_node_holds::HeldSessions;
use super::entry_nodes::EntryNodes;
use super::error::StepError;
use super::fan_out::{Part, Signal, Signaller, followers, side_by_side, side_by_side_then};
use super::held_entry_node::HeldEntryNode;
use super::hold::Hold;
use super::order::{Change, Inside};
use super::place::Place;
use super::skipped_mark::mark_skipped;
use crate::session::{Database, EntryNodeSessions, SqlError};

/// A move inside a hold.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    /// The entry nodes whose row follows.
    pub targets: &'a [HostPort],
    /// The move.
    pub step: &'a Move,
    /// Keep the hold where `pg_dist_node` stays locked.
    pub keep: bool,
}

/// A move inside a hold that failed.
#[derive(Debug)]
pub struct NotFinished {
    /// Why; unless it is `Ambiguous`, the coordinator's rows are as they were.
    pub error: StepError,
    /// The hold, where it stands on.
    pub kept: Option<(Hold, HeldSessions)>,
}

impl From<StepError> for NotFinished {
    fn from(error: StepError) -> Self {
        Self { error, kept: None }
    }
}

impl Hold {
    /// Moves the row inside the holding transaction and commits; once that is done, the entry nodes
    /// concurrently, whether they were held or not: those that are `held` and no targets are rolled
    /// back. `still_right` is asked right before.
    ///
    /// # Errors
    ///
    /// [`NotFinished`]. The hold is over, unless it is to be kept where `pg_dist_node` stays locked.
    pub async fn finish(
        self,
        database: &Database,
        entry_nodes: &EntryNodes,
        held: HeldSessions,
        finish: Finish<'_>,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, NotFinished> {
        let started = Instant::now();
        let Finish {
            targets,
            step,
            keep,
        } = finish;
        if !self.coordinator.is_usable() {
            // Not "ambiguous": nothing was sent.
            let lost = "the hold is lost: the coordinator closed its session";
            return Err(StepError::from(SqlError::Io(lost.to_owned())).into());
        }
        let dialect = database.dialect().map_err(StepError::from)?;
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
            keep,
        };
        let forced = !self.terminated.is_empty();
        let (signaller, signal) = Signal::new();
        let others = ending.following.iter();
        let others = others.filter(|node| !held.0.contains_key(node));
        let others = followers(ending.sessions, database, others, ending.change, &signal);
        let mut held = Some(held.0);
        let then = || ending.parts(held.take().unwrap_or_default(), true);
        let coordinator = ending.at_coordinator(self, signaller, still_right);
        let decided = side_by_side_then(coordinator, others, then).await;
        let (committed, skipped) = match decided {
            Ok(decided) => decided,
            Err((error, None)) => {
                // The entry nodes give back what they hold all the same.
                let parts = ending.parts(held.unwrap_or_default(), false);
                let given_back = side_by_side(async { Ok::<_, StepError>(()) }, parts).await;
                drop(given_back);
                return Err(error.into());
            }
            Err((error, Some(standing))) => {
                let kept = Some((standing, HeldSessions(held.unwrap_or_default())));
                return Err(NotFinished { error, kept });
            }
        };
        // One that only had to give back what it held is dropped, and has missed nothing.
        let follows = |skipped: &Skipped| ending.following.contains(&skipped.node);
        let skipped: Vec<Skipped> = skipped.into_iter().filter(follows).collect();
        if plain {
            mark_skipped(database, &dialect, &skipped).await;
        }
        Ok(Finished {
            phases: Phases {
                locked: Duration::ZERO,
                committed: committed.duration_since(started),
                forced,
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
    /// Keep the hold where `pg_dist_node` stays locked.
    keep: bool,
}

impl<'a> Ending<'a> {
    /// The coordinator's part: moves the row, commits, and signals the entry nodes. When that was;
    /// or what went wrong, with the hold if that is kept.
    async fn at_coordinator(
        self,
        mut hold: Hold,
        signaller: Signaller,
        still_right: impl Fn() -> bool,
    ) -> Result<Instant, (StepError, Option<Hold>)> {
        let place = Place::Coordinator(self.database);
        if !self.plain {
            // Citus's own function wants them for itself, and would wait for us.
            place.leave(hold.reference_tables.take()).await;
        }
        let made = self
            .change
            .make(&mut hold.coordinator, self.inside, still_right);
        let result = made.await.map(|()| Instant::now());
        signaller.send_replace(Some(result.is_ok()));
        let result = match result {
            Err(error) if self.keep && error.is_about_locks() && hold.coordinator.is_usable() => {
                return Err((error, Some(hold)));
            }
            result => result,
        };
        conclude(
            self.database,
            hold.coordinator,
            self.change.dialect,
            &result,
        )
        .await;
        place.leave(hold.reference_tables).await;
        result.map_err(|error| (error, None))
    }

    /// The parts of the entry nodes that are held: their row is moved with the coordinator's, or they
    /// roll back.
    fn parts(
        self,
        held: BTreeMap<HostPort, HeldEntryNode>,
        moved: bool,
    ) -> Vec<(HostPort, Part<'a, ()>)> {
        let held = held.into_iter();
        held.map(|(entry_node, held)| {
            let follows = moved && self.following.contains(&entry_node);
            let change = follows.then_some(self.change);
            let part = held.end(self.sessions, self.database, change, self.inside);
            let part: Part<'a, ()> = Box::pin(part);
            (entry_node, part)
        })
        .collect()
    }
}
