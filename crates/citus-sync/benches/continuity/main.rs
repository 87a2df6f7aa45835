//! Continuity: what clients notice of a planned switchover, a planned restart and a crash.
//!
//! Clients write and read through the coordinator and, where metadata is synced, through a worker,
//! while one, two or four groups at once are disturbed. The same is done with citus-sync and then
//! with a poll of `pg_is_in_recovery()` every ten seconds ([`baseline`]), in the same lab, with the
//! same clients.

mod account;
mod arguments;
mod baseline;
mod clients;
mod event;
mod fixture;
mod goals;
#[path = "../support/machine.rs"]
mod machine;
mod measure;
mod numbers;
mod sample;
mod show;
#[path = "../support/table.rs"]
mod table;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use lab::Traffic;

use self::arguments::Args;
use self::baseline::Baseline;
use self::event::{Event, Who};
use self::fixture::Fixture;
use self::sample::Sample;

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

    for event in &args.events {
        if !fixture.can(*event) {
            eprintln!("{event}: this Patroni runs no hook, skipped");
        }
    }
    let mut samples = with_daemon(&args, &mut fixture, &mut traffic)?;
    if args.baseline_rounds > 0 {
        samples.extend(with_poll(&args, &fixture, &mut traffic)?);
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

/// Every event of every round, while citus-sync moves the rows.
fn with_daemon(args: &Args, fixture: &mut Fixture, traffic: &mut Traffic) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 0..args.rounds.max(args.crashes) {
        for (event, groups) in plan(args, fixture) {
            let rounds = if event.is_crash() {
                args.crashes
            } else {
                args.rounds
            };
            if round < rounds {
                fixture.start_daemon(&event.policy())?;
                let sample = measure::run(fixture, traffic, Who::Daemon, event, groups, round);
                samples.push(keep(sample.with_context(|| fixture.last_words()))?);
            }
        }
    }
    fixture.stop_daemon()?;
    Ok(samples)
}

/// Every event of every round, while the poll moves the rows.
fn with_poll(args: &Args, fixture: &Fixture, traffic: &mut Traffic) -> Result<Vec<Sample>> {
    let _baseline = Baseline::start(&fixture.lab, Duration::from_secs(args.poll_s));
    let mut samples = Vec::new();
    for round in 0..args.baseline_rounds {
        for (event, groups) in without_daemon(plan(args, fixture)) {
            let sample = measure::run(fixture, traffic, Who::Poll, event, groups, round);
            samples.push(keep(sample)?);
        }
    }
    Ok(samples)
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

/// The same where no daemon answers a hook or holds writes, each once.
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
