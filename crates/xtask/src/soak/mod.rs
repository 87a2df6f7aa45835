//! `cargo xtask soak`. In: a seed, and the number of operations. Out: a line for each operation,
//! and a failure at the first violation: a row that does not point at its leader, a hold that does
//! not end, a write that is lost or was executed twice, a stale answer.
//!
//! One operation follows another while clients run all the time. The fixture must be in sync before
//! the next operation begins, so that a violation has one cause.

mod checks;
mod choose;
mod counters;
mod describe;
mod evidence;
mod execute;
mod fixture;
mod operation;
mod random;
mod tally;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use lab::{Traffic, Version};

use self::counters::Counters;
use self::describe::name;
use self::fixture::Fixture;
use self::operation::Operation;
use self::random::Random;
use self::tally::{Seen, Tally};
use crate::{screen, setup, shell};

/// After this many operations the ledgers are checked and new ones begin, so that what is found
/// happened since the last check.
const LEDGER: usize = 20;

/// Arguments of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seed of the random operations; printed first, so that a run can be repeated
    #[arg(long)]
    seed: Option<u64>,
    /// Number of operations
    #[arg(long, default_value_t = 200)]
    operations: usize,
    /// Start no operation after this many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// Patroni: 3 (Debian's) or 4 (4.1, with the hook)
    #[arg(long, default_value = "4")]
    patroni: Version,
    /// Number of worker groups
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=6))]
    workers: u32,
    /// Use the Citus stand-in even where Citus is installed
    #[arg(long)]
    stand_in: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    screen::heading(&format!("Soak, seed {seed}"));
    setup::for_lab(arguments.patroni)?;
    let program = setup::build_citus_sync("building citus-sync")?;
    let (patroni, workers) = (arguments.patroni, arguments.workers);
    let fixture = Fixture::start(&program, patroni, workers, arguments.stand_in)?;
    screen::line(&format!(
        "running on {} with {}",
        fixture.lab.version(),
        fixture.lab.flavour()
    ));
    let end = arguments
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let mut run = Run {
        fixture,
        seed,
        began: Instant::now(),
        counters: Counters::default(),
        tally: Tally::default(),
        finished: Vec::new(),
        excused: 0,
        refused: 0,
        report: String::new(),
    };
    let outcome = run.operations(arguments.operations, end);
    run.sum_up();
    let folder = shell::target().join(format!("soak-{seed}"));
    match outcome {
        Ok(()) => {
            evidence::save(&run.fixture, &folder, &run.report)?;
            screen::line("no violation");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            run.report(&format!("VIOLATION, seed {seed}: {error:#}"));
            evidence::show(&run.fixture, &folder, &run.report)?;
            screen::line(&format!("VIOLATION, seed {seed}: {error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Run {
    fixture: Fixture,
    seed: u64,
    began: Instant,
    counters: Counters,
    tally: Tally,
    /// Clients of earlier ledgers. Their acknowledged writes must be there to the end.
    finished: Vec<Traffic>,
    /// Stale answers of old leaders that nothing had fenced.
    excused: usize,
    /// Operations of which a part was refused, by Patroni or by citus-sync.
    refused: usize,
    /// All lines so far.
    report: String,
}

impl Run {
    fn operations(&mut self, count: usize, end: Option<Instant>) -> Result<()> {
        let scopes = self.fixture.lab.scopes().len();
        let mut random = Random::new(self.seed);
        let mut number = 0;
        self.fixture.make_healthy()?;
        checks::in_sync(&self.fixture).context("before the first operation")?;
        while number < count && end.is_none_or(|end| Instant::now() < end) {
            let mut clients = self.fixture.clients()?;
            let sessions = clients.sessions();
            self.report(&format!("{sessions} clients, with new ledgers"));
            clients.take_report();
            for _ in 0..LEDGER.min(count - number) {
                if end.is_some_and(|end| Instant::now() >= end) {
                    break;
                }
                number += 1;
                let operation = choose::choose(&mut random, scopes);
                self.one(number, &operation, &mut clients)
                    .with_context(|| format!("operation {number}, {operation}"))?;
            }
            let writes = clients
                .verify(&self.fixture.lab)
                .with_context(|| format!("the ledgers after operation {number}"))?;
            self.report(&format!(
                "every acknowledged write is there, none twice ({writes} checked)"
            ));
            self.finished.push(clients);
        }
        self.verify_finished()?;
        let code = self.fixture.daemon.stop(Duration::from_secs(30))?;
        ensure!(code == Some(0), "citus-sync stopped with {code:?}");
        Ok(())
    }

    fn verify_finished(&mut self) -> Result<()> {
        let mut writes = 0;
        for clients in &mut self.finished {
            writes += clients
                .verify(&self.fixture.lab)
                .context("the ledgers at the end")?;
        }
        self.report(&format!(
            "at the end too, every acknowledged write is there, none twice ({writes} checked)"
        ));
        Ok(())
    }

    fn one(&mut self, number: usize, operation: &Operation, clients: &mut Traffic) -> Result<()> {
        self.report(&format!("{number:>4}  {operation}"));
        let began = Instant::now();
        if let Operation::KillDaemon(_) = operation {
            self.counters.keep_before_kill(&self.fixture.daemon);
        }
        let restarted = self.fixture.patroni_restarts;
        let notes = execute::execute(&mut self.fixture, operation);
        let executed = began.elapsed();
        let notes = notes?;
        self.fixture.make_healthy()?;
        checks::in_sync(&self.fixture)?;
        clients.wait_flowing()?;
        self.counters.ask(&self.fixture.daemon)?;
        let report = clients.take_report();
        let unfenced = operation.unfenced().map(name);
        let excused = checks::answers(&report, unfenced.as_deref())?;
        let seen = Seen::of(&report, operation);
        self.tally.add(operation, &seen);

        let (took, in_sync) = (screen::span(executed), screen::span(began.elapsed()));
        let mut line = format!(
            "      took {took}, in sync after {in_sync}; {}",
            seen.line()
        );
        if excused > 0 {
            self.excused += excused;
            let _ = write!(
                line,
                "; {excused} stale answers of a leader that was not fenced"
            );
        }
        if self.fixture.patroni_restarts > restarted {
            line.push_str("; Patroni had to be restarted");
        }
        self.report(&line);
        if !notes.is_empty() {
            self.refused += 1;
        }
        for error in seen.errors() {
            self.report(&format!("      failed: {error}"));
        }
        for note in notes {
            self.report(&format!("      but: {}", note.replace('\n', " ")));
        }
        Ok(())
    }

    /// Prints a line, with the time since the beginning.
    fn report(&mut self, text: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let line = format!("{seconds:>8.1} s  {text}\n");
        screen::put(&line);
        self.report.push_str(&line);
    }

    fn sum_up(&self) {
        let took = screen::seconds(self.began.elapsed());
        let operations = self.tally.operations();
        screen::heading(&format!(
            "Seed {}: {operations} operations in {took}",
            self.seed
        ));
        screen::line(
            "done: statements that succeeded; failed: single-shard writes and reads, multi-shard statements, and statements through a node that ended; gap: the longest of any other client",
        );
        for line in self.tally.table() {
            screen::line(&line);
        }
        screen::put("\n");
        screen::line(&format!(
            "writes of a group were held for at most {}",
            screen::span(self.counters.longest_hold)
        ));
        for (name, count) in self.counters.sums() {
            screen::line(&format!("{name}: {count}"));
        }
        for (what, count) in [
            ("operations of which a part was refused", self.refused),
            (
                "times that Patroni had to be restarted",
                self.fixture.patroni_restarts,
            ),
            (
                "stale answers of leaders that were not fenced",
                self.excused,
            ),
        ] {
            screen::line(&format!("{what}: {count}"));
        }
    }
}
