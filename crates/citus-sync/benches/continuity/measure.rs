//! An event, measured. In: an event and how many groups at once. Out: a sample.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use lab::interruption::Interrupted;
use lab::{Interruption, Scope, Traffic};

use super::account::Account;
use super::event::{Event, Who};
use super::fixture::Fixture;
use super::sample::{Sample, Seen};

/// A crashed leader's key lives for its ttl, and a poll may look late.
const WRITABLE: Duration = Duration::from_secs(120);
/// Before an event, everything has been calm for so long.
const CALM: Duration = Duration::from_secs(1);

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
    set_hook(fixture, event)?;
    let scopes = fixture.victims(groups, round);
    let watches = scopes.iter().copied().map(Interruption::watch);
    let watches: Vec<Interruption> = watches.collect::<Result<_>>()?;
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
        let own = wait_over(event, watch, began)?;
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
    // The last transition may still be open.
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

/// Turns the hook on for the events that use it, and off for the others.
fn set_hook(fixture: &Fixture, event: Event) -> Result<()> {
    match fixture.lab.hook() {
        Some(hook) if event.uses_hook() => hook.turn_on(),
        Some(hook) => hook.turn_off(),
        None => Ok(()),
    }
}

/// Waits until the group has a writable leader again. What nothing happened to was never without.
fn wait_over(event: Event, watch: &Interruption, began: Instant) -> Result<Interrupted> {
    if event == Event::Nothing {
        return Ok(Interrupted {
            stopped: began,
            writable: began,
        });
    }
    watch.wait_over(began, WRITABLE)
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
