//! Takes a group's shard locks, with patience: writers that are in the way are waited for, and
//! terminated after a cooldown, from a second session.
//!
//! We terminate them ourselves, because what Citus offers for it (`force`) cannot tell writers from
//! another group's hold, takes a background worker each time, and tells nobody whom it ended.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use tokio::time::sleep;
use tracing::info;

use super::connect::GRACE;
use super::steps::StepError;
use super::{Connection, Database, Doors, SqlError};
use crate::statements::{Dialect, ShardLocks, terminate_blockers};

/// How much longer than the cooldown locks are tried for: whoever is being terminated rolls back
/// first. Nearly all this time new writers queue behind us.
pub(super) const AFTER_COOLDOWN: Duration = Duration::from_secs(2);

/// How long one try waits for a lock. Shorter than PostgreSQL's `deadlock_timeout` (1 s): where a
/// transaction of many statements has one shard and wants another, and we have that and want the
/// first, it is we who give way, and the next try finds it done. Waiting longer, PostgreSQL or Citus
/// would end the client's transaction (`docs/citus.md`).
const TRY: Duration = Duration::from_millis(500);

/// Pause between looks at who is in the way once the cooldown is over.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Deadlocks before the error is given back. A writer of several shards meets us half-way;
/// our giving in lets it finish.
const DEADLOCKS: u32 = 5;

/// Where a lock is wanted, and where a second session there comes from.
pub(super) enum Place<'a> {
    Coordinator(&'a Database),
    Door {
        doors: &'a Doors,
        address: &'a HostPort,
        database: &'a Arc<str>,
    },
}

impl Place<'_> {
    async fn second_session(&self) -> Result<Connection, SqlError> {
        match self {
            Self::Coordinator(database) => database.aside().await.map(|(session, _)| session),
            Self::Door {
                doors,
                address,
                database,
            } => doors.session(address, database).await,
        }
    }

    fn give_back(&self, session: Connection) {
        match self {
            Self::Coordinator(database) => database.put_back(session),
            Self::Door {
                doors, database, ..
            } => doors.put_back(database, session),
        }
    }

    fn database(&self) -> &str {
        match self {
            Self::Coordinator(database) => &database.name,
            Self::Door { database, .. } => database,
        }
    }
}

/// The locks that are wanted.
pub(super) struct LockOrder<'a> {
    pub(super) dialect: &'a Dialect,
    pub(super) group: i32,
    /// Those of reference tables, too.
    pub(super) references: bool,
    /// What for: "hold group 1".
    pub(super) name: &'a str,
    /// When the server ends the transaction, whatever becomes of us.
    pub(super) deadline: Instant,
    /// How long writers are waited for before they are terminated.
    pub(super) cooldown: Duration,
}

/// Leaves `session` in a transaction that has the locks; says who had to be terminated for it.
///
/// After an error the session is in a failed transaction, or not usable.
pub(super) async fn lock(
    session: &mut Connection,
    place: &Place<'_>,
    order: &LockOrder<'_>,
) -> Result<Vec<String>, StepError> {
    let begun = Instant::now();
    let mut ended = Vec::new();
    let mut deadlocks = 0;
    loop {
        let left = order.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SqlError::Deadline {
                what: "taking the group's locks",
                after: begun.elapsed(),
            }
            .into());
        }
        let cooldown = order.cooldown.saturating_sub(begun.elapsed());
        let locks = ShardLocks {
            group: order.group,
            references: order.references,
            name: order.name,
            wait: TRY,
            left,
        };
        let text = order
            .dialect
            .lock_shards(&locks)
            .ok_or_else(|| StepError::Unsupported(order.dialect.version.clone()))?;
        match wait(session, place, order, &text, left, cooldown, &mut ended).await {
            Ok(()) => break,
            Err(error) if error.is_deadlock() && deadlocks < DEADLOCKS => {
                deadlocks += 1;
                session.run("ROLLBACK").await?;
            }
            Err(error)
                if error.is_lock_timeout() && begun.elapsed() < order.cooldown + AFTER_COOLDOWN =>
            {
                session.run("ROLLBACK").await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ended)
}

/// Waits for one attempt's locks, and terminates who is in the way when the cooldown is over.
async fn wait(
    session: &mut Connection,
    place: &Place<'_>,
    order: &LockOrder<'_>,
    text: &str,
    left: Duration,
    cooldown: Duration,
    ended: &mut Vec<String>,
) -> Result<(), SqlError> {
    let (pid, address) = (session.pid, session.address.clone());
    let mut locking = pin!(session.run_within(text, left + GRACE));
    tokio::select! {
        locked = &mut locking => return locked,
        () = sleep(cooldown) => {}
    }
    let mut second = None;
    let mut spared = BTreeSet::new();
    let ending = end_blockers(place, pid, &mut second, &mut spared, |who| {
        info!(
            database = place.database(), %address,
            "terminated {who}: it was in the way of {} for longer than {} ms",
            order.name, order.cooldown.as_millis()
        );
        ended.push(who);
    });
    let result = tokio::select! {
        locked = &mut locking => locked,
        error = ending => Err(error),
    };
    if let Some(second) = second {
        place.give_back(second);
    }
    result.map_err(|error| {
        if spared.is_empty() {
            error
        } else {
            let spared: Vec<String> = spared.into_iter().collect();
            error.saying(&format!("in the way: {}", spared.join(", ")))
        }
    })
}

/// Ends who is in the way of the backend `pid`, and again until it is dropped. Completes only when
/// that cannot be done.
async fn end_blockers(
    place: &Place<'_>,
    pid: i32,
    second: &mut Option<Connection>,
    spared: &mut BTreeSet<String>,
    mut note: impl FnMut(String),
) -> SqlError {
    let query = terminate_blockers(pid);
    let mut seen = BTreeSet::new();
    let session = match place.second_session().await {
        Ok(session) => second.insert(session),
        Err(error) => return error,
    };
    loop {
        let blockers = match session.rows(&query).await {
            Ok(blockers) => blockers,
            Err(error) if error.is_about_rights() => {
                return error.saying(
                    "somebody is in the way who is not ours to terminate: grant our role \
                     pg_signal_backend, or make it a superuser",
                );
            }
            Err(error) => return error,
        };
        spared.clear();
        for blocker in blockers {
            let Some(who) = blocker.get(1) else { continue };
            if blocker.get(2) != Some("t") {
                spared.insert(who.to_owned());
            } else if seen.insert(blocker.get(0).map(str::to_owned)) {
                note(who.to_owned());
            }
        }
        sleep(LOOK_AGAIN).await;
    }
}
