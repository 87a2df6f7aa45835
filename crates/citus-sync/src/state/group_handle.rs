//! The way of a command to a group's reconciler, from HTTP through the state store, and of its answer
//! back.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

use citus_core::report::{HoldAnswer, HoldRequest};

/// Commands that may wait for one reconciler. More wait at their senders.
pub(super) const WAITING: usize = 16;

/// A command to a group's reconciler. A closed reply means that its receiver no longer waits.
#[derive(Debug)]
pub enum Command {
    /// Hold the group's writes.
    Hold {
        /// For which member, and for how long.
        request: HoldRequest,
        /// Takes the answer.
        reply: oneshot::Sender<HoldAnswer>,
    },
    /// End a hold that was asked for.
    Release {
        /// Takes the answer.
        reply: oneshot::Sender<HoldAnswer>,
    },
}

/// The way to one group's reconciler.
#[derive(Clone, Debug)]
pub struct GroupHandle {
    /// The Citus cluster's name.
    pub formation: String,
    /// Citus `groupid`.
    pub group: i32,
    /// Its Patroni scope.
    pub scope: String,
    pub(super) reconciler: mpsc::Sender<Command>,
}

impl GroupHandle {
    /// Asks for a hold. `None` when the reconciler is gone. Otherwise the answer comes when the
    /// reconciler has one: the caller sets a limit.
    pub async fn hold(&self, request: HoldRequest) -> Option<HoldAnswer> {
        self.send(|reply| Command::Hold { request, reply }).await
    }

    /// Asks for the end of a hold; as [`GroupHandle::hold`].
    pub async fn release(&self) -> Option<HoldAnswer> {
        self.send(|reply| Command::Release { reply }).await
    }

    async fn send(
        &self,
        command: impl FnOnce(oneshot::Sender<HoldAnswer>) -> Command,
    ) -> Option<HoldAnswer> {
        let (reply, answer) = oneshot::channel();
        self.reconciler.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Why no group's handle was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// There is no such formation; there are these.
    UnknownFormation {
        /// The name that was given.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// There is no such group; there are these.
    UnknownGroup {
        /// The number or scope that was given.
        name: String,
        /// Those there are, in words.
        known: Vec<String>,
    },
    /// Several formations have such a group.
    Ambiguous {
        /// The number or scope that was given.
        name: String,
        /// The formations.
        formations: Vec<String>,
    },
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFormation { name, known } => {
                write!(
                    f,
                    "there is no formation {name:?}; there is {}",
                    known.join(", ")
                )
            }
            Self::UnknownGroup { name, known } if known.is_empty() => write!(
                f,
                "there is no group or scope {name:?}: no scope is known yet, see /readyz"
            ),
            Self::UnknownGroup { name, known } => {
                write!(
                    f,
                    "there is no group or scope {name:?}; there is {}",
                    known.join(", ")
                )
            }
            Self::Ambiguous { name, formations } => write!(
                f,
                "several formations have group {name}: {}; name one with ?formation= \
                 (--formation), or name the group by its scope",
                formations.join(", ")
            ),
        }
    }
}
