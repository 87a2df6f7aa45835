//! Continuity: what clients notice of a planned switchover, a planned restart and a crash.
//!
//! Clients write and read through the coordinator and, where metadata is synced, through a worker,
//! while one, two or four groups at once are disturbed. The same is done with citus-sync and then
//! with a poll of `pg_is_in_recovery()` every ten seconds ([`baseline`]), in the same lab, with the
//! same clients.

mod account;
mod baseline;
mod clients;
mod event;
mod fixture;
mod goals;
#[path = "../support/machine.rs"]
mod machine;
mod numbers;
mod sample;
mod show;
#[path = "../support/table.rs"]
mod table;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use lab::Traffic;

use self::baseline::Baseline;
use self::event::{Event, Who};
use self::fixture::Fixture;
use self::sample::Sample;

/// Measures what clients notice of switchovers, restarts and crashes
#[derive(Debug, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Args {
    /// How often each planned event is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How often each crash is measured: one takes most of a minute
    #[arg(long, default_value_t = 2)]
    crashes: usize,
    /// How often each event is measured with the ten-second poll
    #[arg(long, default_value_t = 1)]
    baseline_rounds: usize,
    /// How many groups at once
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_parser = parse_groups)]
    groups: Vec<usize>,
    /// Which events
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Event::ALL)]
    events: Vec<Event>,
    /// Between two statements of a client
    #[arg(long, default_value_t = 150)]
    pause_ms: u64,
    /// A writer and a reader for each group in one database, through the coordinator, instead of clients
    /// of all sorts
    #[arg(long)]
    few: bool,
    /// Seconds between two looks of the poll that citus-sync is compared with
    #[arg(long, default_value_t = 10)]
    poll_s: u64,
    /// 3 (Debian's; before 3.0.3 without the hook) or 4 (4.1)
    #[arg(long, default_value = "4")]
    patroni: lab::Version,
    /// Use the stand-in although Citus is installed
    #[arg(long)]
    stand_in: bool,
    /// Tell of every event what etcd, the members, the daemon and the hook said, and the
    /// first failures of clients (to standard error)
    #[arg(long)]
    accounts: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`; without it, as under `cargo test --all-targets`, nothing is done
    #[arg(long, hide = true)]
    bench: bool,
}

/// Groups that are ever disturbed at once; one more is the entry node.
const GROUPS: usize = 4;

fn parse_groups(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=GROUPS).contains(&number) => Ok(number),
        _ => Err(format!("1 to {GROUPS}")),
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!(
            "continuity: nothing is measured without --bench; run `cargo xtask bench continuity`"
        );
        return Ok(());
    }
    let mut fixture = Fixture::prepare(args.patroni, args.stand_in)?;
    fixture.accounts = args.accounts;
    fixture.entry_node = fixture.entry_node.filter(|_| !args.few);
    let mut machine = fixture.machine()?;
    let pause = Duration::from_millis(args.pause_ms);
    let mut traffic = clients::start(&fixture, pause, args.few)?;
    eprintln!(
        "{} with {}: {} sessions; the entry node beside the coordinator: {}",
        fixture.lab.version(),
        fixture.lab.flavour(),
        traffic.sessions(),
        fixture.entry_node.unwrap_or("none"),
    );

    let mut samples = Vec::new();
    for event in &args.events {
        if !fixture.can(*event) {
            eprintln!("{event}: this Patroni runs no hook, skipped");
        }
    }
    for round in 0..args.rounds.max(args.crashes) {
        for (event, groups) in plan(&args, &fixture) {
            let rounds = if event.is_crash() {
                args.crashes
            } else {
                args.rounds
            };
            if round < rounds {
                fixture.start_daemon(&event.policy())?;
                let sample = event::run(&fixture, &mut traffic, Who::Daemon, event, groups, round);
                samples.push(keep(sample.with_context(|| fixture.last_words()))?);
            }
        }
    }
    fixture.stop_daemon()?;

    if args.baseline_rounds > 0 {
        let poll = Duration::from_secs(args.poll_s);
        let baseline = Baseline::start(&fixture.lab, poll);
        for round in 0..args.baseline_rounds {
            for (event, groups) in without_daemon(plan(&args, &fixture)) {
                let sample = event::run(&fixture, &mut traffic, Who::Poll, event, groups, round);
                samples.push(keep(sample)?);
            }
        }
        drop(baseline);
    }
    let writes = verify(&fixture, &mut traffic)?;
    machine.finish();
    let shown = show::Run {
        machine: &machine,
        fixture: &fixture,
        args: &args,
        sessions: traffic.sessions(),
        acknowledged_writes: writes,
        samples: &samples,
    };
    if args.json {
        shown.json();
    } else {
        shown.print();
    }
    Ok(())
}

/// Each event with each number of groups.
fn plan(args: &Args, fixture: &Fixture) -> Vec<(Event, usize)> {
    let groups = args.groups.iter();
    groups
        .flat_map(|groups| args.events.iter().map(|event| (*event, *groups)))
        .filter(|(event, _)| fixture.can(*event))
        // It is the same for any number of groups.
        .filter(|(event, groups)| *event != Event::Nothing || Some(groups) == args.groups.last())
        .collect()
}

/// The same where nobody listens to a hook or holds anything, each once.
fn without_daemon(plan: Vec<(Event, usize)>) -> Vec<(Event, usize)> {
    let mut all: Vec<(Event, usize)> = Vec::new();
    for (event, groups) in plan {
        let event = (event.without_daemon(), groups);
        if event.0 != Event::Nothing && !all.contains(&event) {
            all.push(event);
        }
    }
    all
}

fn keep(sample: Result<Sample>) -> Result<Sample> {
    let sample = sample?;
    eprintln!("{}", sample.line());
    Ok(sample)
}

/// How many acknowledged writes are there, none of them twice.
fn verify(fixture: &Fixture, traffic: &mut Traffic) -> Result<usize> {
    fixture.wait_whole()?;
    traffic.verify(&fixture.lab)
}
