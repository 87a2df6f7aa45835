//! A hold: one open transaction on the coordinator and one on each door, in which writes to one
//! group's shards wait.
//!
//! It does not touch `pg_dist_node` until its end, so that groups are held side by side. The
//! server itself ends it at its deadline (rule 2): what was held is given back even if this process
//! is frozen, or its host is gone.

use std::time::{Duration, Instant};

use dcs_watch::HostPort;

use super::doors::{Part, side_by_side};
use super::everywhere::{Signal, decide, follow, followers, mark_left_out};
use super::held_doors::{HeldDoor, HeldDoors, Taking, place};
use super::known_doors::{DoorNews, LastState};
use super::locking::{LockOrder, Locked, Place, lock};
use super::pool::Leased;
use super::reads::ReadsUnderHold;
use super::references;
use super::steps::{Finished, LeftOut, Phases, StepError};
use super::update::{Change, Inside};
use super::{Connection, Database, Doors, SqlError};
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
    /// The doors to hold beside the coordinator.
    pub doors: Vec<HostPort>,
    /// For `application_name` in `pg_stat_activity`: "group 1".
    pub name: String,
}

impl HoldOrder {
    pub(super) fn session_name(&self) -> String {
        format!("hold {}", self.name)
    }

    /// The locks that it wants, on the coordinator and on each door alike.
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

/// How long a hold that has the coordinator waits for doors that are just about done. Whoever asked for
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
    doors: Doors,
    held: HeldDoors,
    /// Who had to be ended on the coordinator.
    terminated: Vec<String>,
}

impl Hold {
    /// Holds coordinator and doors concurrently. It is there as soon as the coordinator is held, and
    /// those doors that are done a moment later; the others go on being taken, and join it when they
    /// are. Doors that were [kept](Hold::keep_doors) are held already. May be dropped half-way: then
    /// nothing else stays held.
    ///
    /// # Errors
    ///
    /// The coordinator cannot be held. Nothing is held then, but for doors that were kept.
    pub async fn take(
        database: &Database,
        doors: &Doors,
        order: &HoldOrder,
    ) -> Result<Self, StepError> {
        let deadline = Instant::now() + order.left;
        let dialect = database.dialect()?;
        let taking = Taking::begin(database, doors, &dialect, order, deadline);
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
            doors: doors.clone(),
            held,
            terminated,
        })
    }

    /// Completes when the coordinator's holding session closes: the coordinator is gone, or its
    /// own timeouts ended the hold.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        self.coordinator.closing()
    }

    /// Completes when it is known of each door whether it is held, or when the hold is over.
    pub fn doors_are_known(&self) -> impl Future<Output = ()> + Send + 'static {
        self.held.settled()
    }

    /// Completes when no door is about to be held, or about to follow a read move; or when the hold is
    /// over.
    pub fn doors_are_quiet(&self) -> impl Future<Output = ()> + Send + 'static {
        self.held.quiet()
    }

    /// Whether no door is about to be held, or about to follow a read move.
    pub fn is_quiet(&self) -> bool {
        self.held.is_quiet()
    }

    /// The doors that are held by now.
    pub fn doors(&self) -> Vec<HostPort> {
        self.held.held()
    }

    /// The doors that could not be held, and why.
    pub fn left_out(&self) -> Vec<LeftOut> {
        self.held.left_out()
    }

    /// The doors that are being taken, and may join yet.
    pub fn doors_under_way(&self) -> Vec<HostPort> {
        self.held.under_way()
    }

    /// What became of the doors, as far as it was not told yet.
    pub fn door_news(&self) -> DoorNews {
        self.held.news()
    }

    /// Who had to be ended, in words, doors included.
    pub fn terminated(&self) -> Vec<String> {
        let coordinator = self.terminated.iter().cloned();
        coordinator.chain(self.held.terminated()).collect()
    }

    /// Whom it had to end on the coordinator, in words.
    pub fn terminated_at_coordinator(&self) -> &[String] {
        &self.terminated
    }

    /// The leader takes no writes any more: reads of doors that are not held follow those that were
    /// moved.
    pub fn leader_is_gone(&self) {
        self.held.leader_is_gone();
    }

    /// What moves reads while this hold is open.
    pub fn reads(&self, database: &Database) -> ReadsUnderHold {
        ReadsUnderHold {
            database: database.clone(),
            doors: self.doors.clone(),
            group: self.group,
            known: self.held.known(),
        }
    }

    /// The coordinator closed its session. The doors stay held until this group is held again in this
    /// database, it is [let go](Doors::let_go), or the deadline passes: reads may be at a standby by now,
    /// where their writes would fail.
    pub fn keep_doors(self, database: &Database) {
        let whose = (self.group, database.name.clone());
        self.doors.keep(whose, self.held);
    }

    /// Rolls everything back, concurrently; at doors whose reads did not follow the coordinator's yet,
    /// they do now. A session that does not answer within a second, and a door that takes 300 ms longer
    /// than the coordinator, is dropped. What had become of the doors, as far as it was not told.
    pub async fn release(self, database: &Database) -> DoorNews {
        let Self {
            group,
            deadline,
            mut coordinator,
            references,
            doors,
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
        let change_at = |door: &HostPort| {
            let dialect = dialect.as_deref()?;
            let step = behind.get(door)?;
            Some(Change {
                database: &database.name,
                dialect,
                group,
                step,
            })
        };
        let is_held = |door: &HostPort| held.iter().any(|held| held.door == *door);
        let mut parts: Vec<(HostPort, Part<'_, ()>)> = Vec::new();
        for door in behind.keys().filter(|door| !is_held(door)) {
            if let Some(change) = change_at(door) {
                let (signaller, signal) = Signal::new();
                // The coordinator's row is moved already.
                signaller.send_replace(Some(true));
                let part = follow(&doors, database, door, change, signal);
                parts.push((door.clone(), part));
            }
        }
        for held in held {
            let change = change_at(&held.door);
            let door = held.door.clone();
            let part = end_at_door(&doors, database, held, change, Inside::Held(deadline));
            parts.push((door, Box::pin(part)));
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
        let left_out = match side_by_side(coordinator, parts).await {
            Ok(((), _, left_out)) => left_out,
            Err(_) => Vec::new(),
        };
        let left_out = left_out.into_iter();
        let left_out: Vec<LeftOut> = left_out
            .filter(|left| behind.contains_key(&left.door))
            .collect();
        if let Some(dialect) = &dialect {
            mark_left_out(database, dialect, &left_out).await;
        }
        name_once(&mut news.left_out, left_out, &named);
        news
    }

    /// Moves the row inside the holding transaction and commits; once that is done, the doors
    /// (`targets`) concurrently, whether they were held or not. The locks are gone afterwards,
    /// whatever the result. Tells what [`Hold::door_news`] has not. `still_right` is asked right
    /// before.
    ///
    /// # Errors
    ///
    /// [`StepError`]; unless it is `Ambiguous`, the coordinator's rows are as they were.
    pub async fn finish(
        self,
        database: &Database,
        doors: &Doors,
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
        let is_held = |door: &HostPort| held.iter().any(|held| held.door == *door);
        let others = targets.iter().filter(|door| plain && !is_held(door));
        let mut parts = followers(doors, database, others, change, &signal);
        for held in held {
            let signal = signal.clone();
            let door = held.door.clone();
            let follows = plain && targets.contains(&door);
            let part: Part<'_, ()> = Box::pin(async move {
                let moved = signal.moved().await;
                let change = (moved && follows).then_some(change);
                end_at_door(doors, database, held, change, inside).await
            });
            parts.push((door, part));
        }
        let (session, mut references) = (self.coordinator, self.references);
        // If it fails the doors go on all the same: they give back what they hold.
        let coordinator = async {
            if !plain {
                // Citus's own function wants them for itself, and would wait for us.
                leave(references.take(), &Place::Coordinator(database)).await;
            }
            let decided = decide(database, session, change, inside, signaller, still_right).await;
            leave(references, &Place::Coordinator(database)).await;
            Ok(decided)
        };
        let (decided, _, left_out) = side_by_side(coordinator, parts).await?;
        let committed = decided?;
        if plain {
            mark_left_out(database, &dialect, &left_out).await;
        }
        let mut all_left_out = news.left_out;
        name_once(&mut all_left_out, left_out, &named);
        Ok(Finished {
            phases: Phases {
                locked: Duration::ZERO,
                committed: committed.duration_since(started),
                forced: !self.terminated.is_empty(),
            },
            left_out: all_left_out,
            terminated: news.terminated,
            plain: plain && dialect.has_metadata(),
        })
    }
}

/// The end of a hold at one door: with the move of its row, or without.
async fn end_at_door(
    doors: &Doors,
    database: &Database,
    held: HeldDoor,
    change: Option<Change<'_>>,
    inside: Inside,
) -> Result<(), StepError> {
    let HeldDoor {
        door,
        mut session,
        references,
    } = held;
    match change {
        None => roll_back(&mut session).await?,
        Some(change) => match change.make(&mut session, inside, || true).await {
            // Started anew meanwhile, which ended the hold there: as one that was never held.
            Err(_) if !session.is_usable() => {
                session = doors.session(&door, &database.name).await?;
                change.make(&mut session, Inside::Own, || true).await?;
            }
            made => made?,
        },
    }
    let place = place(doors, &door, database);
    place.give_back(session);
    leave(references, &place).await;
    Ok(())
}

/// Adds doors that did not follow to those that are to be told of, unless somebody was told of them.
fn name_once(news: &mut Vec<LeftOut>, left_out: Vec<LeftOut>, named: &[HostPort]) {
    for left in left_out {
        if !named.contains(&left.door) && !news.iter().any(|other| other.door == left.door) {
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
