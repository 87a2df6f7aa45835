//! What happened in one event, moment by moment, to find out why clients waited or failed. In: the
//! lab and the disturbed groups. Out: on standard error, with milliseconds since the event, what
//! etcd's keys, the members' roles and the rows did, what the daemon and the hook said, the first
//! failures of clients, and the clients that waited for long.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;
use lab::report::Report;
use lab::{Observer, Scope, Timeline};

use super::fixture::Fixture;
use super::sample::OUTAGE;

/// Columns.
const WIDTH: usize = 400;
/// Of each stream.
const FAILURES: usize = 2;

/// Watches until [`Account::tell`].
pub(crate) struct Account {
    timeline: Timeline,
    _observers: Vec<Observer>,
    hook: usize,
}

impl Account {
    pub(crate) fn begin(fixture: &Fixture, scopes: &[&Scope]) -> Result<Self> {
        let timeline = Timeline::default();
        let observers: Result<Vec<Observer>> = scopes
            .iter()
            .map(|scope| Observer::watch(&fixture.lab, scope, &timeline))
            .collect();
        Ok(Self {
            timeline,
            _observers: observers?,
            hook: hook_log(fixture).len(),
        })
    }

    pub(crate) fn tell(self, fixture: &Fixture, report: &Report, began: Instant) {
        let ended = Instant::now();
        if let Some(log) = fixture.daemon_log() {
            for entry in log.entries() {
                self.timeline.add_at(entry.at, &entry.source, &entry.text);
            }
        }
        let mut printed = BTreeSet::new();
        for outcome in report.outcomes() {
            let Some(error) = &outcome.error else {
                continue;
            };
            let number =
                (0..FAILURES).find(|number| !printed.contains(&(&outcome.stream, *number)));
            if let Some(number) = number {
                printed.insert((&outcome.stream, number));
                let took = outcome.ended - outcome.began;
                let text = format!("{} failed after {took:.1?}: {error}", outcome.stream);
                self.timeline
                    .add_at(outcome.ended, "client", &text.replace('\n', " "));
            }
        }
        for stream in report.streams() {
            let wait = stream.longest_wait;
            if wait.length() > OUTAGE {
                let text = format!("{} waited for {:.1?}", stream.stream, wait.length());
                self.timeline.add_at(wait.to, "client", &text);
            }
        }
        eprint!("{}", self.timeline.render(began, ended, WIDTH));
        eprint!("{}", hook_log(fixture).get(self.hook..).unwrap_or_default());
    }
}

fn hook_log(fixture: &Fixture) -> String {
    fixture.lab.hook().map(lab::Hook::log).unwrap_or_default()
}
