//! What is done to a group, and who moves its row. In: a scope. Out: its leader disturbed.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use lab::Scope;
use serde::Serialize;
use serde_json::json;

/// As long as a planned event, more or less.
const NOTHING: Duration = Duration::from_secs(4);

/// Who moves the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    /// citus-sync.
    Daemon,
    /// A poll every few seconds.
    Poll,
}

/// What is done to a group's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// Nothing: what this machine alone costs its clients
    Nothing,
    /// Patroni is asked for a switchover; the hook does nothing
    Switchover,
    /// The same, with the hook
    HookedSwitchover,
    /// Patroni is asked to restart PostgreSQL; the hook does nothing
    Restart,
    /// The same, with the hook
    HookedRestart,
    /// SIGKILL to Patroni and PostgreSQL
    Crash,
    /// The same, with writes held for the next leader
    HeldCrash,
}

impl Event {
    /// What is measured by default.
    pub(crate) const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Switchover,
        Self::HookedSwitchover,
        Self::HookedRestart,
        Self::Crash,
        Self::HeldCrash,
    ];

    /// Whether Patroni waits for `citus-sync hold`.
    pub(crate) fn uses_hook(self) -> bool {
        matches!(self, Self::HookedSwitchover | Self::HookedRestart)
    }

    /// The same event where no daemon answers a hook or holds writes.
    pub(crate) fn without_daemon(self) -> Self {
        match self {
            Self::HookedSwitchover => Self::Switchover,
            Self::HookedRestart => Self::Restart,
            Self::HeldCrash => Self::Crash,
            other => other,
        }
    }

    /// Whether it is a crash, after which reads have to come back.
    pub(crate) fn is_crash(self) -> bool {
        matches!(self, Self::Crash | Self::HeldCrash)
    }

    /// The policy under which the daemon lives through it. What waits for the hook need not be held
    /// earlier; a hold after a crash waits until the lease has ended.
    pub(crate) fn policy(self) -> serde_json::Value {
        match self {
            Self::HookedSwitchover | Self::HookedRestart => json!({"hold_on_request": false}),
            Self::HeldCrash => json!({"hold_on_leader_loss": true, "hold_timeout": "60s"}),
            _ => json!({}),
        }
    }

    /// Does it to the leader of a scope.
    pub(crate) fn happen(self, scope: &Scope) -> Result<()> {
        match self {
            Self::Nothing => {
                thread::sleep(NOTHING);
                Ok(())
            }
            Self::Switchover | Self::HookedSwitchover => scope.switchover(None).map(drop),
            Self::Restart | Self::HookedRestart => scope.restart().map(drop),
            Self::Crash | Self::HeldCrash => scope.crash().map(drop),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Switchover => "switchover",
            Self::HookedSwitchover => "switchover, hook",
            Self::Restart => "restart",
            Self::HookedRestart => "restart, hook",
            Self::Crash => "crash",
            Self::HeldCrash => "crash, held",
        })
    }
}
