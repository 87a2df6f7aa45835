//! The sessions of one database on the coordinator leader: which are kept warm, and how many may be
//! open for what.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dcs_watch::HostPort;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connect::Connection;
use super::error::SqlError;
use super::server::Server;
use super::warm::{Keep, WarmSessions};

/// Sessions kept open between uses beside the one that is watched: a hold and what goes with it, or
/// a second group that moves at the same moment. For as long as the coordinator leader stays.
const KEPT_WARM: Keep = Keep {
    at_most: 2,
    linger: None,
};

/// Steps of different groups that may be under way in one database at once. Each takes one
/// connection of the coordinator's `max_connections`.
const AT_ONCE: usize = 16;

/// Holds of different groups that may be open in one database at once. They have a supply of their
/// own: a hold lasts seconds, and the move that ends another one must not wait for it (rule 7).
const HELD_AT_ONCE: usize = 64;

/// Questions whether the coordinator reaches a member that may be under way in one database at once.
/// Each takes a second where the member is silent, and there may be as many as there are groups.
const QUESTIONS_AT_ONCE: usize = 8;

#[derive(Debug)]
pub(super) struct Pool {
    database: Arc<str>,
    current: Mutex<Current>,
    idle: WarmSessions,
    steps: Arc<Semaphore>,
    holds: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

/// The coordinator leader whose sessions are kept.
#[derive(Debug, Default)]
struct Current {
    /// Sessions from before the latest verification are not taken back.
    server: Option<Server>,
    /// The session whose end means that the coordinator is gone. Steps may borrow it: they end
    /// well, or fail together with the coordinator. A hold may not: its session can be cut off, or
    /// ended by the server, for reasons of its own.
    watched: Option<Connection>,
}

impl Pool {
    pub(super) fn new(database: &Arc<str>) -> Self {
        Self {
            database: database.clone(),
            current: Mutex::default(),
            idle: WarmSessions::new(KEPT_WARM),
            steps: Arc::new(Semaphore::new(AT_ONCE)),
            holds: Arc::new(Semaphore::new(HELD_AT_ONCE)),
            questions: Arc::new(Semaphore::new(QUESTIONS_AT_ONCE)),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step's place; waits for one for as long as a statement may take.
    pub(super) async fn step_permit(
        &self,
        patience: Duration,
    ) -> Result<OwnedSemaphorePermit, SqlError> {
        permit(&self.steps, patience).await
    }

    /// The place of a question; waits for one for as long as a statement may take.
    pub(super) async fn question_permit(
        &self,
        patience: Duration,
    ) -> Result<OwnedSemaphorePermit, SqlError> {
        permit(&self.questions, patience).await
    }

    /// A hold's place. No hold waits for one, because the others keep theirs for long.
    pub(super) fn hold_permit(&self) -> Result<OwnedSemaphorePermit, SqlError> {
        self.holds
            .clone()
            .try_acquire_owned()
            .map_err(|_| SqlError::TooMany {
                what: "holds are open in this database",
                limit: HELD_AT_ONCE,
            })
    }

    /// A warm session on this server; the watched one only for a step, if there is no other.
    pub(super) fn take(&self, server: &Server, for_a_step: bool) -> Option<Connection> {
        let mut current = self.current();
        self.retain(&mut current, Connection::is_usable);
        if current.server.as_ref() != Some(server) {
            return None;
        }
        match self.idle.take(&server.address, &self.database) {
            None if for_a_step => current.watched.take(),
            idle => idle,
        }
    }

    /// A warm session at this address, whichever member it was verified as.
    pub(super) fn take_at(&self, address: &HostPort) -> Option<Connection> {
        let mut current = self.current();
        self.retain(&mut current, |session| {
            session.is_usable() && session.address == *address
        });
        let watched = current.watched.take();
        watched.or_else(|| self.idle.take(address, &self.database))
    }

    pub(super) fn put_back(&self, mut session: Connection) {
        let mut current = self.current();
        let is_current = current
            .server
            .as_ref()
            .is_some_and(|server| server.address == session.address);
        if !is_current || !session.is_usable() {
            return;
        }
        // One that was lent before the latest verification is watched no more.
        session.watched &= current.watched.is_none();
        if session.watched {
            session.unname();
            current.watched = Some(session);
        } else {
            self.idle.put_back(&self.database, session);
        }
    }

    /// From now on sessions of this server are kept warm, and this one is watched.
    pub(super) fn serve(&self, server: Server, mut session: Connection) {
        session.watched = true;
        let mut current = self.current();
        current.server = Some(server);
        current.watched = Some(session);
    }

    /// Keeps no session warm any more but those at this address.
    pub(super) fn forget(&self, but_keep: Option<&HostPort>) {
        let mut current = self.current();
        current.server = None;
        self.retain(&mut current, |session| Some(&session.address) == but_keep);
    }

    fn retain(&self, current: &mut Current, keep: impl Fn(&Connection) -> bool) {
        self.idle.retain(&keep);
        current.watched = current.watched.take().filter(keep);
    }
}

async fn permit(
    places: &Arc<Semaphore>,
    patience: Duration,
) -> Result<OwnedSemaphorePermit, SqlError> {
    match timeout(patience, places.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(SqlError::Deadline {
            what: "waiting for a free session",
            after: patience,
        }),
    }
}

/// A session that takes a place until it is given back. Dropping it closes it and gives the place
/// back as well.
#[derive(Debug)]
pub(crate) struct Leased {
    connection: Connection,
    _permit: OwnedSemaphorePermit,
}

impl Leased {
    pub(super) fn new(connection: Connection, permit: OwnedSemaphorePermit) -> Self {
        Self {
            connection,
            _permit: permit,
        }
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }
}

impl Deref for Leased {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Leased {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
