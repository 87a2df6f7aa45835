//! Idle sessions, kept open for their next use: the one place for those of the coordinator's
//! databases ([`super::pool`]) and those of the entry nodes ([`super::entry_nodes`]).
//!
//! In: a session that is given back. Out: the same session, if it still works and its time is not
//! over.
//!
//! Three kinds of sessions stay open and are not here, because they are not idle: the session whose
//! end means that the coordinator is gone (`pool.rs`), a probe's (`probe.rs`), and the one that
//! holds the reference tables (`reference_tables.rs`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dcs_watch::HostPort;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::connect::Connection;

/// How long a session outside the coordinator stays open without use: those of entry nodes, and
/// those of probes. A hold is followed by a read move and by its own end on the same entry nodes,
/// and one switchover by the next: shorter, and each of them connects anew.
pub(super) const LINGER: Duration = Duration::from_secs(120);

/// Which idle sessions are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// So many of one database of one server.
    pub(super) at_most: usize,
    /// For so long; without end where there is none.
    pub(super) linger: Option<Duration>,
}

/// A server, and a database there.
pub(super) type Key = (HostPort, Arc<str>);

/// Idle sessions by server and database; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct WarmSessions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keep: Keep,
    idle: Mutex<BTreeMap<Key, Vec<Idle>>>,
}

/// One session that waits to be used again.
#[derive(Debug)]
struct Idle {
    session: Option<Connection>,
    /// Drops it when its time is over.
    expiry: Option<JoinHandle<()>>,
}

impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(expiry) = &self.expiry {
            expiry.abort();
        }
    }
}

impl WarmSessions {
    /// None is open yet.
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            shared: Arc::new(Shared {
                keep,
                idle: Mutex::default(),
            }),
        }
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<Idle>>> {
        let idle = &self.shared.idle;
        idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that was given back last, if it still works.
    pub(super) fn take(&self, address: &HostPort, database: &Arc<str>) -> Option<Connection> {
        let key = (address.clone(), database.clone());
        let mut idle = self.idle();
        let sessions = idle.get_mut(&key)?;
        while let Some(session) = sessions.pop().and_then(|mut idle| idle.session.take()) {
            if session.is_usable() {
                return Some(session);
            }
        }
        None
    }

    /// Keeps a session for its next use, if it still works and there is room. It bears its first
    /// name again.
    pub(super) fn put_back(&self, database: &Arc<str>, mut session: Connection) {
        if !session.is_usable() {
            return;
        }
        session.unname();
        let Keep { at_most, linger } = self.shared.keep;
        let key = (session.address.clone(), database.clone());
        let mut idle = self.idle();
        let sessions = idle.entry(key.clone()).or_default();
        if sessions.len() < at_most {
            let expiry = linger.map(|linger| self.expire(key, linger));
            sessions.push(Idle {
                session: Some(session),
                expiry,
            });
        }
    }

    /// Keeps only these.
    pub(super) fn retain(&self, keep: impl Fn(&Connection) -> bool) {
        self.idle().retain(|_, sessions| {
            sessions.retain(|idle| idle.session.as_ref().is_some_and(&keep));
            !sessions.is_empty()
        });
    }

    /// Drops the session that this task belongs to after `linger`.
    fn expire(&self, key: Key, linger: Duration) -> JoinHandle<()> {
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            sleep(linger).await;
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let mut idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(sessions) = idle.get_mut(&key) {
                let own = Some(tokio::task::id());
                sessions.retain(|idle| idle.expiry.as_ref().map(JoinHandle::id) != own);
                if sessions.is_empty() {
                    idle.remove(&key);
                }
            }
        })
    }
}
