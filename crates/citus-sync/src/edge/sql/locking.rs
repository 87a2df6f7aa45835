//! Takes a group's shard locks, with patience: writers that are in the way are waited for, and
//! terminated after a cooldown, from a second session. Whoever cannot get out of the way by waiting
//! is seen to earlier.
//!
//! We terminate them ourselves, because what Citus offers for it (`force`) cannot tell writers from
//! another group's hold, takes a background worker each time, and tells nobody whom it ended.

use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use dcs_watch::text::{NAME_BYTES, excerpt};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::connect::GRACE;
use super::references::{Part, References};
use super::steps::StepError;
use super::{Connection, Database, EntryNodes, SqlError};
use citus_core::sql::{
    APPLICATION, Dialect, HAS_REFERENCE_TABLES, ShardLocks, Shards, terminate_blockers,
    untangle_blockers,
};

/// How long the locks are waited for at one go before the cooldown is over. Then they are given up and
/// asked for again, so that a writer of several shards, who met us half-way, gets what it wants. Less
/// than `deadlock_timeout` (1 s): PostgreSQL would end one of the two, and that may be the writer.
const TRY: Duration = Duration::from_millis(500);

/// How long they are waited for once the cooldown is over: whoever is being terminated rolls back
/// first. All this time new writers queue behind us.
const AFTER_COOLDOWN: Duration = Duration::from_secs(2);

/// How long the locks are waited for before anybody asks who is in the way. Nearly every writer is
/// gone by then; and a primary that Patroni stops has some 200 ms left.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// Pause between looks at who is in the way.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a look may take, terminating included.
const LOOK: Duration = Duration::from_secs(1);

/// Deadlocks that end us once the cooldown is over, before the error is given back.
const DEADLOCKS: u32 = 5;

/// Where a lock is wanted, and where a second session there comes from.
pub(super) enum Place<'a> {
    Coordinator(&'a Database),
    EntryNode {
        entry_nodes: &'a EntryNodes,
        address: &'a HostPort,
        database: &'a Arc<str>,
    },
}

impl Place<'_> {
    async fn second_session(&self) -> Result<Connection, SqlError> {
        match self {
            Self::Coordinator(database) => database.aside().await.map(|(session, _)| session),
            Self::EntryNode {
                entry_nodes,
                address,
                database,
            } => entry_nodes.session(address, database).await,
        }
    }

    fn references(&self) -> References {
        match self {
            Self::Coordinator(database) => database.references().clone(),
            Self::EntryNode {
                entry_nodes,
                address,
                database,
            } => entry_nodes.references(address, database),
        }
    }

    pub(super) fn give_back(&self, session: Connection) {
        match self {
            Self::Coordinator(database) => database.put_back(session),
            Self::EntryNode {
                entry_nodes,
                database,
                ..
            } => entry_nodes.put_back(database, session),
        }
    }

    fn database(&self) -> &str {
        match self {
            Self::Coordinator(database) => &database.name,
            Self::EntryNode { database, .. } => database,
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

impl LockOrder<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The session's name while it has these locks.
    fn session_name(&self, shards: Shards) -> String {
        let name = match shards {
            Shards::OfGroup(_) => self.name,
            Shards::OfReferenceTables => "hold reference tables",
        };
        format!("{APPLICATION}: {name}")
    }

    fn text(&self, shards: Shards, wait: Duration) -> Result<String, StepError> {
        let locks = ShardLocks {
            shards,
            wait,
            left: self.left(),
        };
        let text = self.dialect.lock_shards(&locks);
        text.ok_or_else(|| StepError::Unsupported(self.dialect.version.clone()))
    }
}

/// Locks that were taken.
pub(super) struct Locked {
    /// Who had to be terminated for it.
    pub(super) terminated: Vec<String>,
    /// The part in those of reference tables, where they were wanted and there are such tables.
    pub(super) references: Option<Part>,
}

/// What a round may take.
#[derive(Clone, Copy)]
struct Round {
    /// The cooldown is not over: nobody is terminated, and who meets us half-way gets his way.
    patient: bool,
    wait: Duration,
}

/// Leaves `session` in a transaction that has the group's locks, and joins those who hold reference
/// tables, or begins to.
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
    let references = order.references
        && (place.references().are_held() || session.boolean(HAS_REFERENCE_TABLES).await?);
    loop {
        if order.left().is_zero() {
            return Err(too_late(begun).into());
        }
        let patience = order.cooldown.saturating_sub(begun.elapsed());
        let patient = !patience.is_zero();
        let wait = if patient {
            patience.min(TRY)
        } else {
            AFTER_COOLDOWN
        };
        let round = Round { patient, wait };
        // Reference tables last, so that they are asked for only by whoever has all the rest.
        let own = Shards::OfGroup(order.group);
        let mut result = take(session, place, order, own, round, &mut terminated)
            .await
            .map(|()| None);
        if references && result.is_ok() {
            let address = session.address.clone();
            result = reference_tables(&address, place, order, round, &mut terminated).await;
        }
        let error = match result {
            Ok(references) => {
                return Ok(Locked {
                    terminated,
                    references,
                });
            }
            Err(StepError::Sql(error)) => error,
            Err(error) => return Err(error),
        };
        let again = if patient {
            error.is_lock_timeout() || error.is_deadlock() || error.is_cancelled()
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
    let look = if round.patient {
        tokio::select! {
            locked = &mut locking => return Ok(locked?),
            () = sleep(FIRST_LOOK) => untangle_blockers(pid),
        }
    } else {
        terminate_blockers(pid)
    };
    let mut blockers = Blockers::new(look, round.patient);
    let locked = see_to(locking, place, order, &address, &mut blockers, terminated).await;
    Ok(locked?)
}

/// Joins those who hold the reference tables at `address`, without asking for a lock; whoever is
/// first takes them, in a session of their own.
async fn reference_tables(
    address: &HostPort,
    place: &Place<'_>,
    order: &LockOrder<'_>,
    round: Round,
    terminated: &mut Vec<String>,
) -> Result<Option<Part>, StepError> {
    let begun = Instant::now();
    let references = place.references();
    let turn = timeout(order.left(), references.turn()).await;
    let _turn = turn.map_err(|_| too_late(begun))?;
    let database = place.database();
    if let Some(part) = references.join(database, address, order.deadline).await {
        return Ok(Some(part));
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
    Ok(Some(references.keep(database, session, order.deadline)))
}

/// One short try, which terminates nobody; whether `session` is in a transaction that has the locks.
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
        Err(error) if error.is_lock_timeout() || error.is_deadlock() || error.is_cancelled() => {
            session.run("ROLLBACK").await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits for the locks, and sees to who is in the way.
async fn see_to(
    mut locking: Pin<&mut impl Future<Output = Result<(), SqlError>>>,
    place: &Place<'_>,
    order: &LockOrder<'_>,
    address: &HostPort,
    blockers: &mut Blockers,
    ended: &mut Vec<String>,
) -> Result<(), SqlError> {
    let second = tokio::select! {
        locked = &mut locking => return locked,
        second = place.second_session() => second,
    };
    let mut second = match second {
        Ok(second) => second,
        // Whoever is in the way may still go by himself.
        Err(error) => {
            let locked = locking.await;
            return locked
                .map_err(|locked| locked.saying(&format!("nobody could be terminated: {error}")));
        }
    };
    let locked = loop {
        // Its answer is waited for even if the locks are there before it: it tells whom we ended.
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
        for who in ended_now? {
            if blockers.gently {
                info!(
                    database = place.database(), %address,
                    "cancelled the statement of {who}: it waits in the hold of another group, and {} waits for it",
                    order.name
                );
                ended.push(format!("{who}: statement cancelled"));
            } else {
                info!(
                    database = place.database(), %address,
                    "terminated {who}: it was in the way of {} for longer than {} ms",
                    order.name, order.cooldown.as_millis()
                );
                ended.push(who);
            }
        }
        if let Some(locked) = locked {
            break locked;
        }
        tokio::select! {
            locked = &mut locking => break locked,
            () = sleep(LOOK_AGAIN) => {}
        }
    };
    place.give_back(second);
    locked.map_err(|error| blockers.name(error))
}

/// Who is in the way of one backend.
struct Blockers {
    query: String,
    /// Nobody is terminated, and that we may not end a statement is no error: there is time left.
    gently: bool,
    /// Process ids of those that were told to end.
    seen: BTreeSet<String>,
    /// Those that were there at the last look and were not ended, in words.
    spared: Vec<String>,
}

impl Blockers {
    fn new(query: String, gently: bool) -> Self {
        Self {
            query,
            gently,
            seen: BTreeSet::new(),
            spared: Vec::new(),
        }
    }

    /// Ends those that may be ended; says who they are, each once.
    async fn end(&mut self, session: &mut Connection) -> Result<Vec<String>, SqlError> {
        let rows = session.rows_within(&self.query, LOOK).await;
        if self.gently && rows.as_ref().is_err_and(SqlError::is_about_rights) {
            return Ok(vec![]);
        }
        let rows = rows.map_err(|error| {
            if error.is_about_rights() {
                error.saying(
                    "somebody is in the way whom our role may not terminate: grant it \
                     pg_signal_backend, or make it a superuser",
                )
            } else {
                error
            }
        })?;
        // Nobody, when we have given up waiting meanwhile: then it is they who were there before.
        if !rows.is_empty() {
            self.spared.clear();
        }
        let mut ended = Vec::new();
        for row in rows {
            let (Some(pid), Some(who)) = (row.get(0), row.get(1)) else {
                continue;
            };
            // A role's name may hold anything.
            let who = excerpt(who, NAME_BYTES).into_owned();
            if row.get(2) != Some("t") {
                self.spared.push(who);
            } else if self.seen.insert(pid.to_owned()) {
                ended.push(who);
            }
        }
        Ok(ended)
    }

    fn name(&self, error: SqlError) -> SqlError {
        if self.spared.is_empty() {
            error
        } else {
            error.saying(&format!("in the way: {}", self.spared.join(", ")))
        }
    }
}
