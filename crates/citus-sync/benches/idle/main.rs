//! What the daemon costs while nothing moves: CPU time, memory, connections
//! and requests to etcd, with every member's key and every `/status` rewritten
//! every ten seconds, as Patroni does.

mod fixture;
mod floor;
mod process;
mod requests;
#[path = "../support/mod.rs"]
mod support;
mod writer;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use serde::Serialize;
use serde_json::json;

use self::fixture::Fixture;
use self::floor::Floor;
use self::process::Usage;
use self::requests::Requests;
use self::support::daemon::Daemon;
use self::support::machine::Machine;
use self::support::table;
use self::writer::Writer;

/// The goals, at the largest size.
const GOAL_CPU_PERCENT: f64 = 0.5;
const GOAL_MEMORY_MIB: f64 = 25.0;

/// Quiet time between the start of the writing and that of the measurement.
const WARM_UP: Duration = Duration::from_secs(5);

/// Measures what the daemon costs while nothing moves
#[derive(Debug, Parser)]
struct Args {
    /// Worker scopes, one run for each number
    #[arg(long, value_delimiter = ',', default_values_t = [10, 500])]
    scopes: Vec<u32>,
    /// How long each run is measured
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Run citus-sync under this command, like "valgrind --tool=callgrind"; the numbers of such a
    /// run mean nothing
    #[arg(long)]
    under: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`; without it, as under `cargo test --all-targets`, nothing is done
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the floor: watch this etcd and do nothing else
    #[arg(long, hide = true)]
    watch_only: Option<String>,
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    scopes: u32,
    seconds: f64,
    cpu_ms: f64,
    cpu_percent: f64,
    /// Of it, in the kernel.
    system_percent: f64,
    wakeups_per_second: f64,
    floor_cpu_percent: f64,
    floor_wakeups_per_second: f64,
    memory_mib: f64,
    /// Of it, not backed by a file.
    anonymous_mib: f64,
    peak_mib: f64,
    threads: u64,
    connections_coordinator: i64,
    connections_workers: i64,
    keys_written: u64,
    events: u64,
    requests: Requests,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("idle: nothing is measured without --bench; run `cargo xtask bench idle`");
        return Ok(());
    }
    if let Some(etcd) = &args.watch_only {
        return floor::watch(etcd);
    }
    let mut runs = Vec::new();
    let mut machine: Option<Machine> = None;
    for scopes in &args.scopes {
        let fixture = Fixture::prepare(*scopes)?;
        if machine.is_none() {
            machine = Some(fixture.machine()?);
        }
        let endpoint = fixture.etcd.endpoint();
        let under = args.under.as_deref();
        let daemon = Daemon::start(
            &fixture.sandbox,
            &endpoint,
            fixture::DATABASE,
            *scopes,
            under,
        )?;
        let run = measure(
            &fixture,
            &daemon,
            *scopes,
            Duration::from_secs(args.seconds),
        );
        runs.push(run.with_context(|| daemon.last_words())?);
    }
    let mut machine = machine.context("--scopes names no size")?;
    machine.finish();
    report(&args, &machine, &runs);
    Ok(())
}

fn measure(fixture: &Fixture, daemon: &Daemon, scopes: u32, period: Duration) -> Result<Run> {
    let floor = Floor::start(&fixture.sandbox, &fixture.etcd.endpoint())?;
    let writer = Writer::start(&fixture.etcd.endpoint(), fixture.heartbeats())?;
    thread::sleep(WARM_UP);
    let asked = Requests::read(daemon, &fixture.etcd)?;
    let floor_before = Usage::of(floor.pid())?;
    let (before, written, began) = (Usage::of(daemon.pid())?, writer.count(), Instant::now());
    thread::sleep(period);
    let (after, elapsed) = (Usage::of(daemon.pid())?, began.elapsed().as_secs_f64());
    let floor_after = Usage::of(floor.pid())?;
    let keys_written = writer.count() - written;
    let requests = Requests::read(daemon, &fixture.etcd)?.since(&asked);
    writer.finish()?;
    let (connections_coordinator, connections_workers) = fixture.connections()?;
    let cpu = after.cpu.saturating_sub(before.cpu);
    let percent =
        |later: Duration, earlier| later.saturating_sub(earlier).as_secs_f64() / elapsed * 100.0;
    let wakeups = |later: Usage, earlier: Usage| -> Result<f64> {
        Ok(f64::from(u32::try_from(later.switches - earlier.switches)?) / elapsed)
    };
    Ok(Run {
        scopes,
        seconds: elapsed,
        cpu_ms: cpu.as_secs_f64() * 1e3,
        cpu_percent: percent(after.cpu, before.cpu),
        system_percent: percent(after.system, before.system),
        wakeups_per_second: wakeups(after, before)?,
        floor_cpu_percent: percent(floor_after.cpu, floor_before.cpu),
        floor_wakeups_per_second: wakeups(floor_after, floor_before)?,
        memory_mib: after.resident_mib,
        anonymous_mib: after.anonymous_mib,
        peak_mib: after.peak_mib,
        threads: after.threads,
        connections_coordinator,
        connections_workers,
        keys_written,
        events: requests.events,
        requests,
    })
}

fn report(args: &Args, machine: &Machine, runs: &[Run]) {
    let largest = runs.iter().max_by_key(|run| run.scopes);
    let reached = largest
        .is_some_and(|run| run.cpu_percent < GOAL_CPU_PERCENT && run.memory_mib < GOAL_MEMORY_MIB);
    if args.json {
        let document = json!({
            "machine": machine,
            "runs": runs,
            "goal": {
                "cpu_percent": GOAL_CPU_PERCENT,
                "memory_mib": GOAL_MEMORY_MIB,
                "reached": reached,
            },
        });
        println!("{document:#}");
        return;
    }
    println!(
        "an idle citus-sync, {} s each; three members a scope, all keys rewritten every 10 s",
        args.seconds
    );
    println!("{machine}\n");
    print_runs(runs);
    if let Some(run) = largest {
        println!(
            "\ngoal at {} scopes: under {GOAL_CPU_PERCENT} % of one core and {GOAL_MEMORY_MIB} MiB: {}",
            run.scopes,
            if reached { "reached" } else { "NOT reached" }
        );
    }
    println!(
        "PostgreSQL has the stand-in here: what idling costs does not depend on Citus. All leaders \
         are one server under many addresses.\netcd's own count is that of calls begun, without \
         the puts of the bench."
    );
}

/// A number of a run, as it is printed.
type Cell = fn(&Run) -> String;

/// The lines of the table: what each is about, and its cell for one run.
const LINES: [(&str, Cell); 18] = [
    ("CPU time, % of one core", |run| {
        format!("{:.3}", run.cpu_percent)
    }),
    ("  of it in the kernel", |run| {
        format!("{:.3}", run.system_percent)
    }),
    ("CPU time, ms in all", |run| format!("{:.0}", run.cpu_ms)),
    ("wakeups a second", |run| {
        format!("{:.1}", run.wakeups_per_second)
    }),
    ("  the same for a bare watch, %", |run| {
        format!("{:.3}", run.floor_cpu_percent)
    }),
    ("  its wakeups a second", |run| {
        format!("{:.1}", run.floor_wakeups_per_second)
    }),
    ("resident memory, MiB", |run| {
        format!("{:.1}", run.memory_mib)
    }),
    ("  of it anonymous", |run| {
        format!("{:.1}", run.anonymous_mib)
    }),
    ("  at its peak", |run| format!("{:.1}", run.peak_mib)),
    ("threads", |run| run.threads.to_string()),
    ("connections to the coordinator", |run| {
        run.connections_coordinator.to_string()
    }),
    ("connections to workers", |run| {
        run.connections_workers.to_string()
    }),
    ("keys written a minute", |run| {
        per_minute(run.keys_written, run)
    }),
    ("events received a minute", |run| {
        per_minute(run.events, run)
    }),
    ("requests to etcd a minute, by its own count", |run| {
        per_minute(run.requests.calls(), run)
    }),
    ("  lists, by the daemon's count", |run| {
        per_minute(run.requests.lists, run)
    }),
    ("  watches opened", |run| {
        per_minute(run.requests.watches, run)
    }),
    ("  signs of life asked for inside the watch", |run| {
        per_minute(run.requests.progress, run)
    }),
];

/// A line for each number, a column for each run.
fn print_runs(runs: &[Run]) {
    let names: Vec<String> = runs
        .iter()
        .map(|run| format!("{} scopes", run.scopes))
        .collect();
    let mut head = vec![""];
    head.extend(names.iter().map(String::as_str));
    let rows = LINES.map(|(name, cell)| {
        let mut row = vec![name.to_owned()];
        row.extend(runs.iter().map(cell));
        row
    });
    table::print(&head, &rows);
}

/// A count of a run, for each minute of it.
fn per_minute(count: u64, run: &Run) -> String {
    // Counts of minutes are far below 2^32.
    let count = u32::try_from(count).map_or(f64::NAN, f64::from);
    format!("{:.1}", count * 60.0 / run.seconds)
}
