//! The reference tables' part of holds: one session for a database of a node, however many groups
//! are held there at once.
//!
//! Enters: a hold that begins, and its deadline. Leaves: the session that holds the shards of all
//! reference tables from the first hold's beginning to the last one's end.
//!
//! Why not one for each hold: a writer of a reference table waits in the first one's hold, and
//! whoever then asks for the same shards is queued by PostgreSQL behind that writer, whom nobody
//! but the first hold can let go on (rule 7). Who joins asks for no lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
use tokio::task::AbortHandle;
use tracing::warn;

use super::Connection;
use citus_core::sql::idle_until;

/// How long a word to the session may take before it counts as lost.
const WORD: Duration = Duration::from_secs(1);

/// The session of one database of one node, if somebody is held there; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct References {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whoever takes the locks, or joins; one at a time.
    turn: AsyncMutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Held>,
    /// When each of the holds ends at the latest.
    deadlines: BTreeMap<u64, Instant>,
    count: u64,
}

#[derive(Debug)]
struct Held {
    connection: Connection,
    /// When the server ends it, if it hears nothing more.
    until: Instant,
    /// The part of whoever took it.
    first: u64,
    _watch: Watch,
}

/// Somebody waits for the session's end, until this is dropped.
#[derive(Debug)]
struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Held {
    fn is_lost(&self, database: &str) {
        warn!(
            database, address = %self.connection.address,
            "the session that held the reference tables is lost: writes to them go on, the groups \
             stay held"
        );
    }
}

/// One hold's part. The last one that is dropped closes the session.
#[derive(Debug)]
pub(super) struct Part {
    references: References,
    database: String,
    id: u64,
}

impl Part {
    /// Leaves; the last one gives the locks back, and the session to whoever wants to keep it.
    pub(super) async fn leave(self) -> Option<Connection> {
        let last = {
            let mut state = self.references.state();
            state.deadlines.remove(&self.id);
            if state.deadlines.is_empty() {
                state.session.take()
            } else {
                None
            }
        };
        let Held { mut connection, .. } = last?;
        let rolled_back = connection.run_within("ROLLBACK", WORD).await;
        rolled_back.is_ok().then_some(connection)
    }
}

impl References {
    /// Waits for whoever takes the locks just now.
    pub(super) async fn turn(&self) -> AsyncMutexGuard<'_, ()> {
        self.shared.turn.lock().await
    }

    /// A part in what is held at `address` already; `None` when nothing is. The server ends it no
    /// earlier than at `deadline` then. To be called in one's turn.
    pub(super) async fn join(
        &self,
        database: &str,
        address: &HostPort,
        deadline: Instant,
    ) -> Option<Part> {
        let until = {
            let mut state = self.state();
            let gone =
                |held: &Held| !held.connection.is_usable() || held.connection.address != *address;
            if state.session.as_ref().is_some_and(gone) {
                state.session = None;
            }
            state.session.as_ref()?.until
        };
        let part = self.part(database, deadline);
        if until >= deadline {
            return Some(part);
        }
        // On its own: if this hold is called off half-way, the others keep what they have.
        let word = tokio::spawn(self.clone().set_end(database.to_owned()));
        word.await.is_ok_and(|alive| alive).then_some(part)
    }

    /// Keeps a session that has the locks until `deadline`. To be called in one's turn.
    pub(super) fn keep(&self, database: &str, connection: Connection, deadline: Instant) -> Part {
        let part = self.part(database, deadline);
        let (first, closing, references) = (part.id, connection.closing(), self.clone());
        let database = database.to_owned();
        let watch = tokio::spawn(async move {
            closing.await;
            // Whoever ends it himself takes it away first.
            let mut state = references.state();
            if state
                .session
                .as_ref()
                .is_some_and(|held| held.first == first)
                && let Some(held) = state.session.take()
            {
                held.is_lost(&database);
            }
        });
        self.state().session = Some(Held {
            connection,
            until: deadline,
            first,
            _watch: Watch(watch.abort_handle()),
        });
        part
    }

    /// Whether somebody holds them now.
    pub(super) fn are_held(&self) -> bool {
        self.state().session.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = &self.shared.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, database: &str, deadline: Instant) -> Part {
        let mut state = self.state();
        state.count += 1;
        let id = state.count;
        state.deadlines.insert(id, deadline);
        Part {
            references: self.clone(),
            database: database.to_owned(),
            id,
        }
    }

    /// Sets anew when the server ends the session: at the latest of the deadlines. Every statement
    /// starts its clock anew, so it is told what is left. Whether the session is alive.
    async fn set_end(self, database: String) -> bool {
        let (mut held, until) = {
            let mut state = self.state();
            let Some(until) = state.deadlines.values().max().copied() else {
                return false;
            };
            let Some(held) = state.session.take() else {
                return false;
            };
            (held, until)
        };
        let left = until.saturating_duration_since(Instant::now());
        let told = held.connection.run_within(&idle_until(left), WORD).await;
        held.until = until;
        let mut state = self.state();
        if state.deadlines.is_empty() {
            return false;
        }
        if told.is_err() {
            held.is_lost(&database);
            return false;
        }
        state.session = Some(held);
        true
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut state = self.references.state();
        state.deadlines.remove(&self.id);
        let latest = state.deadlines.values().max().copied();
        let Some(latest) = latest else {
            let last = state.session.take();
            drop(state);
            drop(last);
            return;
        };
        let earlier = state
            .session
            .as_ref()
            .is_some_and(|held| latest < held.until);
        drop(state);
        if earlier && let Ok(runtime) = Handle::try_current() {
            let (references, database) = (self.references.clone(), self.database.clone());
            runtime.spawn(async move {
                let _turn = references.turn().await;
                references.clone().set_end(database).await;
            });
        }
    }
}
