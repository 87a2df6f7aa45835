//! The doors' part of a hold. Each door is held by a task of its own, which begins with the hold and
//! may take longer than the coordinator: a door that is slow, silent or busy delays nobody else
//! (rule 9), and its writers are waited for as patiently as the coordinator's.
//!
//! A hold that is lost with the coordinator does not let its doors go: their rows may point at a
//! standby. They are kept for the hold that is taken again, by the same deadline.
//!
//! Enters: the order of a hold, where reads were sent meanwhile, and that the leader is gone. Leaves:
//! the doors that are held by now, those that could not be, and those that have not followed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::doors::{DOOR_PATIENCE, Whose};
use super::hold::HoldOrder;
use super::locking::{Place, lock};
use super::references::Part;
use super::steps::{LeftOut, StepError};
use super::update::{Change, Inside};
use super::{Connection, Database, Doors, SqlError};
use crate::plan::Move;
use crate::statements::{Dialect, FLUSHED, has_replayed};

/// Pause between questions how far a standby is.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// What has become of a hold's doors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorNews {
    /// How many are held by now.
    pub held: usize,
    /// Doors that were left out, and why, which was not told before. Each is told of once.
    pub left_out: Vec<LeftOut>,
    /// Who had to be ended there, in words, and was not told before.
    pub terminated: Vec<String>,
}

/// What holds one door.
#[derive(Debug)]
pub(super) struct HeldDoor {
    pub(super) door: HostPort,
    pub(super) session: Connection,
    pub(super) references: Option<Part>,
}

/// The doors of one hold. Dropping it calls off what is under way and lets go of the rest.
#[derive(Debug)]
pub(super) struct HeldDoors {
    since: Instant,
    tasks: JoinSet<()>,
    known: Known,
}

/// What is known of them; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Known(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    /// Those that are being taken.
    under_way: Vec<HostPort>,
    held: Vec<HeldDoor>,
    /// Those that were held when the hold was complete, which is when the leader is asked how much a
    /// standby has to have; and those that came later and have followed.
    in_time: Vec<HostPort>,
    left_out: Vec<LeftOut>,
    terminated: Vec<String>,
    /// How many of `left_out` and of `terminated` were told.
    told: (usize, usize),
    /// Doors that were not held in time when reads were moved, and where their row is to be.
    behind: BTreeMap<HostPort, Behind>,
    /// The leader that reads were taken from takes no writes any more.
    leader_is_gone: bool,
    /// The hold is.
    over: bool,
}

#[derive(Clone, Debug)]
struct Behind {
    step: Move,
    /// It was begun once.
    tried: bool,
    /// It did not come to anything, and is tried again at the end of the hold.
    failed: bool,
}

/// The doors at the end of a hold.
#[derive(Default)]
pub(super) struct LastState {
    /// The caller's to end.
    pub(super) held: Vec<HeldDoor>,
    /// Those whose row has yet to be moved.
    pub(super) behind: BTreeMap<HostPort, Move>,
    /// Those of which somebody was told that they are left out.
    pub(super) named: Vec<HostPort>,
    pub(super) news: DoorNews,
}

impl State {
    fn news(&mut self) -> DoorNews {
        let (left_out, terminated) = self.told;
        self.told = (self.left_out.len(), self.terminated.len());
        DoorNews {
            held: self.held.len(),
            left_out: self.left_out[left_out..].to_vec(),
            terminated: self.terminated[terminated..].to_vec(),
        }
    }

    /// A door was taken, or could not be.
    fn note(&mut self, door: HostPort, taken: Result<(HeldDoor, Vec<String>), StepError>) {
        if self.over {
            return;
        }
        self.under_way.retain(|other| *other != door);
        match taken {
            Ok((held, terminated)) => {
                let named = terminated
                    .into_iter()
                    .map(|who| format!("{who} at door {door}"));
                self.terminated.extend(named);
                self.held.push(held);
            }
            Err(error) if error.is_no_door() => {}
            Err(error) => self.left_out.push(LeftOut {
                door,
                error: error.to_string(),
            }),
        }
    }

    fn holds(&self, door: &HostPort) -> bool {
        self.held.iter().any(|held| held.door == *door)
    }

    /// Whether this door is held, being taken, or known not to be had.
    fn knows(&self, door: &HostPort) -> bool {
        self.holds(door)
            || self.under_way.contains(door)
            || self.left_out.iter().any(|left| left.door == *door)
    }

    /// Whether nothing is about to change: no door is being taken, and none that is held is about to
    /// follow a read move.
    fn is_quiet(&self) -> bool {
        let mut behind = self.behind.iter();
        self.under_way.is_empty() && behind.all(|(door, behind)| behind.failed || !self.holds(door))
    }

    /// Whether this door is to follow now.
    fn is_due(&self, door: &HostPort) -> bool {
        self.behind.get(door).is_some_and(|behind| !behind.tried)
            && (self.leader_is_gone || self.holds(door))
    }
}

impl Known {
    fn tell(&self, change: impl FnOnce(&mut State)) {
        self.0.send_modify(change);
    }

    /// Completes when it is so, or when the hold is over.
    async fn wait_for(&self, so: impl Fn(&State) -> bool) {
        let mut news = self.0.subscribe();
        // This is a sender itself, so there is one.
        let _ = news.wait_for(|state| state.over || so(state)).await;
    }

    /// Which of these doors follow a read move at once: those that were held in time.
    ///
    /// At one that is not held, writes would go to the standby with the reads, and fail. So its row
    /// stays for as long as the leader is there, which serves both. It follows when it is held, and the
    /// standby has what had been written through it; when the leader is gone; or at the end of the hold.
    pub(super) fn at_once(&self, targets: &[HostPort]) -> Vec<HostPort> {
        let state = self.0.borrow();
        let follows = |door: &&HostPort| {
            let in_time = state.in_time.contains(door);
            state.leader_is_gone || in_time && !state.behind.contains_key(*door)
        };
        targets.iter().filter(follows).cloned().collect()
    }

    /// The coordinator's row is moved; these doors follow later.
    pub(super) fn follow_later(&self, doors: impl IntoIterator<Item = HostPort>, step: &Move) {
        let behind = Behind {
            step: step.clone(),
            tried: false,
            failed: false,
        };
        let doors = doors.into_iter().map(|door| (door, behind.clone()));
        self.tell(|state| state.behind.extend(doors));
    }
}

impl HeldDoors {
    fn none() -> Self {
        Self {
            since: Instant::now(),
            tasks: JoinSet::new(),
            known: Known(Arc::new(watch::Sender::new(State::default()))),
        }
    }

    /// Begins to hold them; those that are `kept` of a hold that was lost are held already.
    pub(super) fn take(
        kept: Option<Self>,
        database: &Database,
        doors: &Doors,
        dialect: &Arc<Dialect>,
        order: &HoldOrder,
        deadline: Instant,
    ) -> Self {
        let mut all = kept.unwrap_or_else(Self::none);
        let mut missing = Vec::new();
        all.known.tell(|state| {
            let held =
                |held: &HeldDoor| held.session.is_usable() && order.doors.contains(&held.door);
            state.held.retain(held);
            let missed = order.doors.iter().filter(|door| !state.knows(door));
            missing.extend(missed.cloned());
            state.under_way.extend_from_slice(&missing);
        });
        for door in missing {
            let late = Late {
                database: database.clone(),
                doors: doors.clone(),
                dialect: dialect.clone(),
                group: order.group,
                door: door.clone(),
                known: all.known.clone(),
            };
            all.tasks.spawn(late.follow());
            let (database, doors, dialect) = (database.clone(), doors.clone(), dialect.clone());
            let (order, known) = (order.clone(), all.known.clone());
            all.tasks.spawn(async move {
                let taken = hold_door(&database, &doors, &dialect, &order, deadline, &door).await;
                known.tell(|state| state.note(door, taken));
            });
        }
        all
    }

    /// Waits for those that are just about done: they are in time.
    pub(super) async fn settle(&self, grace: Duration) {
        // Those that take longer come later.
        let _ = timeout(grace, self.settled()).await;
        self.known.tell(|state| {
            let held = state.held.iter();
            state.in_time = held.map(|held| held.door.clone()).collect();
        });
    }

    /// Completes when it is known of each door whether it is held, or when the hold is over.
    pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + 'static {
        let known = self.known.clone();
        async move { known.wait_for(|state| state.under_way.is_empty()).await }
    }

    /// Completes when no door is about to be held, or about to follow a read move; or when the hold is
    /// over.
    pub(super) fn quiet(&self) -> impl Future<Output = ()> + Send + 'static {
        let known = self.known.clone();
        async move { known.wait_for(State::is_quiet).await }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.known.0.borrow().is_quiet()
    }

    pub(super) fn known(&self) -> Known {
        self.known.clone()
    }

    pub(super) fn held(&self) -> Vec<HostPort> {
        let state = self.known.0.borrow();
        state.held.iter().map(|held| held.door.clone()).collect()
    }

    /// Those that are being taken.
    pub(super) fn under_way(&self) -> Vec<HostPort> {
        self.known.0.borrow().under_way.clone()
    }

    pub(super) fn left_out(&self) -> Vec<LeftOut> {
        self.known.0.borrow().left_out.clone()
    }

    pub(super) fn terminated(&self) -> Vec<String> {
        self.known.0.borrow().terminated.clone()
    }

    /// What was not told yet.
    pub(super) fn news(&self) -> DoorNews {
        let mut news = DoorNews::default();
        self.known.tell(|state| news = state.news());
        news
    }

    /// The leader takes no writes any more: nothing keeps a door there.
    pub(super) fn leader_is_gone(&self) {
        self.known.0.send_if_modified(|state| {
            let news = !state.leader_is_gone;
            state.leader_is_gone = true;
            news
        });
    }

    /// Calls off what is under way; what is held is the caller's to end.
    pub(super) fn end(mut self) -> LastState {
        self.tasks.abort_all();
        let patient = self.since.elapsed() >= DOOR_PATIENCE;
        let mut last = LastState::default();
        self.known.tell(|state| {
            state.over = true;
            let named = state.left_out.iter().map(|left| left.door.clone());
            let named = named.collect();
            // Who had no time to be held is not at fault, and nobody has to look after it.
            for door in state.under_way.drain(..).filter(|_| patient) {
                state.left_out.push(LeftOut {
                    door,
                    error: "was not held before the hold ended".to_owned(),
                });
            }
            let news = state.news();
            let behind = std::mem::take(&mut state.behind).into_iter();
            last = LastState {
                held: std::mem::take(&mut state.held),
                behind: behind.map(|(door, behind)| (door, behind.step)).collect(),
                named,
                news,
            };
        });
        last
    }
}

/// The doors of a hold that is being taken. Unless it comes to that, those of a hold that was lost are
/// kept on.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    doors: &'a Doors,
    whose: Whose,
    were_kept: bool,
    held: HeldDoors,
}

impl<'a> Taking<'a> {
    pub(super) fn begin(
        database: &Database,
        doors: &'a Doors,
        dialect: &Arc<Dialect>,
        order: &HoldOrder,
        deadline: Instant,
    ) -> Self {
        let whose = (order.group, database.name.clone());
        let kept = doors.take_kept(&whose);
        Self {
            doors,
            whose,
            were_kept: kept.is_some(),
            held: HeldDoors::take(kept, database, doors, dialect, order, deadline),
        }
    }

    /// The coordinator is held.
    pub(super) fn taken(mut self) -> HeldDoors {
        self.were_kept = false;
        std::mem::replace(&mut self.held, HeldDoors::none())
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if self.were_kept {
            let held = std::mem::replace(&mut self.held, HeldDoors::none());
            self.doors.keep(self.whose.clone(), held);
        }
    }
}

impl Drop for HeldDoors {
    fn drop(&mut self) {
        // Whoever else knows of them does not keep them.
        let mut held = Vec::new();
        self.known.tell(|state| {
            state.over = true;
            held = std::mem::take(&mut state.held);
        });
    }
}

async fn hold_door(
    database: &Database,
    doors: &Doors,
    dialect: &Dialect,
    order: &HoldOrder,
    deadline: Instant,
    door: &HostPort,
) -> Result<(HeldDoor, Vec<String>), StepError> {
    let mut session = doors.session(door, &database.name).await?;
    let place = place(doors, door, database);
    let name = order.session_name();
    let locked = lock(&mut session, &place, &order.locks(dialect, &name, deadline)).await?;
    let held = HeldDoor {
        door: door.clone(),
        session,
        references: locked.references,
    };
    Ok((held, locked.terminated))
}

/// A door that may be held too late for a read move, and follows then.
struct Late {
    database: Database,
    doors: Doors,
    dialect: Arc<Dialect>,
    group: i32,
    door: HostPort,
    known: Known,
}

impl Late {
    /// For as long as the hold is open. Who fails is tried again at its end.
    async fn follow(self) {
        loop {
            self.known.wait_for(|state| state.is_due(&self.door)).await;
            let mut step = None;
            self.known.tell(|state| {
                if let Some(behind) = state.behind.get_mut(&self.door) {
                    behind.tried = true;
                    step = Some(behind.step.clone());
                }
            });
            let Some(step) = step else {
                return;
            };
            tokio::select! {
                () = self.caught_up(&step) => {}
                () = self.known.wait_for(|state| state.leader_is_gone) => {}
            }
            if self.known.0.borrow().over {
                return;
            }
            let moved = self.move_row(&step).await.is_ok();
            self.known.tell(|state| {
                // Unless reads were moved once more meanwhile.
                let behind = state.behind.get_mut(&self.door);
                let Some(behind) = behind.filter(|behind| behind.step == step) else {
                    return;
                };
                if moved {
                    state.behind.remove(&self.door);
                    state.in_time.push(self.door.clone());
                } else {
                    behind.failed = true;
                }
            });
        }
    }

    /// Completes when the standby shows whatever was written through this door before it was held; not
    /// at all if that cannot be known.
    async fn caught_up(&self, step: &Move) {
        let known = async {
            let mut leader = self.doors.open(&step.from, &self.database.name).await?;
            let mut standby = self.doors.open(&step.to, &self.database.name).await?;
            let rows = leader.rows(FLUSHED).await?;
            let flushed = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
            let question = has_replayed(flushed);
            while !standby.boolean(&question).await? {
                sleep(ASK_AGAIN).await;
            }
            Ok::<(), SqlError>(())
        };
        if known.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// On a session beside the one that may hold the door.
    async fn move_row(&self, step: &Move) -> Result<(), StepError> {
        let change = Change {
            database: &self.database.name,
            dialect: &self.dialect,
            group: self.group,
            step,
        };
        let mut session = self.doors.session(&self.door, &self.database.name).await?;
        change.make(&mut session, Inside::Own, || true).await?;
        self.doors.put_back(&self.database.name, session);
        Ok(())
    }
}

/// A door as a place of locks.
pub(super) fn place<'a>(
    doors: &'a Doors,
    address: &'a HostPort,
    database: &'a Database,
) -> Place<'a> {
    Place::Door {
        doors,
        address,
        database: &database.name,
    }
}
