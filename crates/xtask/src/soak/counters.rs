//! The daemon's own counters. In: its metrics and its history, asked now and then. Out: sums that
//! include the daemons that were killed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Daemon;
use serde_json::Value;

/// Counters that are 0 unless there is a bug.
const NEVER: [&str; 2] = ["citus_sync_rule_violations", "citus_sync_task_restarts"];
/// Counters that are summed up at the end.
const COUNTED: [&str; 8] = [
    "citus_sync_holds",
    "citus_sync_read_moves",
    "citus_sync_steps",
    "citus_sync_entry_nodes_skipped",
    "citus_sync_sessions_terminated",
    "citus_sync_prepared_transactions_recovered",
    "citus_sync_rule_violations",
    "citus_sync_task_restarts",
];

/// Sums over all daemons of the run.
#[derive(Default)]
pub(super) struct Counters {
    /// Of daemons that were killed.
    earlier: BTreeMap<String, u64>,
    present: BTreeMap<String, u64>,
    /// The longest time that writes of one group were held in one database.
    pub(super) longest_hold: Duration,
}

impl Counters {
    /// Asks the daemon. Fails if it has counted a bug.
    pub(super) fn ask(&mut self, daemon: &Daemon) -> Result<()> {
        let (_, text) = daemon.get("/metrics")?;
        self.present = counters(&text);
        let (_, body) = daemon.get("/api/v1/history")?;
        self.longest_hold = self.longest_hold.max(longest_hold(&body));
        for name in NEVER {
            let count = self.present.get(name).copied().unwrap_or(0);
            ensure!(count == 0, "{name} is {count}");
        }
        Ok(())
    }

    /// Keeps the numbers of a daemon that is about to be killed.
    pub(super) fn keep_before_kill(&mut self, daemon: &Daemon) {
        // If it does not answer, its last answer counts.
        let _ = self.ask(daemon);
        for (name, count) in std::mem::take(&mut self.present) {
            *self.earlier.entry(name).or_default() += count;
        }
    }

    /// Each counter by its outcome, over all daemons.
    pub(super) fn sums(&self) -> BTreeMap<String, u64> {
        let mut sums = self.earlier.clone();
        for (name, count) in &self.present {
            *sums.entry(name.clone()).or_default() += count;
        }
        sums
    }
}

/// Reads counters, by name and outcome.
fn counters(text: &str) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((sample, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = sample.split('{').next().unwrap_or(sample);
        let Some(name) = name.strip_suffix("_total") else {
            continue;
        };
        if !COUNTED.contains(&name) {
            continue;
        }
        let outcome = sample
            .split_once("outcome=\"")
            .and_then(|(_, rest)| rest.split('"').next());
        let name = match outcome {
            Some(outcome) => format!("{name} {outcome}"),
            None => name.to_owned(),
        };
        *counters.entry(name).or_default() += value.parse::<u64>().unwrap_or(0);
    }
    counters
}

/// The longest time from held to released, in any database.
fn longest_hold(history: &str) -> Duration {
    let history: Value = serde_json::from_str(history).unwrap_or_default();
    let transitions = history["transitions"].as_array().into_iter().flatten();
    let databases = transitions.filter_map(|transition| transition["databases"].as_object());
    let lengths = databases
        .flat_map(|databases| databases.values())
        .map(|one| {
            let (held, released) = (one["held_us"].as_u64(), one["released_us"].as_u64());
            released
                .zip(held)
                .map_or(0, |(to, from)| to.saturating_sub(from))
        });
    Duration::from_micros(lengths.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_groups_are_summed_by_outcome() {
        let text = "# HELP citus_sync_holds Holds\n\
            citus_sync_holds_total{group=\"1\",outcome=\"expired\"} 2\n\
            citus_sync_holds_total{group=\"2\",outcome=\"expired\"} 1\n\
            citus_sync_holds_total{group=\"2\",outcome=\"followed\"} 4\n\
            citus_sync_retries_total{group=\"2\"} 4\n\
            citus_sync_task_restarts_total 0\n";
        let expected = [
            ("citus_sync_holds expired", 3),
            ("citus_sync_holds followed", 4),
            ("citus_sync_task_restarts", 0),
        ];
        let expected = expected.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(counters(text), BTreeMap::from(expected));
    }

    #[test]
    fn the_longest_hold_is_the_longest_of_any_database() {
        let history = r#"{"transitions": [
            {"databases": {"a": {"held_us": 10, "released_us": 50}, "b": {"held_us": null, "released_us": 900}}},
            {"databases": {"a": {"held_us": 100, "released_us": 190}}}
        ]}"#;
        assert_eq!(longest_hold(history), Duration::from_micros(90));
        assert_eq!(longest_hold("{}"), Duration::ZERO);
    }
}
