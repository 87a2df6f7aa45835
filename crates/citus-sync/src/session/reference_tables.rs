//! The session that holds the reference tables: one for a database of a node, however many groups
//! are held there at once.
//!
//! In: a hold that begins, and its deadline. Out: a share in the session that holds the shards of
//! all reference tables from the first hold's beginning to the last one's end.
//!
//! Why not a session for each hold: a writer of a reference table waits in the first hold, and
//! PostgreSQL queues the second hold's session behind that writer, which only the first hold's end
//! lets go on (rule 7). A hold that joins asks for no lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
use tokio::task::AbortHandle;
use tracing::warn;

use super::connect::Connection;
use citus_core::sql::idle_until;

/// How long the session may take to answer before it counts as lost.
const ANSWER: Duration = Duration::from_secs(1);

/// The session of one database of one node, while a group is held there; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReferenceTables {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The turn to take the locks, or to join: one hold at a time.
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
    /// The share of the hold that took it.
    first: u64,
    _watch: Watch,
}

/// A task waits for the session's end, until this is dropped.
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

/// One hold's share in the session. The last one that is dropped closes it.
#[derive(Debug)]
pub(crate) struct Share {
    tables: ReferenceTables,
    database: String,
    id: u64,
}

impl Share {
    /// Leaves; the last one gives the locks back. The session is the caller's then, to be used
    /// again.
    pub(crate) async fn leave(self) -> Option<Connection> {
        let last = {
            let mut state = self.tables.state();
            state.deadlines.remove(&self.id);
            if state.deadlines.is_empty() {
                state.session.take()
            } else {
                None
            }
        };
        let Held { mut connection, .. } = last?;
        let rolled_back = connection.run_within("ROLLBACK", ANSWER).await;
        rolled_back.is_ok().then_some(connection)
    }
}

impl ReferenceTables {
    /// Waits until no other hold takes the locks, or joins.
    pub(crate) async fn turn(&self) -> AsyncMutexGuard<'_, ()> {
        self.shared.turn.lock().await
    }

    /// A share in what is held at `address` already; `None` when nothing is. The server ends it no
    /// earlier than at `deadline` then. To be called in one's turn.
    pub(crate) async fn join(
        &self,
        database: &str,
        address: &HostPort,
        deadline: Instant,
    ) -> Option<Share> {
        let until = {
            let mut state = self.state();
            let gone =
                |held: &Held| !held.connection.is_usable() || held.connection.address != *address;
            if state.session.as_ref().is_some_and(gone) {
                state.session = None;
            }
            state.session.as_ref()?.until
        };
        let share = self.share(database, deadline);
        if until >= deadline {
            return Some(share);
        }
        // On its own: if this hold is called off half-way, the others keep what they have.
        let set = tokio::spawn(self.clone().set_end(database.to_owned()));
        set.await.is_ok_and(|alive| alive).then_some(share)
    }

    /// Keeps a session that has the locks until `deadline`. To be called in one's turn.
    pub(crate) fn keep(&self, database: &str, connection: Connection, deadline: Instant) -> Share {
        let share = self.share(database, deadline);
        let (first, closing, tables) = (share.id, connection.closing(), self.clone());
        let database = database.to_owned();
        let watch = tokio::spawn(async move {
            closing.await;
            // A hold that ends the session takes it away first.
            let mut state = tables.state();
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
        share
    }

    /// Whether they are held now.
    pub(crate) fn are_held(&self) -> bool {
        self.state().session.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = &self.shared.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn share(&self, database: &str, deadline: Instant) -> Share {
        let mut state = self.state();
        state.count += 1;
        let id = state.count;
        state.deadlines.insert(id, deadline);
        Share {
            tables: self.clone(),
            database: database.to_owned(),
            id,
        }
    }

    /// Sets anew when the server ends the session: at the latest of the deadlines. Every statement
    /// starts its clock anew, so the server gets what is left of it. Returns whether the session is
    /// alive.
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
        let answer = held.connection.run_within(&idle_until(left), ANSWER).await;
        held.until = until;
        let mut state = self.state();
        if state.deadlines.is_empty() {
            return false;
        }
        if answer.is_err() {
            held.is_lost(&database);
            return false;
        }
        state.session = Some(held);
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.tables.state();
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
            let (tables, database) = (self.tables.clone(), self.database.clone());
            runtime.spawn(async move {
                let _turn = tables.turn().await;
                tables.clone().set_end(database).await;
            });
        }
    }
}
