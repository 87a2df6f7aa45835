//! What the bench prints. In: the samples. Out: tables, goals and errors, or one JSON document.

use citus_core::report::{Phase, Transition, TransitionOutcome};
use serde_json::json;

use super::arguments::Args;
use super::event::{Event, Who};
use super::fixture::Fixture;
use super::goals::goals;
use super::machine::Machine;
use super::numbers::{Cell, Spread, spread};
use super::sample::Sample;
use super::table;

/// A run of the bench.
pub(crate) struct Run<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) fixture: &'a Fixture,
    pub(crate) args: &'a Args,
    pub(crate) sessions: usize,
    pub(crate) acknowledged_writes: usize,
    pub(crate) samples: &'a [Sample],
}

impl Run<'_> {
    /// As text.
    pub(crate) fn print(&self) {
        let cells = Cell::all(self.samples);
        let timing = self.fixture.timing;
        println!(
            "clients of 4 worker groups of two while 1, 2 or all 4 of them are disturbed at once\n{}",
            self.machine
        );
        println!(
            "ttl {} s, loop_wait {} s; {} sessions, {} ms between two statements, in {} databases; \
             the poll looks every {} s\npolicies: with the hook hold_on_request: off; crash, held: hold_on_leader_loss: on, hold_timeout: 60s\n",
            timing.ttl.as_secs(),
            timing.loop_wait.as_secs(),
            self.sessions,
            self.args.pause_ms,
            self.fixture.lab.databases().len(),
            self.args.poll_s,
        );
        match self.fixture.entry_node {
            Some(entry_node) => println!(
                "Half of the clients enter through {entry_node}, a fifth group that nothing happens to; failed \
                 statements are those through the coordinator + those through {entry_node}."
            ),
            None if self.args.few => println!(
                "All clients enter through the coordinator, and write and read single shards."
            ),
            None => println!(
                "Citus is not used here: no other entry node than the coordinator, no multi-shard statements, \
                 and of each key the ledger knows the last write only."
            ),
        }
        self.print_clients(&cells);
        print_times(&cells);
        print_phases(&cells);
        print_goals(&cells);
        print_errors(&cells);
        println!(
            "\n{} acknowledged writes were looked for at the end: each is there{}.",
            self.acknowledged_writes,
            if self.fixture.lab.flavour().is_citus() {
                " once"
            } else {
                ""
            },
        );
    }

    /// As one document.
    pub(crate) fn json(&self) {
        let cells = Cell::all(self.samples);
        let timing = self.fixture.timing;
        let document = json!({
            "machine": self.machine,
            "timing_s": {
                "ttl": timing.ttl.as_secs(),
                "loop_wait": timing.loop_wait.as_secs(),
                "retry_timeout": timing.retry_timeout.as_secs(),
            },
            "sessions": self.sessions,
            "pause_ms": self.args.pause_ms,
            "poll_s": self.args.poll_s,
            "entry_node": self.fixture.entry_node,
            "unit": "ms",
            "samples": self.samples,
            "goals": goals(&cells),
            "acknowledged_writes": self.acknowledged_writes,
        });
        println!("{document:#}");
    }

    fn print_clients(&self, cells: &[Cell<'_>]) {
        println!(
            "\nfailed statements, all rounds together; times in ms, median and worst of the rounds\n\
             gap: the longest time that one client waited for a statement, from its first try to its success"
        );
        let head = [
            "",
            "groups",
            "rounds",
            "writes",
            "reads",
            "multi-shard",
            "elsewhere",
            "write gap",
            "worst",
            "read gap",
            "worst",
            "multi w",
            "multi r",
        ];
        let rows = cells.iter().map(|cell| {
            let mut row = start(cell);
            row.push(self.entry_nodes(cell, |sample, entry_node| {
                sample.failed_writes.get(entry_node).copied()
            }));
            row.push(self.entry_nodes(cell, |sample, entry_node| {
                sample.failed_reads.get(entry_node).copied()
            }));
            let multi = (
                cell.sum(|sample| sample.failed_multi_writes),
                cell.sum(|sample| sample.failed_multi_reads),
            );
            row.push(format!("{} w, {} r", multi.0, multi.1));
            row.push(cell.sum(|sample| sample.failed_elsewhere).to_string());
            row.extend(both(cell.spread(|sample| sample.write_gap)));
            row.extend(both(cell.spread(|sample| sample.read_gap)));
            row.push(short(cell.spread(|sample| sample.multi_write_gap).median));
            row.push(short(cell.spread(|sample| sample.multi_read_gap).median));
            row
        });
        table::print(&head, &rows.collect::<Vec<_>>());
    }

    /// Through the coordinator, and through the other entry node if there is one.
    fn entry_nodes(
        &self,
        cell: &Cell<'_>,
        failed: impl Fn(&Sample, &str) -> Option<usize>,
    ) -> String {
        let through = |entry_node: &str| {
            cell.sum(|sample| failed(sample, entry_node).unwrap_or(0))
                .to_string()
        };
        let coordinator = through(self.fixture.lab.coordinator().name());
        match self.fixture.entry_node {
            Some(entry_node) => format!("{coordinator}+{}", through(entry_node)),
            None => coordinator,
        }
    }
}

fn print_times(cells: &[Cell<'_>]) {
    println!(
        "\nno leader: from the old primary's end to the first commit at a leader, by a look at the members \
         themselves\nbeyond: by how much the write gap of a group is longer; last write, first write: the \
         parts of it before and after\nover: from the event until every client of the groups was served by \
         a writable leader"
    );
    let head = [
        "",
        "groups",
        "rounds",
        "no leader",
        "worst",
        "beyond",
        "worst",
        "last write",
        "first write",
        "worst",
        "reads back",
        "worst",
        "over",
        "worst",
    ];
    let disturbed = cells.iter().filter(|cell| cell.event != Event::Nothing);
    let rows = disturbed.map(|cell| {
        let mut row = start(cell);
        row.extend(both(cell.spread(|sample| sample.stop_to_writable)));
        row.extend(both(cell.spread(|sample| sample.write_gap_beyond)));
        row.push(short(cell.spread(|sample| sample.last_write).median));
        row.extend(both(cell.spread(|sample| sample.first_write)));
        if cell.event.is_crash() {
            row.extend(both(cell.spread(|sample| sample.reads_back)));
        } else {
            row.extend(["-".into(), "-".into()]);
        }
        row.extend(both(cell.spread(|sample| sample.over)));
        row
    });
    table::print(&head, &rows.collect::<Vec<_>>());
}

/// The phases of a transition that the daemon reports, each with the head of its column.
const PHASES: [(Phase, &str); 8] = [
    (Phase::Requested, "requested"),
    (Phase::Held, "held"),
    (Phase::ReadsMoved, "reads moved"),
    (Phase::LeaderGone, "leader gone"),
    (Phase::LeaderKey, "leader key"),
    (Phase::Writable, "writable"),
    (Phase::Committed, "committed"),
    (Phase::Released, "released"),
];

/// The medians of the times that the daemon reports.
fn print_phases(cells: &[Cell<'_>]) {
    let daemon = cells.iter().filter(|cell| cell.who == Who::Daemon);
    let rows: Vec<_> = daemon.filter_map(phases).collect();
    if rows.is_empty() {
        return;
    }
    println!(
        "\nthe daemon's own account (/api/v1/history), each group a transition; ms since its first news, medians"
    );
    let mut head = vec![
        "",
        "groups",
        "transitions",
        "ended",
        "skipped",
        "terminated",
    ];
    head.extend(PHASES.map(|(_, name)| name));
    table::print(&head, &rows);
}

/// The row of one cell, if the daemon reports any transition in it.
fn phases(cell: &Cell<'_>) -> Option<Vec<String>> {
    let samples = cell.samples.iter();
    let transitions: Vec<_> = samples.flat_map(|sample| &sample.transitions).collect();
    if transitions.is_empty() {
        return None;
    }
    let databases = || {
        let transitions = transitions.iter();
        transitions.flat_map(|transition| transition.databases.values())
    };
    let skipped: usize = databases().map(|database| database.skipped.len()).sum();
    let terminated: usize = databases().map(|database| database.terminated.len()).sum();
    let mut row = start(cell);
    row[2] = transitions.len().to_string();
    row.push(ended(&transitions));
    row.push(skipped.to_string());
    row.push(terminated.to_string());
    row.extend(PHASES.map(|(phase, _)| median(&transitions, phase)));
    Some(row)
}

/// When the phase happened, in the median of the transitions in which it did.
fn median(transitions: &[&Transition], phase: Phase) -> String {
    let times = transitions
        .iter()
        .flat_map(|transition| transition.phases.happened());
    let times = times.filter(|(happened, _)| *happened == phase);
    #[allow(
        clippy::cast_precision_loss,
        reason = "hours are far from 2^52 microseconds"
    )]
    let median = spread(times.map(|(_, us)| us as f64 / 1e3)).map(|times| times.median);
    median.map_or_else(|| "-".into(), short)
}

/// How many transitions ended how.
fn ended(transitions: &[&Transition]) -> String {
    let outcomes = [
        TransitionOutcome::Followed,
        TransitionOutcome::Kept,
        TransitionOutcome::Expired,
    ];
    let words = outcomes.iter().filter_map(|outcome| {
        let number = transitions
            .iter()
            .filter(|transition| transition.outcome == *outcome)
            .count();
        (number > 0).then(|| format!("{number} {}", outcome.name()))
    });
    words.collect::<Vec<_>>().join(", ")
}

fn print_goals(cells: &[Cell<'_>]) {
    println!("\ngoals; the worst round counts");
    let rows: Vec<Vec<String>> = goals(cells)
        .into_iter()
        .map(|goal| {
            let met = if goal.met { "met" } else { "MISSED" };
            vec![
                format!("{} of {}: {}", goal.event, goal.groups, goal.wanted),
                goal.measured,
                met.into(),
            ]
        })
        .collect();
    table::print(&["", "measured", ""], &rows);
}

fn print_errors(cells: &[Cell<'_>]) {
    let mut rows = Vec::new();
    for cell in cells {
        let mut counted: Vec<(&str, usize)> = Vec::new();
        for (error, number) in cell.samples.iter().flat_map(|sample| &sample.errors) {
            match counted.iter_mut().find(|(known, _)| known == error) {
                Some((_, sum)) => *sum += number,
                None => counted.push((error, *number)),
            }
        }
        let of = |error: &str, number: usize| {
            vec![
                format!("{} of {}: {error}", name(cell), cell.groups),
                number.to_string(),
            ]
        };
        rows.extend(counted.into_iter().map(|(error, number)| of(error, number)));
        let transitions = cell.samples.iter().flat_map(|sample| &sample.transitions);
        for database in transitions.flat_map(|transition| transition.databases.values()) {
            rows.extend(
                database
                    .skipped
                    .iter()
                    .map(|entry_node| of(&format!("skipped {entry_node}"), 1)),
            );
            rows.extend(
                database
                    .error
                    .iter()
                    .map(|error| of(&format!("citus-sync: {error}"), 1)),
            );
        }
    }
    if !rows.is_empty() {
        println!("\nerrors that clients saw, and what the daemon had to skip");
        table::print(&["", "times"], &rows);
    }
}

fn name(cell: &Cell<'_>) -> String {
    match cell.who {
        Who::Daemon => cell.event.to_string(),
        Who::Poll => format!("poll: {}", cell.event),
    }
}

fn start(cell: &Cell<'_>) -> Vec<String> {
    vec![
        name(cell),
        cell.groups.to_string(),
        cell.samples.len().to_string(),
    ]
}

fn both(spread: Spread) -> [String; 2] {
    [short(spread.median), short(spread.worst)]
}

/// Milliseconds; tenths where they matter.
fn short(ms: f64) -> String {
    if ms.abs() < 10.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}
