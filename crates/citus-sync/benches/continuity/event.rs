//! What happens to groups. In: an event and how many groups at once. Out: a sample.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;
use lab::interruption::Interrupted;
use lab::{Interruption, Scope, Traffic};
use serde::Serialize;
use serde_json::json;

use super::account::Account;
use super::fixture::Fixture;
use super::sample::{Sample, Seen};

/// A crashed leader's key lives for its ttl, and a poll may look late.
const WRITABLE: Duration = Duration::from_secs(120);
/// Before an event, everything has been calm for so long.
const CALM: Duration = Duration::from_secs(1);
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
    /// What is measured unless told otherwise.
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

    /// The same event where nobody listens to a hook or holds anything.
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
    /// earlier; who waits for a crashed leader waits for its lease first.
    pub(crate) fn policy(self) -> serde_json::Value {
        match self {
            Self::HookedSwitchover | Self::HookedRestart => json!({"hold_on_request": false}),
            Self::HeldCrash => json!({"hold_on_leader_loss": true, "hold_timeout": "60s"}),
            _ => json!({}),
        }
    }

    fn happen(self, scope: &Scope) -> Result<()> {
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

/// Lets it happen to as many groups at once, and waits until all is well again.
pub(crate) fn run(
    fixture: &Fixture,
    traffic: &mut Traffic,
    who: Who,
    event: Event,
    groups: usize,
    round: usize,
) -> Result<Sample> {
    fixture.wait_calm()?;
    if let Some(hook) = fixture.lab.hook() {
        if event.uses_hook() {
            hook.turn_on()?;
        } else {
            hook.turn_off()?;
        }
    }
    let scopes = fixture.victims(groups, round);
    let watches: Result<Vec<Interruption>> = scopes
        .iter()
        .map(|scope| Interruption::watch(scope))
        .collect();
    let watches = watches?;
    traffic.wait_flowing()?;
    thread::sleep(CALM); // what is measured begins with something to compare it with
    let known = fixture.transitions()?.len();
    traffic.take_report();

    let account = fixture
        .accounts
        .then(|| Account::begin(fixture, &scopes))
        .transpose()?;
    let began = Instant::now();
    at_once(event, &scopes)?;
    let mut interrupted = Vec::new();
    for (scope, watch) in scopes.iter().zip(&watches) {
        let own = if event == Event::Nothing {
            Interrupted {
                stopped: began,
                writable: began,
            }
        } else {
            watch.wait_over(began, WRITABLE)?
        };
        interrupted.push((scope.group(), own));
    }
    for database in fixture.lab.databases() {
        fixture.wait_rows(database)?;
    }
    traffic.wait_flowing()?;
    let report = traffic.take_report().between(began, Instant::now());
    drop(watches);
    if let Some(account) = account {
        account.tell(fixture, &report, began);
    }
    // The last of them may still be told.
    fixture.wait_calm()?;
    let transitions = fixture.transitions()?.split_off(known);
    let seen = Seen {
        report: &report,
        began,
        interrupted: &interrupted,
        transitions,
    };
    Ok(Sample::of(who, event, round, seen))
}

/// In a thread for each group, as Patroni answers when it is done.
fn at_once(event: Event, scopes: &[&Scope]) -> Result<()> {
    thread::scope(|threads| {
        let running: Vec<_> = scopes
            .iter()
            .map(|scope| threads.spawn(move || event.happen(scope)))
            .collect();
        for (thread, scope) in running.into_iter().zip(scopes) {
            let outcome = thread.join().map_err(|_| anyhow!("a panic"));
            outcome
                .and_then(|outcome| outcome)
                .with_context(|| format!("{event} of {}", scope.name()))?;
        }
        Ok(())
    })
}
