//! A hold: one open transaction on the coordinator and one on each door, in which writes to one
//! group's shards wait.
//!
//! It does not touch `pg_dist_node` until its end, so that groups are held side by side. The
//! server itself ends it at its deadline (rule 2): what was held is given back even if this process
//! is frozen, or its host is gone.

use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use futures_util::future::join_all;
use tokio::join;

use super::doors::{Part, side_by_side};
use super::everywhere::{Signal, decide, followers, mark_left_out};
use super::locking::{LockOrder, Locked, Place, lock};
use super::pool::Leased;
use super::references;
use super::steps::{Finished, LeftOut, Phases, StepError};
use super::update::{Change, Inside};
use super::{Connection, Database, Doors, SqlError};
use crate::plan::Move;

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

/// How long a session may take to give its locks back before it is dropped, which gives them back
/// as well as soon as the server hears of it.
const RELEASE: Duration = Duration::from_secs(1);

/// An open hold. Dropping it closes its sessions, which releases everything.
#[derive(Debug)]
pub struct Hold {
    group: i32,
    deadline: Instant,
    coordinator: Leased,
    /// Reference tables are held by a session that all holds here have together.
    references: Option<references::Part>,
    doors: Doors,
    held: Vec<HeldDoor>,
    left_out: Vec<LeftOut>,
    terminated: Vec<String>,
}

/// What holds one door.
#[derive(Debug)]
struct HeldDoor {
    door: HostPort,
    session: Connection,
    references: Option<references::Part>,
}

impl Hold {
    /// Holds coordinator and doors concurrently. A door that is not held within 300 ms after the
    /// coordinator is, is left out. May be dropped half-way: then nothing stays held.
    ///
    /// # Errors
    ///
    /// The coordinator cannot be held. Nothing is held then.
    pub async fn take(
        database: &Database,
        doors: &Doors,
        order: &HoldOrder,
    ) -> Result<Self, StepError> {
        let deadline = Instant::now() + order.left;
        let dialect = database.dialect()?;
        let name = format!("hold {}", order.name);
        let locks = LockOrder {
            dialect: &dialect,
            group: order.group,
            references: true,
            name: &name,
            deadline,
            cooldown: order.cooldown,
        };
        let locks = &locks;
        let parts = order
            .doors
            .iter()
            .map(|door| {
                let part: Part<'_, (Connection, Locked)> = Box::pin(async move {
                    let mut session = doors.session(door, &database.name).await?;
                    let place = door_place(doors, door, database);
                    let locked = lock(&mut session, &place, locks).await?;
                    Ok((session, locked))
                });
                (door.clone(), part)
            })
            .collect();
        let coordinator = async {
            let (mut session, _) = database.acquire_for_hold().await?;
            let locked = lock(&mut session, &Place::Coordinator(database), locks).await?;
            Ok((session, locked))
        };
        let ((coordinator, locked), done, left_out) = side_by_side(coordinator, parts).await?;
        let Locked {
            mut terminated,
            references,
        } = locked;
        let mut held = Vec::with_capacity(done.len());
        for (door, (session, locked)) in done {
            let more = locked.terminated.into_iter();
            terminated.extend(more.map(|who| format!("{who} at door {door}")));
            held.push(HeldDoor {
                door,
                session,
                references: locked.references,
            });
        }
        Ok(Self {
            group: order.group,
            deadline,
            coordinator,
            references,
            doors: doors.clone(),
            held,
            left_out,
            terminated,
        })
    }

    /// Completes when the coordinator's holding session closes: the coordinator is gone, or its
    /// own timeouts ended the hold.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        self.coordinator.closing()
    }

    /// The doors that are held.
    pub fn doors(&self) -> Vec<HostPort> {
        self.held.iter().map(|held| held.door.clone()).collect()
    }

    /// The doors that are not, and why.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Who had to be ended, in words.
    pub fn terminated(&self) -> &[String] {
        &self.terminated
    }

    /// Rolls everything back, concurrently. A session that does not answer within a second is
    /// dropped.
    pub async fn release(self, database: &Database) {
        let Self {
            mut coordinator,
            references,
            doors,
            held,
            ..
        } = self;
        let place = Place::Coordinator(database);
        let shared = leave(references, &place);
        let coordinator = async {
            if roll_back(&mut coordinator).await.is_ok() {
                database.release(coordinator);
            }
        };
        let held = held.into_iter().map(async |held| {
            let HeldDoor {
                door,
                mut session,
                references,
            } = held;
            let place = door_place(&doors, &door, database);
            let own = async {
                if roll_back(&mut session).await.is_ok() {
                    place.give_back(session);
                }
            };
            join!(own, leave(references, &place));
        });
        join!(coordinator, shared, join_all(held));
    }

    /// Moves the row inside the holding transaction and commits; once that is done, the doors
    /// (`targets`) concurrently, whether they were held or not. The locks are gone afterwards,
    /// whatever the result. `still_right` is asked right before.
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
        let (signaller, signal) = Signal::new();
        let is_held = |door: &HostPort| self.held.iter().any(|held| held.door == *door);
        let others = targets.iter().filter(|door| plain && !is_held(door));
        let mut parts = followers(doors, database, others, change, &signal);
        for held in self.held {
            let HeldDoor {
                door,
                mut session,
                references,
            } = held;
            let signal = signal.clone();
            let moves = plain && targets.contains(&door);
            let at = door.clone();
            let part: Part<'_, ()> = Box::pin(async move {
                if signal.moved().await && moves {
                    match change.make(&mut session, inside, || true).await {
                        // Started anew meanwhile, which ended the hold there: as one that was
                        // never held.
                        Err(_) if !session.is_usable() => {
                            session = doors.session(&at, &database.name).await?;
                            change.make(&mut session, Inside::Own, || true).await?;
                        }
                        made => made?,
                    }
                } else {
                    roll_back(&mut session).await?;
                }
                let place = door_place(doors, &at, database);
                place.give_back(session);
                leave(references, &place).await;
                Ok(())
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
        Ok(Finished {
            phases: Phases {
                locked: Duration::ZERO,
                committed: committed.duration_since(started),
                forced: !self.terminated.is_empty(),
            },
            left_out,
            terminated: Vec::new(),
            plain: plain && dialect.has_metadata(),
        })
    }
}

fn door_place<'a>(doors: &'a Doors, address: &'a HostPort, database: &'a Database) -> Place<'a> {
    Place::Door {
        doors,
        address,
        database: &database.name,
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
