//! The sessions of one database on the coordinator leader: warm ones, and how many may be open for
//! what.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dcs_watch::HostPort;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::database::Server;
use super::{Connection, SqlError};

/// Sessions kept open between uses beside the one that is watched: a hold and what goes with it, or
/// a second group that moves at the same moment.
const KEPT_WARM: usize = 2;

/// Steps of different groups that may be under way in one database at once. Each takes one
/// connection of the coordinator's `max_connections`.
const AT_ONCE: usize = 16;

/// Holds of different groups that may be open in one database at once. They have a supply of their
/// own: a hold lasts seconds, and the move that ends another one must not wait for it (rule 7).
const HELD_AT_ONCE: usize = 64;

#[derive(Debug)]
pub(super) struct Pool {
    warm: Mutex<Warm>,
    steps: Arc<Semaphore>,
    holds: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Warm {
    /// Sessions from before the latest verification are not taken back.
    server: Option<Server>,
    /// The session whose end means that the coordinator is gone. A step may borrow it, who ends well
    /// or fails with the coordinator. Whatever may be cut off or ended by the server for reasons of
    /// its own, such as a hold, may not.
    watched: Option<Connection>,
    idle: Vec<Connection>,
}

impl Warm {
    fn retain(&mut self, keep: impl Fn(&Connection) -> bool) {
        self.idle.retain(&keep);
        self.watched = self.watched.take().filter(keep);
    }
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            warm: Mutex::default(),
            steps: Arc::new(Semaphore::new(AT_ONCE)),
            holds: Arc::new(Semaphore::new(HELD_AT_ONCE)),
        }
    }

    fn warm(&self) -> MutexGuard<'_, Warm> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step's place; waits for one for as long as a statement may take.
    pub(super) async fn step_permit(
        &self,
        patience: Duration,
    ) -> Result<OwnedSemaphorePermit, SqlError> {
        match timeout(patience, self.steps.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(SqlError::Deadline {
                what: "waiting for a free session",
                after: patience,
            }),
        }
    }

    /// A hold's place; nobody waits for one, because whoever has one keeps it for long.
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
        let mut warm = self.warm();
        warm.retain(Connection::is_usable);
        if warm.server.as_ref() != Some(server) {
            return None;
        }
        match warm.idle.pop() {
            None if for_a_step => warm.watched.take(),
            idle => idle,
        }
    }

    /// A warm session at this address, whoever it was verified as.
    pub(super) fn take_at(&self, address: &HostPort) -> Option<Connection> {
        let mut warm = self.warm();
        warm.retain(|session| session.is_usable() && session.address == *address);
        warm.watched.take().or_else(|| warm.idle.pop())
    }

    pub(super) fn put_back(&self, mut session: Connection) {
        let mut warm = self.warm();
        let current = warm
            .server
            .as_ref()
            .is_some_and(|server| server.address == session.address);
        if !current || !session.is_usable() {
            return;
        }
        session.unname();
        // One that was lent before the latest verification is watched no more.
        session.watched &= warm.watched.is_none();
        if session.watched {
            warm.watched = Some(session);
        } else if warm.idle.len() < KEPT_WARM {
            warm.idle.push(session);
        }
    }

    /// From now on sessions of this server are kept warm, and this one is watched.
    pub(super) fn serve(&self, server: Server, mut session: Connection) {
        session.watched = true;
        let mut warm = self.warm();
        warm.server = Some(server);
        warm.watched = Some(session);
    }

    /// Keeps no session warm any more but those at this address.
    pub(super) fn forget(&self, but_keep: Option<&HostPort>) {
        let mut warm = self.warm();
        warm.server = None;
        warm.retain(|session| Some(&session.address) == but_keep);
    }
}

/// A session that takes a place until it is given back. Dropping it closes it and gives the place
/// back as well.
#[derive(Debug)]
pub(super) struct Leased {
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
