//! One thing that happens to a worker group, told with milliseconds. In: a lab
//! with citus-sync and clients running. Out: the timeline, what clients saw, and
//! how soon the coordinator followed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::report::Report;
use lab::{Daemon, Kind, Lab, Observer, Scope, Timeline, Traffic, wait_for};

use crate::screen;

/// A crashed leader's key lives for `ttl` (20 s) before anybody else can lead.
const NEW_LEADER: Duration = Duration::from_secs(90);
const HEALTHY: Duration = Duration::from_secs(120);

/// What happens, and to which scope.
#[derive(Clone, Copy)]
pub(crate) enum Happening {
    Switchover(&'static str),
    Crash(&'static str),
}

impl Happening {
    fn scope(self) -> &'static str {
        match self {
            Self::Switchover(scope) | Self::Crash(scope) => scope,
        }
    }
}

pub(crate) fn tell(
    lab: &Lab,
    daemon: &Daemon,
    traffic: &Traffic,
    timeline: &Timeline,
    happening: Happening,
) -> Result<()> {
    let scope = lab.scope(happening.scope())?;
    scope.wait_healthy(HEALTHY)?;
    traffic.wait_flowing()?;
    announce(scope, happening)?;

    let observer = Observer::watch(lab, scope, timeline)?;
    let began = Instant::now();
    let former = scope.leader()?.name().to_owned();
    match happening {
        Happening::Switchover(_) => {
            timeline.add("operator", "asks Patroni for a switchover");
            scope.switchover(None)?;
        }
        Happening::Crash(_) => {
            timeline.add(
                "operator",
                &format!("kills {former}: SIGKILL to Patroni and PostgreSQL"),
            );
            scope.crash()?;
        }
    }
    let heir = scope.wait_new_leader(&former, NEW_LEADER)?;
    wait_for("pg_dist_node to follow", Duration::from_secs(30), || {
        let address = (scope.group(), heir.address());
        for database in lab.databases() {
            if !lab.rows(database)?.contains(&address) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .with_context(|| format!("citus-sync's log:\n{}", daemon.last_words()))?;
    traffic.wait_flowing()?;
    if matches!(happening, Happening::Crash(_)) {
        scope.revive()?;
    }
    drop(observer);
    let ended = Instant::now();

    let report = traffic.report().between(began, ended);
    add_clients(timeline, &report.of_group(scope.group()));
    for entry in daemon.log().entries() {
        timeline.add_at(entry.at, &entry.source, message(&entry.text));
    }
    screen::put(&timeline.render(began, ended, screen::width()));
    screen::put("\n");
    sum_up(
        lab,
        scope,
        &report,
        timeline,
        began,
        &heir.address(),
        heir.name(),
    );
    Ok(())
}

fn announce(scope: &Scope, happening: Happening) -> Result<()> {
    let leader = scope.leader()?.name().to_owned();
    let (name, group) = (scope.name(), scope.group());
    match happening {
        Happening::Switchover(_) => {
            screen::heading(&format!(
                "A planned switchover of {name} (group {group}), led by {leader}"
            ));
        }
        Happening::Crash(_) => {
            screen::heading(&format!(
                "A crash of {leader}, the leader of {name} (group {group})"
            ));
            screen::line("Patroni lets the dead leader's key live for its ttl, 20 s. Please wait.");
        }
    }
    Ok(())
}

/// What clients of the group felt, as moments among the others.
fn add_clients(timeline: &Timeline, report: &Report) {
    for kind in [Kind::Write, Kind::Read] {
        let word = if kind == Kind::Write { "write" } else { "read" };
        let failures = report.failures(kind);
        if let Some(first) = failures.first() {
            let error = first.error.as_deref().unwrap_or_default();
            timeline.add_at(
                first.ended,
                "client",
                &format!("first failed {word}: {error}"),
            );
        }
        let gap = report.longest_gap(kind);
        if !failures.is_empty() || gap.length() > Duration::from_millis(250) {
            timeline.add_at(gap.to, "client", &format!("first {word} again"));
        }
    }
}

fn sum_up(
    lab: &Lab,
    scope: &Scope,
    report: &Report,
    timeline: &Timeline,
    began: Instant,
    address: &str,
    heir: &str,
) {
    let group = scope.group();
    for kind in [Kind::Write, Kind::Read] {
        let word = if kind == Kind::Write {
            "writes"
        } else {
            "reads"
        };
        let own = report.of_group(group);
        screen::line(&format!(
            "{word:<6} of group {group}: {:>5} done, {:>4} failed, longest gap {}",
            own.succeeded(kind),
            own.failures(kind).len(),
            screen::span(own.longest_gap(kind).length()),
        ));
    }
    for other in lab
        .workers()
        .iter()
        .filter(|worker| worker.group() != group)
    {
        let of_other = report.of_group(other.group());
        let failed = of_other.failures(Kind::Write).len() + of_other.failures(Kind::Read).len();
        screen::line(&format!(
            "group {}, which nothing happened to: {failed} failed",
            other.group()
        ));
    }
    let entries = timeline.entries();
    let moment = |source: &str, text: &str| {
        entries
            .iter()
            .find(|entry| entry.at >= began && entry.source == source && entry.text == text)
            .map(|entry| entry.at)
    };
    let Some(writable) = moment(heir, "takes writes") else {
        return;
    };
    for database in lab.databases() {
        let text = format!("group {group} at {address} ({database})");
        if let Some(moved) = moment("pg_dist_node", &text) {
            screen::line(&format!(
                "{heir} takes writes -> pg_dist_node of {database} moved: {}",
                screen::span(moved.saturating_duration_since(writable)),
            ));
        }
    }
    screen::line("(seen from outside, every 2 ms)");
}

/// A log line without the time it carries: the timeline has its own.
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
    fn a_log_line_loses_its_time_only() {
        assert_eq!(message("2026-01-02T03:04:05.6Z  INFO moved"), "INFO moved");
        assert_eq!(message("moved group 1"), "moved group 1");
    }
}
