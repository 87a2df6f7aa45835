//! The doors' part of a hold. Each door is held by a task of its own, which begins with the hold and
//! may take longer than the coordinator: a door that is slow, silent or busy delays nobody else
//! (rule 9), and its writers are waited for as patiently as the coordinator's.
//!
//! A hold that is lost with the coordinator does not let its doors go: their rows may point at a
//! standby. They are kept for the hold that is taken again, by the same deadline.
//!
//! Enters: the order of a hold, where reads were sent meanwhile, and that the leader is gone. Leaves:
//! the doors that are held by now, those that could not be, and those that have not followed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::doors::{DOOR_PATIENCE, Whose};
use super::hold::HoldOrder;
use super::known_doors::{DoorNews, Known, LastState, State};
use super::late::Late;
use super::locking::{Place, lock};
use super::references::Part;
use super::steps::{LeftOut, StepError};
use super::{Connection, Database, Doors};
use citus_core::sql::Dialect;

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

impl HeldDoors {
    fn none() -> Self {
        Self {
            since: Instant::now(),
            tasks: JoinSet::new(),
            known: Known::default(),
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
        self.known.look().is_quiet()
    }

    pub(super) fn known(&self) -> Known {
        self.known.clone()
    }

    pub(super) fn held(&self) -> Vec<HostPort> {
        let state = self.known.look();
        state.held.iter().map(|held| held.door.clone()).collect()
    }

    /// Those that are being taken.
    pub(super) fn under_way(&self) -> Vec<HostPort> {
        self.known.look().under_way.clone()
    }

    pub(super) fn left_out(&self) -> Vec<LeftOut> {
        self.known.look().left_out.clone()
    }

    pub(super) fn terminated(&self) -> Vec<String> {
        self.known.look().terminated.clone()
    }

    /// What was not told yet.
    pub(super) fn news(&self) -> DoorNews {
        let mut news = DoorNews::default();
        self.known.tell(|state| news = state.news());
        news
    }

    /// The leader takes no writes any more: nothing keeps a door there.
    pub(super) fn leader_is_gone(&self) {
        self.known.leader_is_gone();
    }

    /// Calls off what is under way; what is held is the caller's to end.
    pub(super) fn end(mut self) -> LastState {
        self.tasks.abort_all();
        let had_time = self.since.elapsed() >= DOOR_PATIENCE;
        let mut last = LastState::default();
        self.known.tell(|state| last = state.end(had_time));
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
