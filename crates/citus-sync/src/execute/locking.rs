//! Takes a group's shard locks, with patience.
//!
//! 1. Asks for the locks of the group's own shards, and waits. Nearly always that is all.
//! 2. After 50 ms, asks from a second session which sessions are in the way. While the cooldown
//!    runs writers are waited for; only a statement that waits in another group's hold is
//!    cancelled. A writer that has some of the locks and wants others gets them: everything is
//!    given back every half second and asked for again.
//! 3. Once the cooldown is over, terminates the writers that are still in the way.
//! 4. Takes the shards of reference tables, or joins the session that holds them already.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use citus_core::sql::{HAS_REFERENCE_TABLES, Shards};
use dcs_watch::HostPort;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::blockers::Blockers;
use super::error::StepError;
use super::order::LockOrder;
use super::place::Place;
use crate::session::{Connection, GRACE, Share, SqlError};

/// How long the locks are waited for at one go before the cooldown is over. Then they are given up
/// and asked for again, so that a writer of several shards that has some of them gets the rest.
/// Less than `deadlock_timeout` (1 s): PostgreSQL would end one of the two, and that may be the
/// writer.
const TRY: Duration = Duration::from_millis(500);

/// How long they are waited for once the cooldown is over: a terminated session rolls back first.
/// All this time new writers queue behind us.
const AFTER_COOLDOWN: Duration = Duration::from_secs(2);

/// How long the locks are waited for before we ask which sessions are in the way. Nearly every
/// writer is gone by then; and a primary that Patroni stops has some 200 ms left.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// Pause between looks at the sessions in the way.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Deadlocks that end us once the cooldown is over, before the error is given back.
const DEADLOCKS: u32 = 5;

/// Locks that were taken.
pub(super) struct Locked {
    /// The sessions that had to be ended for it, in words.
    pub(super) terminated: Vec<String>,
    /// The share in those of reference tables, where they were wanted and there are such tables.
    pub(super) reference_tables: Option<Share>,
}

/// What a round may take.
#[derive(Clone, Copy)]
struct Round {
    /// The cooldown is not over: no session is terminated, and a writer that has some of the locks
    /// already goes first.
    patient: bool,
    wait: Duration,
}

impl Round {
    fn begin(order: &LockOrder<'_>, begun: Instant) -> Self {
        let patience = order.cooldown.saturating_sub(begun.elapsed());
        let patient = !patience.is_zero();
        let wait = if patient {
            patience.min(TRY)
        } else {
            AFTER_COOLDOWN
        };
        Self { patient, wait }
    }
}

/// Leaves `session` in a transaction that has the group's locks, and has a share in those of
/// reference tables.
///
/// After an error the session is in a failed transaction, or not usable.
pub(super) async fn lock(
    session: &mut Connection,
    place: &Place<'_>,
    order: &LockOrder<'_>,
) -> Result<Locked, StepError> {
    let begun = Instant::now();
    let mut terminated = Vec::new();
    let mut deadlocks = 0;
    let with_reference_tables = order.reference_tables
        && (place.reference_tables().are_held() || session.boolean(HAS_REFERENCE_TABLES).await?);
    loop {
        if order.left().is_zero() {
            return Err(too_late(begun).into());
        }
        let round = Round::begin(order, begun);
        // Reference tables last, so that a session asks for them only when it has all the rest.
        let own = Shards::OfGroup(order.group);
        let mut result = take(session, place, order, own, round, &mut terminated)
            .await
            .map(|()| None);
        if with_reference_tables && result.is_ok() {
            let address = session.address.clone();
            result = reference_tables(&address, place, order, round, &mut terminated).await;
        }
        let error = match result {
            Ok(reference_tables) => {
                return Ok(Locked {
                    terminated,
                    reference_tables,
                });
            }
            Err(StepError::Sql(error)) => error,
            Err(error) => return Err(error),
        };
        let again = if round.patient {
            gives_way(&error)
        } else {
            deadlocks += 1;
            error.is_deadlock() && deadlocks < DEADLOCKS
        };
        if !again {
            return Err(error.into());
        }
        session.run("ROLLBACK").await?;
    }
}

/// One short try, which terminates no session; whether `session` is in a transaction that has the
/// locks.
///
/// After an error the session is in a failed transaction, or not usable.
pub(super) async fn try_lock(
    session: &mut Connection,
    order: &LockOrder<'_>,
) -> Result<bool, StepError> {
    let shards = Shards::OfGroup(order.group);
    let text = order.text(shards, order.cooldown.min(TRY))?;
    let name = order.session_name(shards);
    match session
        .run_named_within(&name, &text, order.left() + GRACE)
        .await
    {
        Ok(()) => Ok(true),
        Err(error) if gives_way(&error) => {
            session.run("ROLLBACK").await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the locks were not to be had for now, and nothing else is wrong.
fn gives_way(error: &SqlError) -> bool {
    error.is_lock_timeout() || error.is_deadlock() || error.is_cancelled()
}

fn too_late(begun: Instant) -> SqlError {
    let what = "taking the group's locks";
    let after = begun.elapsed();
    SqlError::Deadline { what, after }
}

/// One go for the locks of one kind.
async fn take(
    session: &mut Connection,
    place: &Place<'_>,
    order: &LockOrder<'_>,
    shards: Shards,
    round: Round,
    terminated: &mut Vec<String>,
) -> Result<(), StepError> {
    let text = order.text(shards, round.wait)?;
    let name = order.session_name(shards);
    let pid = session.pid;
    let address = session.address.clone();
    let mut locking = pin!(session.run_named_within(&name, &text, order.left() + GRACE));
    let mut blockers = if round.patient {
        tokio::select! {
            locked = &mut locking => return Ok(locked?),
            () = sleep(FIRST_LOOK) => Blockers::cancelled(pid),
        }
    } else {
        Blockers::terminated(pid)
    };
    let clearing = Clearing {
        place,
        order,
        address: &address,
    };
    Ok(clearing.until(locking, &mut blockers, terminated).await?)
}

/// Joins the session that holds the reference tables at `address`, without asking for a lock; the
/// first hold takes them, in a session of their own.
async fn reference_tables(
    address: &HostPort,
    place: &Place<'_>,
    order: &LockOrder<'_>,
    round: Round,
    terminated: &mut Vec<String>,
) -> Result<Option<Share>, StepError> {
    let begun = Instant::now();
    let tables = place.reference_tables();
    let turn = timeout(order.left(), tables.turn()).await;
    let _turn = turn.map_err(|_| too_late(begun))?;
    let database = place.database();
    if let Some(share) = tables.join(database, address, order.deadline).await {
        return Ok(Some(share));
    }
    let mut session = match place.second_session().await {
        Ok(session) => session,
        // Better than to hold nothing.
        Err(error) => {
            warn!(
                database, %address,
                "{}: no second session, so writes to reference tables go on: {error}", order.name
            );
            return Ok(None);
        }
    };
    let shards = Shards::OfReferenceTables;
    let taken = take(&mut session, place, order, shards, round, terminated).await;
    if let Err(error) = taken {
        if session.is_usable() && session.run("ROLLBACK").await.is_ok() {
            place.give_back(session);
        }
        return Err(error);
    }
    Ok(Some(tables.keep(database, session, order.deadline)))
}

/// Gets sessions out of the way while one of ours waits for its locks.
struct Clearing<'a> {
    place: &'a Place<'a>,
    order: &'a LockOrder<'a>,
    address: &'a HostPort,
}

impl Clearing<'_> {
    /// Waits for the locks, and looks again and again at what is in the way.
    async fn until(
        &self,
        mut locking: Pin<&mut impl Future<Output = Result<(), SqlError>>>,
        blockers: &mut Blockers,
        ended: &mut Vec<String>,
    ) -> Result<(), SqlError> {
        let second = tokio::select! {
            locked = &mut locking => return locked,
            second = self.place.second_session() => second,
        };
        let mut second = match second {
            Ok(second) => second,
            // The session in the way may still go of its own accord.
            Err(error) => {
                let more = format!("no session could be terminated: {error}");
                return locking.await.map_err(|locked| locked.saying(&more));
            }
        };
        let locked = loop {
            // The look's answer is waited for even if the locks are there before it: it says which
            // sessions we ended.
            let mut locked = None;
            let ended_now = {
                let mut look = pin!(blockers.end(&mut second));
                loop {
                    tokio::select! {
                        result = &mut locking, if locked.is_none() => locked = Some(result),
                        ended = &mut look => break ended,
                    }
                }
            };
            ended.extend(self.report(ended_now?, blockers.gently));
            if let Some(locked) = locked {
                break locked;
            }
            tokio::select! {
                locked = &mut locking => break locked,
                () = sleep(LOOK_AGAIN) => {}
            }
        };
        self.place.give_back(second);
        locked.map_err(|error| blockers.name(error))
    }

    /// Names in the log each session that was ended; what became of each, in words.
    fn report(&self, ended: Vec<String>, gently: bool) -> Vec<String> {
        let (database, address, name) = (self.place.database(), self.address, self.order.name);
        let cooldown = self.order.cooldown.as_millis();
        let report = |session: String| {
            if gently {
                info!(
                    database, %address,
                    "cancelled the statement of {session}: it waits in the hold of another group, and \
                     {name} waits for it"
                );
                format!("{session}: statement cancelled")
            } else {
                info!(
                    database, %address,
                    "terminated {session}: it was in the way of {name} for longer than \
                     {cooldown} ms"
                );
                session
            }
        };
        ended.into_iter().map(report).collect()
    }
}
