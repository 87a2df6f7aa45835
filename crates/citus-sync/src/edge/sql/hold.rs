//! A hold: one open transaction on the coordinator and one on each entry node, in which writes to one
//! group's shards wait.
//!
//! It does not touch `pg_dist_node` until its end, so that groups are held side by side. The
//! server itself ends it at its deadline (rule 2): what was held is given back even if this process
//! is frozen, or its host is gone.

use std::time::{Duration, Instant};

use dcs_watch::HostPort;

use super::entry_nodes::{Part, side_by_side};
use super::fan_out::{Signal, decide, follow, followers, mark_skipped};
use super::held_entry_nodes::{HeldEntryNode, HeldEntryNodes, Taking, place};
use super::known_entry_nodes::{EntryNodeNews, LastState};
use super::locking::{LockOrder, Locked, Place, lock};
use super::pool::Leased;
use super::reads::ReadsUnderHold;
use super::references;
use super::steps::{Finished, Phases, Skipped, StepError};
use super::update::{Change, Inside};
use super::{Connection, Database, EntryNodes, SqlError};
use citus_core::plan::Move;
use citus_core::sql::Dialect;

/// What is to be held, in one database.
#[derive(Clone, Debug)]
pub struct HoldOrder {
    /// Citus `groupid`.
    pub group: i32,
    /// How long from now until the deadline.
    pub left: Duration,
    /// How long writers that are in the way are waited for before they are terminated.
    pub cooldown: Duration,
    /// The entry nodes to hold beside the coordinator.
    pub entry_nodes: Vec<HostPort>,
    /// For `application_name` in `pg_stat_activity`: "group 1".
    pub name: String,
}

impl HoldOrder {
    pub(super) fn session_name(&self) -> String {
        format!("hold {}", self.name)
    }

    /// The locks that it wants, on the coordinator and on each entry node alike.
    pub(super) fn locks<'a>(
        &self,
        dialect: &'a Dialect,
        name: &'a str,
        deadline: Instant,
    ) -> LockOrder<'a> {
        LockOrder {
            dialect,
            group: self.group,
            references: true,
            name,
            deadline,
            cooldown: self.cooldown,
        }
    }
}

/// How long a session may take to give its locks back before it is dropped, which gives them back
/// as well as soon as the server hears of it.
const RELEASE: Duration = Duration::from_secs(1);

/// How long a hold that has the coordinator waits for entry nodes that are just about done. Whoever asked for
/// the hold is waiting.
const GRACE: Duration = Duration::from_millis(30);

/// An open hold. Dropping it closes its sessions, which releases everything.
#[derive(Debug)]
pub struct Hold {
    group: i32,
    deadline: Instant,
    coordinator: Leased,
    /// Reference tables are held by a session that all holds here have together.
    references: Option<references::Part>,
    entry_nodes: EntryNodes,
    held: HeldEntryNodes,
    /// Who had to be ended on the coordinator.
    terminated: Vec<String>,
}

impl Hold {
    /// Holds coordinator and entry nodes concurrently. It is there as soon as the coordinator is held, and
    /// those entry nodes that are done a moment later; the others go on being taken, and join it when they
    /// are. Entry nodes that were [kept](Hold::keep_entry_nodes) are held already. May be dropped half-way: then
    /// nothing else stays held.
    ///
    /// # Errors
    ///
    /// The coordinator cannot be held. Nothing is held then, but for entry nodes that were kept.
    pub async fn take(
        database: &Database,
        entry_nodes: &EntryNodes,
        order: &HoldOrder,
    ) -> Result<Self, StepError> {
        let deadline = Instant::now() + order.left;
        let dialect = database.dialect()?;
        let taking = Taking::begin(database, entry_nodes, &dialect, order, deadline);
        let name = order.session_name();
        let locks = order.locks(&dialect, &name, deadline);
        let (mut coordinator, _) = database.acquire_for_hold().await?;
        let Locked {
            terminated,
            references,
        } = lock(&mut coordinator, &Place::Coordinator(database), &locks).await?;
        let held = taking.taken();
        held.settle(GRACE).await;
        Ok(Self {
            group: order.group,
            deadline,
            coordinator,
            references,
            entry_nodes: entry_nodes.clone(),
            held,
            terminated,
        })
    }

    /// Completes when the coordinator's holding session closes: the coordinator is gone, or its
    /// own timeouts ended the hold.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        self.coordinator.closing()
    }

    /// Completes when it is known of each entry node whether it is held, or when the hold is over.
    pub fn entry_nodes_are_known(&self) -> impl Future<Output = ()> + Send + 'static {
        self.held.in_sync()
    }

    /// Completes when no entry node is about to be held, or about to follow a read move; or when the hold is
    /// over.
    pub fn entry_nodes_are_quiet(&self) -> impl Future<Output = ()> + Send + 'static {
        self.held.quiet()
    }

    /// Whether no entry node is about to be held, or about to follow a read move.
    pub fn is_quiet(&self) -> bool {
        self.held.is_quiet()
    }

    /// The entry nodes that are held by now.
    pub fn entry_nodes(&self) -> Vec<HostPort> {
        self.held.held()
    }

    /// The entry nodes that could not be held, and why.
    pub fn skipped(&self) -> Vec<Skipped> {
        self.held.skipped()
    }

    /// The entry nodes that are being taken, and may join yet.
    pub fn entry_nodes_under_way(&self) -> Vec<HostPort> {
        self.held.under_way()
    }

    /// What became of the entry nodes, as far as it was not told yet.
    pub fn entry_node_news(&self) -> EntryNodeNews {
        self.held.news()
    }

    /// Who had to be ended, in words, entry nodes included.
    pub fn terminated(&self) -> Vec<String> {
        let coordinator = self.terminated.iter().cloned();
        coordinator.chain(self.held.terminated()).collect()
    }

    /// Whom it had to end on the coordinator, in words.
    pub fn terminated_at_coordinator(&self) -> &[String] {
        &self.terminated
    }

    /// The leader takes no writes any more: reads of entry nodes that are not held follow those that were
    /// moved.
    pub fn leader_is_gone(&self) {
        self.held.leader_is_gone();
    }

    /// What moves reads while this hold is open.
    pub fn reads(&self, database: &Database) -> ReadsUnderHold {
        ReadsUnderHold {
            database: database.clone(),
            entry_nodes: self.entry_nodes.clone(),
            group: self.group,
            known: self.held.known(),
        }
    }

    /// The coordinator closed its session. The entry nodes stay held until this group is held again in this
    /// database, it is [let go](EntryNodes::let_go), or the deadline passes: reads may be at a standby by now,
    /// where their writes would fail.
    pub fn keep_entry_nodes(self, database: &Database) {
        let whose = (self.group, database.name.clone());
        self.entry_nodes.keep(whose, self.held);
    }

    /// Rolls everything back, concurrently; at entry nodes whose reads did not follow the coordinator's yet,
    /// they do now. A session that does not answer within a second, and an entry node that takes 300 ms longer
    /// than the coordinator, is dropped. What had become of the entry nodes, as far as it was not told.
    pub async fn release(self, database: &Database) -> EntryNodeNews {
        let Self {
            group,
            deadline,
            mut coordinator,
            references,
            entry_nodes,
            held,
            ..
        } = self;
        let LastState {
            held,
            behind,
            named,
            mut news,
        } = held.end();
        let dialect = database.dialect().ok();
        let change_at = |entry_node: &HostPort| {
            let dialect = dialect.as_deref()?;
            let step = behind.get(entry_node)?;
            Some(Change {
                database: &database.name,
                dialect,
                group,
                step,
            })
        };
        let is_held =
            |entry_node: &HostPort| held.iter().any(|held| held.entry_node == *entry_node);
        let mut parts: Vec<(HostPort, Part<'_, ()>)> = Vec::new();
        for entry_node in behind.keys().filter(|entry_node| !is_held(entry_node)) {
            if let Some(change) = change_at(entry_node) {
                let (signaller, signal) = Signal::new();
                // The coordinator's row is moved already.
                signaller.send_replace(Some(true));
                let part = follow(&entry_nodes, database, entry_node, change, signal);
                parts.push((entry_node.clone(), part));
            }
        }
        for held in held {
            let change = change_at(&held.entry_node);
            let entry_node = held.entry_node.clone();
            let part =
                end_at_entry_node(&entry_nodes, database, held, change, Inside::Held(deadline));
            parts.push((entry_node, Box::pin(part)));
        }
        let coordinator = async {
            let place = Place::Coordinator(database);
            let own = async {
                if roll_back(&mut coordinator).await.is_ok() {
                    database.release(coordinator);
                }
            };
            tokio::join!(own, leave(references, &place));
            Ok(())
        };
        let skipped = match side_by_side(coordinator, parts).await {
            Ok(((), _, skipped)) => skipped,
            Err(_) => Vec::new(),
        };
        let skipped = skipped.into_iter();
        let skipped: Vec<Skipped> = skipped
            .filter(|left| behind.contains_key(&left.entry_node))
            .collect();
        if let Some(dialect) = &dialect {
            mark_skipped(database, dialect, &skipped).await;
        }
        name_once(&mut news.skipped, skipped, &named);
        news
    }

    /// Moves the row inside the holding transaction and commits; once that is done, the entry nodes
    /// (`targets`) concurrently, whether they were held or not. The locks are gone afterwards,
    /// whatever the result. Tells what [`Hold::entry_node_news`] has not. `still_right` is asked right
    /// before.
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
        let change = Change {
            database: &database.name,
            dialect: &dialect,
            group: self.group,
            step,
        };
        let plain = dialect.moves_plainly();
        let inside = Inside::Held(self.deadline);
        let LastState {
            held, named, news, ..
        } = self.held.end();
        let (signaller, signal) = Signal::new();
        let is_held =
            |entry_node: &HostPort| held.iter().any(|held| held.entry_node == *entry_node);
        let others = targets
            .iter()
            .filter(|entry_node| plain && !is_held(entry_node));
        let mut parts = followers(entry_nodes, database, others, change, &signal);
        for held in held {
            let signal = signal.clone();
            let entry_node = held.entry_node.clone();
            let follows = plain && targets.contains(&entry_node);
            let part: Part<'_, ()> = Box::pin(async move {
                let moved = signal.moved().await;
                let change = (moved && follows).then_some(change);
                end_at_entry_node(entry_nodes, database, held, change, inside).await
            });
            parts.push((entry_node, part));
        }
        let (session, mut references) = (self.coordinator, self.references);
        // If it fails the entry nodes go on all the same: they give back what they hold.
        let coordinator = async {
            if !plain {
                // Citus's own function wants them for itself, and would wait for us.
                leave(references.take(), &Place::Coordinator(database)).await;
            }
            let decided = decide(database, session, change, inside, signaller, still_right).await;
            leave(references, &Place::Coordinator(database)).await;
            Ok(decided)
        };
        let (decided, _, skipped) = side_by_side(coordinator, parts).await?;
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

/// The end of a hold at one entry node: with the move of its row, or without.
async fn end_at_entry_node(
    entry_nodes: &EntryNodes,
    database: &Database,
    held: HeldEntryNode,
    change: Option<Change<'_>>,
    inside: Inside,
) -> Result<(), StepError> {
    let HeldEntryNode {
        entry_node,
        mut session,
        references,
    } = held;
    match change {
        None => roll_back(&mut session).await?,
        Some(change) => match change.make(&mut session, inside, || true).await {
            // Started anew meanwhile, which ended the hold there: as one that was never held.
            Err(_) if !session.is_usable() => {
                session = entry_nodes.session(&entry_node, &database.name).await?;
                change.make(&mut session, Inside::Own, || true).await?;
            }
            made => made?,
        },
    }
    let place = place(entry_nodes, &entry_node, database);
    place.give_back(session);
    leave(references, &place).await;
    Ok(())
}

/// Adds entry nodes that did not follow to those that are to be told of, unless somebody was told of them.
fn name_once(news: &mut Vec<Skipped>, skipped: Vec<Skipped>, named: &[HostPort]) {
    for left in skipped {
        if !named.contains(&left.entry_node)
            && !news.iter().any(|other| other.entry_node == left.entry_node)
        {
            news.push(left);
        }
    }
}

/// Has no more part in what holds the reference tables.
async fn leave(references: Option<references::Part>, place: &Place<'_>) {
    if let Some(part) = references
        && let Some(session) = part.leave().await
    {
        place.give_back(session);
    }
}

async fn roll_back(session: &mut Connection) -> Result<(), SqlError> {
    session.run_within("ROLLBACK", RELEASE).await
}
