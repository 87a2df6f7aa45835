//! What all clients of one application share: how much they send, whether they go on, and what came
//! of every statement.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::citus::Flavour;
use crate::report::Outcome;

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Writing sessions for each worker group (and entry node, database, protocol).
    pub writers: usize,
    /// Reading sessions for each worker group (and entry node, database, protocol).
    pub readers: usize,
    /// The pause between two statements of a session.
    pub pause: Duration,
    /// After this time without an answer a statement counts as failed, and its session is closed.
    pub patience: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            writers: 1,
            readers: 1,
            pause: Duration::from_millis(5),
            patience: Duration::from_secs(10),
        }
    }
}

/// What all clients share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) flavour: Flavour,
    pub(super) load: Load,
    pub(super) stop: AtomicBool,
    pub(super) outcomes: Mutex<Vec<Outcome>>,
}

impl Shared {
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn note(&self, outcome: Outcome) {
        self.outcomes().push(outcome);
    }

    pub(super) fn outcomes(&self) -> MutexGuard<'_, Vec<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
