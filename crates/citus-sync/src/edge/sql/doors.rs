//! Sessions on doors: the worker leaders through which clients send queries, too. They are kept warm
//! or opened on demand, live on for a while, and a door that cannot be reached costs little (rule 9).

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dcs_watch::HostPort;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::SimpleQueryRow;

use super::held_doors::HeldDoors;
use super::references::References;
use super::steps::{LeftOut, StepError};
use super::{Connection, Login, SqlError};
use citus_core::plan::COORDINATOR_GROUP;
use citus_core::sql::primary_of;

/// How long a connect to a door may take, and its first answer. A door is left out sooner than it is
/// waited for.
const CONNECT: Duration = Duration::from_millis(300);

/// How much longer than the coordinator the doors may take for their part.
pub(super) const DOOR_PATIENCE: Duration = Duration::from_millis(300);

/// How long a session that nobody uses is kept: a hold is followed by a read move and its end on the
/// same doors, and one switchover by the next. Who [keeps them warm](Doors::keep_warm) comes in time.
const LINGER: Duration = Duration::from_secs(120);

/// A door, and a database there.
type Key = (HostPort, Arc<str>);

/// Whose doors: of which group, in which database.
pub(super) type Whose = (i32, Arc<str>);

/// Sessions on the doors of one formation; cheap to clone.
#[derive(Clone, Debug)]
pub struct Doors {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    login: Login,
    warm: Mutex<BTreeMap<Key, Vec<Warm>>>,
    references: Mutex<BTreeMap<Key, References>>,
    /// Doors that are still held, of holds that were lost with the coordinator.
    kept: Mutex<BTreeMap<Whose, HeldDoors>>,
}

/// Sessions for one hold on a door, in one database: one holds, one moves the row.
pub const SPARE: usize = 2;

/// One session that waits to be used again; its task drops it when nobody does.
#[derive(Debug)]
struct Warm {
    session: Option<Connection>,
    expiry: JoinHandle<()>,
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.expiry.abort();
    }
}

impl Doors {
    /// No session is open yet.
    pub fn new(login: &Login) -> Self {
        Self {
            shared: Arc::new(Shared {
                login: Login {
                    connect_timeout: login.connect_timeout.min(CONNECT),
                    ..login.clone()
                },
                warm: Mutex::default(),
                references: Mutex::default(),
                kept: Mutex::default(),
            }),
        }
    }

    fn warm(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<Warm>>> {
        self.shared
            .warm
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A session on a door, warm if there is one.
    ///
    /// # Errors
    ///
    /// The door cannot be reached in time; or it is in recovery, and so none for the moment.
    pub(super) async fn session(
        &self,
        door: &HostPort,
        database: &Arc<str>,
    ) -> Result<Connection, SqlError> {
        let key = (door.clone(), database.clone());
        if let Some(warm) = self.warm().get_mut(&key) {
            while let Some(session) = warm.pop().and_then(|mut warm| warm.session.take()) {
                if session.is_usable() {
                    return Ok(session);
                }
            }
        }
        let mut session = self.open(door, database).await?;
        if session.verify_within(CONNECT).await? {
            return Err(SqlError::InRecovery);
        }
        Ok(session)
    }

    /// Sees to it that a door is held, and its row moved, without connecting to it first: keeps as many
    /// sessions warm as that takes, for as long as this is called again in time.
    ///
    /// # Errors
    ///
    /// The door cannot be reached, or is none for the moment.
    pub async fn keep_warm(&self, door: &HostPort, database: &Arc<str>) -> Result<(), SqlError> {
        let mut sessions = Vec::new();
        while sessions.len() < SPARE {
            let mut session = self.session(door, database).await?;
            // Whether it is alive; and Citus reads on first use what it would have to read later.
            session.rows(&primary_of(COORDINATOR_GROUP)).await?;
            sessions.push(session);
        }
        for session in sessions {
            self.put_back(database, session);
        }
        Ok(())
    }

    /// Runs one query on a session of a door, for its rows.
    ///
    /// # Errors
    ///
    /// The door cannot be reached, is none for the moment, or refuses.
    pub(super) async fn ask(
        &self,
        door: &HostPort,
        database: &Arc<str>,
        query: &str,
    ) -> Result<Vec<SimpleQueryRow>, SqlError> {
        let mut session = self.session(door, database).await?;
        let rows = session.rows(query).await?;
        self.put_back(database, session);
        Ok(rows)
    }

    fn all_kept(&self) -> MutexGuard<'_, BTreeMap<Whose, HeldDoors>> {
        let kept = &self.shared.kept;
        kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the doors of a hold that was lost, until it is taken again or its group is let go.
    pub(super) fn keep(&self, whose: Whose, held: HeldDoors) {
        let before = self.all_kept().insert(whose, held);
        drop(before);
    }

    /// The doors that were kept.
    pub(super) fn take_kept(&self, whose: &Whose) -> Option<HeldDoors> {
        self.all_kept().remove(whose)
    }

    /// Lets go of doors that were kept: nothing of this group is to be held.
    pub fn let_go(&self, group: i32) {
        self.all_kept().retain(|whose, _| whose.0 != group);
    }

    /// A new session on any member.
    pub(super) async fn open(
        &self,
        member: &HostPort,
        database: &Arc<str>,
    ) -> Result<Connection, SqlError> {
        Connection::open(&self.shared.login, member, database).await
    }

    /// What holds of all groups have together on a door.
    pub(super) fn references(&self, door: &HostPort, database: &Arc<str>) -> References {
        let references = &self.shared.references;
        let mut references = references.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (door.clone(), database.clone());
        references.entry(key).or_default().clone()
    }

    /// Keeps a session for a while, if it is still good for something.
    pub(super) fn put_back(&self, database: &Arc<str>, mut session: Connection) {
        if !session.is_usable() {
            return;
        }
        session.unname();
        let key = (session.address.clone(), database.clone());
        let shared = Arc::downgrade(&self.shared);
        let expiring = key.clone();
        let expiry = tokio::spawn(async move {
            sleep(LINGER).await;
            if let Some(shared) = shared.upgrade() {
                let doors = Self { shared };
                let mut warm = doors.warm();
                if let Some(sessions) = warm.get_mut(&expiring) {
                    let own = tokio::task::id();
                    sessions.retain(|session| session.expiry.id() != own);
                    if sessions.is_empty() {
                        warm.remove(&expiring);
                    }
                }
            }
        });
        let warm = Warm {
            session: Some(session),
            expiry,
        };
        self.warm().entry(key).or_default().push(warm);
    }
}

/// A door's part in something.
pub(super) type Part<'a, T> = Pin<Box<dyn Future<Output = Result<T, StepError>> + Send + 'a>>;

/// What became of the parts: the coordinator's, those of the doors that came to their end, and the
/// doors that did not.
pub(super) type Parts<C, D> = (C, Vec<(HostPort, D)>, Vec<LeftOut>);

/// Runs the coordinator's part and the doors' side by side. The doors have [`DOOR_PATIENCE`] more
/// than the coordinator; who has not come to an end by then is left out, and so is who failed, unless
/// it [is no door](StepError::is_no_door). If the coordinator fails, so does all of it.
pub(super) async fn side_by_side<C, D>(
    coordinator: impl Future<Output = Result<C, StepError>>,
    doors: Vec<(HostPort, Part<'_, D>)>,
) -> Result<Parts<C, D>, StepError> {
    let mut missing: Vec<HostPort> = doors.iter().map(|(door, _)| door.clone()).collect();
    let mut under_way: FuturesUnordered<_> = doors
        .into_iter()
        .map(|(door, part)| async move { (door, part.await) })
        .collect();
    let mut done = Vec::new();
    let mut left_out = Vec::new();
    let mut note = |door: HostPort, result: Result<D, StepError>| {
        missing.retain(|other| *other != door);
        match result {
            Ok(part) => done.push((door, part)),
            Err(error) if error.is_no_door() => {}
            Err(error) => left_out.push(LeftOut {
                door,
                error: error.to_string(),
            }),
        }
    };
    let mut coordinator = pin!(coordinator);
    let decided = loop {
        tokio::select! {
            decided = &mut coordinator => break decided?,
            Some((door, result)) = under_way.next(), if !under_way.is_empty() => note(door, result),
        }
    };
    let mut patience = pin!(sleep(DOOR_PATIENCE));
    while !under_way.is_empty() {
        tokio::select! {
            Some((door, result)) = under_way.next() => note(door, result),
            () = &mut patience => break,
        }
    }
    drop(under_way);
    left_out.extend(missing.into_iter().map(|door| LeftOut {
        door,
        error: format!(
            "not done {} ms after the coordinator",
            DOOR_PATIENCE.as_millis()
        ),
    }));
    Ok((decided, done, left_out))
}
