//! `cargo xtask endure`. In: a seed, and how many operations. Out: one line for each, and a failure
//! at the first thing that should never be: a row that is not its leader's, a hold that does not
//! end, a write that is lost or was made twice, an answer that is old.
//!
//! Operations come one after the other, clients run all the time. The world is made whole before the next
//! operation begins, so that what is found has one cause.

mod carry;
mod chance;
mod checks;
mod evidence;
mod numbers;
mod operation;
mod tally;
mod words;
mod world;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use lab::{Traffic, Version};

use self::chance::Chance;
use self::numbers::Numbers;
use self::operation::Operation;
use self::tally::{Seen, Tally};
use self::words::name;
use self::world::World;
use crate::{screen, setup, shell};

/// The ledger is looked at, and a new one begun, after this many operations: what is wrong with it
/// happened since the last look.
const LEDGER: usize = 20;

/// Arguments of `cargo xtask endure`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The same seed gives the same operations; printed first
    #[arg(long)]
    seed: Option<u64>,
    /// How many operations
    #[arg(long, default_value_t = 200)]
    operations: usize,
    /// Begin nothing new after this many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// 3 (Debian's) or 4 (4.1, with the hook)
    #[arg(long, default_value = "4")]
    patroni: Version,
    /// Worker groups
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=6))]
    workers: u32,
    /// The Citus stand-in even where Citus is installed
    #[arg(long)]
    stand_in: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    screen::heading(&format!("A long run, seed {seed}"));
    setup::for_build()?;
    setup::for_lab(arguments.patroni)?;
    screen::step("building citus-sync", || {
        shell::run_quietly(&mut shell::cargo(&["build", "--quiet", "-p", "citus-sync"]))
    })?;
    let program = shell::target().join("debug/citus-sync");
    let (patroni, workers) = (arguments.patroni, arguments.workers);
    let world = World::start(&program, patroni, workers, arguments.stand_in)?;
    screen::line(&format!(
        "running on {} with {}",
        world.lab.version(),
        world.lab.flavour()
    ));
    let end = arguments
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let mut run = Run {
        world,
        seed,
        began: Instant::now(),
        numbers: Numbers::default(),
        tally: Tally::default(),
        finished: Vec::new(),
        excused: 0,
        refused: 0,
        story: String::new(),
    };
    let outcome = run.operations(arguments.operations, end);
    run.sum_up();
    let folder = shell::target().join(format!("endure-{seed}"));
    match outcome {
        Ok(()) => {
            evidence::save(&run.world, &folder, &run.story)?;
            screen::line("no violation");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            run.tell(&format!("VIOLATION, seed {seed}: {error:#}"));
            evidence::show(&run.world, &folder, &run.story)?;
            screen::line(&format!("VIOLATION, seed {seed}: {error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Run {
    world: World,
    seed: u64,
    began: Instant,
    numbers: Numbers,
    tally: Tally,
    /// Clients of earlier ledgers: what was acknowledged to them must be there to the end.
    finished: Vec<Traffic>,
    /// Old answers of a leader that nobody had fenced.
    excused: usize,
    /// Operations of which Patroni, or somebody else, refused a part.
    refused: usize,
    story: String,
}

impl Run {
    fn operations(&mut self, count: usize, end: Option<Instant>) -> Result<()> {
        let scopes = self.world.lab.scopes().len();
        let mut chance = Chance::new(self.seed);
        let mut number = 0;
        self.world.make_whole()?;
        checks::settled(&self.world).context("before the first operation")?;
        while number < count && end.is_none_or(|end| Instant::now() < end) {
            let mut clients = self.world.clients()?;
            let sessions = clients.sessions();
            self.tell(&format!("{sessions} clients, with a new ledger"));
            clients.take_report();
            for _ in 0..LEDGER.min(count - number) {
                if end.is_some_and(|end| Instant::now() >= end) {
                    break;
                }
                number += 1;
                let operation = Operation::choose(&mut chance, scopes);
                self.one(number, &operation, &mut clients)
                    .with_context(|| format!("operation {number}, {operation}"))?;
            }
            let writes = clients
                .verify(&self.world.lab)
                .with_context(|| format!("the ledger after operation {number}"))?;
            self.tell(&format!(
                "every acknowledged write is there, none twice ({writes} checked)"
            ));
            self.finished.push(clients);
        }
        let mut writes = 0;
        for clients in &mut self.finished {
            writes += clients
                .verify(&self.world.lab)
                .context("the ledgers at the end")?;
        }
        self.tell(&format!(
            "at the end, too, every acknowledged write is there, none twice ({writes} checked)"
        ));
        let code = self.world.daemon.stop(Duration::from_secs(30))?;
        ensure!(code == Some(0), "citus-sync stopped with {code:?}");
        Ok(())
    }

    fn one(&mut self, number: usize, operation: &Operation, clients: &mut Traffic) -> Result<()> {
        self.tell(&format!("{number:>4}  {operation}"));
        let began = Instant::now();
        if let Operation::KillDaemon { .. } = operation {
            self.numbers.bank(&self.world.daemon);
        }
        let anew = self.world.made_anew;
        let notes = carry::carry_out(&mut self.world, operation);
        let carried = began.elapsed();
        let notes = notes?;
        self.world.make_whole()?;
        checks::settled(&self.world)?;
        clients.wait_flowing()?;
        self.numbers.ask(&self.world.daemon)?;
        let report = clients.take_report();
        let unfenced = operation.unfenced().map(name);
        let excused = checks::answers(&report, unfenced.as_deref())?;
        let seen = Seen::of(&report, operation);
        self.tally.add(operation, &seen);

        let (carried, whole) = (screen::span(carried), screen::span(began.elapsed()));
        let mut line = format!("      took {carried}, whole after {whole}; {}", seen.line());
        if excused > 0 {
            self.excused += excused;
            let _ = write!(
                line,
                "; {excused} old answers of a leader nobody had fenced"
            );
        }
        if self.world.made_anew > anew {
            line.push_str("; Patroni had to be started anew");
        }
        self.tell(&line);
        if !notes.is_empty() {
            self.refused += 1;
        }
        for complaint in seen.complaints() {
            self.tell(&format!("      failed: {complaint}"));
        }
        for note in notes {
            self.tell(&format!("      but: {}", note.replace('\n', " ")));
        }
        Ok(())
    }

    /// A line of the run, with the time since its beginning.
    fn tell(&mut self, text: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let line = format!("{seconds:>8.1} s  {text}\n");
        screen::put(&line);
        self.story.push_str(&line);
    }

    fn sum_up(&self) {
        let took = screen::seconds(self.began.elapsed());
        let operations = self.tally.operations();
        screen::heading(&format!(
            "Seed {}: {operations} operations in {took}",
            self.seed
        ));
        screen::line(
            "statements done; failed: single-shard writes and reads, multi-shard ones, and all through a node that ended itself; longest gap of any other client",
        );
        for line in self.tally.table() {
            screen::line(&line);
        }
        screen::put("\n");
        screen::line(&format!(
            "writes of a group were held for at most {}",
            screen::span(self.numbers.longest_hold)
        ));
        for (name, count) in self.numbers.sums() {
            screen::line(&format!("{name}: {count}"));
        }
        screen::line(&format!(
            "operations of which somebody refused a part: {}",
            self.refused
        ));
        screen::line(&format!(
            "times that Patroni had to be started anew: {}",
            self.world.made_anew
        ));
        screen::line(&format!(
            "old answers of a leader that nobody had fenced: {}",
            self.excused
        ));
    }
}
