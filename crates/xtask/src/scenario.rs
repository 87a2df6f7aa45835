//! One scenario on a worker group, reported with milliseconds. In: a lab with citus-sync and clients
//! running. Out: the timeline, what clients saw, and how soon the coordinator followed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::report::Report;
use lab::{Daemon, Kind, Lab, Member, Observer, Scope, Timeline, Traffic, wait_for};

use crate::screen;

/// A crashed leader's key lives for `ttl` (20 s) before another member can lead.
const NEW_LEADER: Duration = Duration::from_secs(90);
const HEALTHY: Duration = Duration::from_secs(120);
const FOLLOWED: Duration = Duration::from_secs(30);

/// What happens, and to which scope.
#[derive(Clone, Copy)]
pub(crate) enum Scenario {
    Switchover(&'static str),
    Crash(&'static str),
}

/// What scenarios need.
pub(crate) struct Stage<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) daemon: &'a Daemon,
    pub(crate) traffic: &'a Traffic,
    pub(crate) timeline: &'a Timeline,
}

impl Stage<'_> {
    /// Executes a scenario, and reports it on the terminal.
    pub(crate) fn run(&self, scenario: Scenario) -> Result<()> {
        let scope = self.lab.scope(scenario.scope())?;
        scope.wait_healthy(HEALTHY)?;
        self.traffic.wait_flowing()?;
        scenario.announce(scope)?;

        let observer = Observer::watch(self.lab, scope, self.timeline)?;
        let began = Instant::now();
        let former = scope.leader()?.name().to_owned();
        scenario.execute(scope, self.timeline)?;
        let successor = scope.wait_new_leader(&former, NEW_LEADER)?;
        self.wait_followed(scope, successor)?;
        self.traffic.wait_flowing()?;
        if matches!(scenario, Scenario::Crash(_)) {
            scope.revive()?;
        }
        drop(observer);
        let ended = Instant::now();

        let report = self.traffic.report().between(began, ended);
        add_clients(self.timeline, &report.of_group(scope.group()));
        for entry in self.daemon.log().entries() {
            self.timeline
                .add_at(entry.at, &entry.source, message(&entry.text));
        }
        screen::put(&self.timeline.render(began, ended, screen::width()));
        screen::put("\n");
        self.sum_up_clients(scope, &report);
        self.sum_up_moves(scope, began, successor);
        Ok(())
    }

    /// Waits until the group's row points at its new leader, in every database.
    fn wait_followed(&self, scope: &Scope, successor: &Member) -> Result<()> {
        let row = (scope.group(), successor.address());
        wait_for("pg_dist_node to follow", FOLLOWED, || {
            for database in self.lab.databases() {
                if !self.lab.rows(database)?.contains(&row) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .with_context(|| format!("citus-sync's log:\n{}", self.daemon.last_words()))
    }

    fn sum_up_clients(&self, scope: &Scope, report: &Report) {
        let group = scope.group();
        let own = report.of_group(group);
        for (kind, word) in [(Kind::Write, "writes"), (Kind::Read, "reads")] {
            screen::line(&format!(
                "{word:<6} of group {group}: {:>5} done, {:>4} failed, longest gap {}",
                own.succeeded(kind),
                own.failures(kind).len(),
                screen::span(own.longest_gap(kind).length()),
            ));
        }
        let workers = self.lab.workers().iter().map(Scope::group);
        for other in workers.filter(|other| *other != group) {
            let of_other = report.of_group(other);
            let failed = of_other.failures(Kind::Write).len() + of_other.failures(Kind::Read).len();
            screen::line(&format!("group {other}, not affected: {failed} failed"));
        }
    }

    fn sum_up_moves(&self, scope: &Scope, began: Instant, successor: &Member) {
        let entries = self.timeline.entries();
        let moment = |source: &str, text: &str| {
            entries
                .iter()
                .find(|entry| entry.at >= began && entry.source == source && entry.text == text)
                .map(|entry| entry.at)
        };
        let leader = successor.name();
        let Some(writable) = moment(leader, "takes writes") else {
            return;
        };
        let (group, address) = (scope.group(), successor.address());
        for database in self.lab.databases() {
            let text = format!("group {group} at {address} ({database})");
            if let Some(moved) = moment("pg_dist_node", &text) {
                screen::line(&format!(
                    "{leader} takes writes -> pg_dist_node of {database} moved: {}",
                    screen::span(moved.saturating_duration_since(writable)),
                ));
            }
        }
        screen::line("(as seen by an observer that looks every 2 ms)");
    }
}

impl Scenario {
    fn scope(self) -> &'static str {
        match self {
            Self::Switchover(scope) | Self::Crash(scope) => scope,
        }
    }

    fn announce(self, scope: &Scope) -> Result<()> {
        let leader = scope.leader()?.name().to_owned();
        let (name, group) = (scope.name(), scope.group());
        match self {
            Self::Switchover(_) => {
                screen::heading(&format!(
                    "A planned switchover of {name} (group {group}), led by {leader}"
                ));
            }
            Self::Crash(_) => {
                screen::heading(&format!(
                    "A crash of {leader}, the leader of {name} (group {group})"
                ));
                screen::line("Patroni keeps the dead leader's key for its ttl, 20 s. Please wait.");
            }
        }
        Ok(())
    }

    fn execute(self, scope: &Scope, timeline: &Timeline) -> Result<()> {
        match self {
            Self::Switchover(_) => {
                timeline.add("operator", "asks Patroni for a switchover");
                scope.switchover(None).map(drop)
            }
            Self::Crash(_) => {
                let leader = scope.leader()?.name();
                timeline.add(
                    "operator",
                    &format!("kills {leader}: SIGKILL to Patroni and PostgreSQL"),
                );
                scope.crash().map(drop)
            }
        }
    }
}

/// Adds what the group's clients saw to the timeline.
fn add_clients(timeline: &Timeline, report: &Report) {
    for kind in [Kind::Write, Kind::Read] {
        let failures = report.failures(kind);
        if let Some(first) = failures.first() {
            let error = first.error.as_deref().unwrap_or_default();
            timeline.add_at(
                first.ended,
                "client",
                &format!("first failed {kind}: {error}"),
            );
        }
        let gap = report.longest_gap(kind);
        if !failures.is_empty() || gap.length() > Duration::from_millis(250) {
            timeline.add_at(gap.to, "client", &format!("first {kind} again"));
        }
    }
}

/// A log line without its time, because the timeline has its own.
fn message(line: &str) -> &str {
    let is_time = |word: &str| word.starts_with("20") && word.contains(':');
    match line.split_once(char::is_whitespace) {
        Some((first, rest)) if is_time(first) => rest.trim_start(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_loses_only_its_time() {
        assert_eq!(message("2026-01-02T03:04:05.6Z  INFO moved"), "INFO moved");
        assert_eq!(message("moved group 1"), "moved group 1");
    }
}
