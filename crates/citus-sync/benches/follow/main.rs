//! How fast a row follows its leader: from etcd's acknowledgement of a leader
//! key to the row committed, for a leader that already takes writes.
//!
//! Beside it, in the same run and in turn with it, the floor: the least that
//! can be done with the same etcd and the same coordinator ([`floor`]).

mod fixture;
mod floor;
mod mover;
mod numbers;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::json;

use self::fixture::Fixture;
use self::mover::{Measured, Mover, Side};
use self::numbers::{Numbers, ratio};
use self::support::daemon::Daemon;
use self::support::machine::Machine;
use self::support::table;

/// The goals: of the daemon's latency by the floor's.
const GOAL_P50: f64 = 1.25;
const GOAL_P99: f64 = 2.0;

/// Measures from etcd's acknowledgement of a leader key to the row committed
#[derive(Debug, Parser)]
struct Args {
    /// Moves by the daemon, and as many by the floor
    #[arg(long, default_value_t = 1000)]
    moves: usize,
    /// Moves of each side before the counting begins
    #[arg(long, default_value_t = 50)]
    warm_up: usize,
    /// Quiet time between two moves, after the coordinator has told all nodes of the last one
    #[arg(long, default_value_t = 20)]
    pause_ms: u64,
    /// Use the stand-in although Citus is installed
    #[arg(long)]
    stand_in: bool,
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
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("follow: nothing is measured without --bench; run `cargo xtask bench follow`");
        return Ok(());
    }
    let fixture = Fixture::prepare(args.stand_in)?;
    let mut machine = fixture.machine()?;
    let daemon = Daemon::start(
        &fixture.sandbox,
        &fixture.etcd.endpoint(),
        fixture::DATABASE,
        1,
        args.under.as_deref(),
    )?;
    let mover = Mover::new(&fixture)?;
    let measured = measure(&args, &daemon, mover).with_context(|| daemon.last_words())?;
    machine.finish();
    let shown = Shown::of(&args, &machine, &measured);
    if args.json {
        shown.json();
    } else {
        shown.print();
    }
    Ok(())
}

fn measure(args: &Args, daemon: &Daemon, mut mover: Mover) -> Result<Measured> {
    let mut measured = Measured::default();
    for round in 0..args.warm_up + args.moves {
        for side in [Side::Daemon, Side::Floor] {
            let sample = mover.run(side)?;
            measured.out_of_sync += usize::from(!mover.wait_synced()?);
            if side == Side::Daemon && round >= args.warm_up {
                measured.phases(&daemon.groups()?);
            }
            thread::sleep(Duration::from_millis(args.pause_ms));
            if round >= args.warm_up {
                measured.add(side, &sample);
            }
        }
    }
    mover.finish()?;
    Ok(measured)
}

/// What is printed, as text or as one document.
struct Shown<'a> {
    args: &'a Args,
    machine: &'a Machine,
    floor: Numbers,
    daemon: Numbers,
    /// The daemon's own times, since its view changed.
    phases: [(&'static str, Numbers); 3],
    /// One turn of the loop that looks for commits.
    poll: Numbers,
    /// From the acknowledgement of the floor's commit until that loop saw it.
    lag: Numbers,
    out_of_sync: usize,
}

impl<'a> Shown<'a> {
    fn of(args: &'a Args, machine: &'a Machine, measured: &Measured) -> Self {
        let phases = [
            ("leader key seen -> found writable", &measured.writable),
            ("leader key seen -> shards locked", &measured.locked),
            (
                "leader key seen -> commit acknowledged",
                &measured.committed,
            ),
        ];
        Self {
            args,
            machine,
            floor: Numbers::of(&measured.floor),
            daemon: Numbers::of(&measured.daemon),
            phases: phases.map(|(name, samples)| (name, Numbers::of(samples))),
            poll: Numbers::of(&measured.poll),
            lag: Numbers::of(&measured.lag),
            out_of_sync: measured.out_of_sync,
        }
    }

    /// The daemon's p50 and p99 by the floor's.
    fn ratios(&self) -> (f64, f64) {
        let (floor, daemon) = (&self.floor, &self.daemon);
        (ratio(daemon.p50, floor.p50), ratio(daemon.p99, floor.p99))
    }

    fn json(&self) {
        let (p50, p99) = self.ratios();
        let phases = self.phases.iter().map(|(name, numbers)| (*name, numbers));
        let document = json!({
            "machine": self.machine,
            "moves": self.args.moves,
            "pause_ms": self.args.pause_ms,
            "unit": "us",
            "floor": self.floor,
            "daemon": self.daemon,
            "ratio": {
                "p50": p50, "p95": ratio(self.daemon.p95, self.floor.p95), "p99": p99,
            },
            "goal": {
                "p50": GOAL_P50, "p99": GOAL_P99, "reached": p50 <= GOAL_P50 && p99 <= GOAL_P99,
            },
            "daemon_phases": phases.collect::<BTreeMap<_, _>>(),
            "poll_interval": self.poll,
            "floor_seen_after_acknowledged": self.lag,
            "out_of_sync": self.out_of_sync,
        });
        println!("{document:#}");
    }

    fn print(&self) {
        println!(
            "from etcd's acknowledgement of the leader key to the row committed, {} moves each",
            self.args.moves
        );
        println!("{}\n", self.machine);
        let head = ["milliseconds", "min", "p50", "p95", "p99", "max"];
        let rows = [
            self.floor.row("floor"),
            self.daemon.row("citus-sync"),
            self.daemon.ratio_row("ratio", &self.floor),
        ];
        table::print(&head, &rows);
        let (p50, p99) = self.ratios();
        println!(
            "goal: p50 within {GOAL_P50} x the floor: {}; p99 within {GOAL_P99} x: {}\n",
            said(p50 <= GOAL_P50),
            said(p99 <= GOAL_P99)
        );
        println!("the daemon's own clock, from the moment its view changed:");
        let phases = self.phases.each_ref();
        table::print(&head, &phases.map(|(name, numbers)| numbers.row(name)));
        self.print_method();
        if self.out_of_sync > 0 {
            println!(
                "{} moves began before all nodes had the metadata of the move before.",
                self.out_of_sync
            );
        }
    }

    /// How the commits were seen, and what the floor is.
    fn print_method(&self) {
        println!(
            "\nA commit is seen by asking for both rows in a loop on a connection of its own; one turn \
             of it takes {:.2} ms (p50),\nand the floor's commits were seen {:.2} ms (p50) after their \
             own acknowledgement. Both sides are seen the same way.",
            self.poll.p50 / 1e3,
            self.lag.p50 / 1e3
        );
        println!(
            "The floor: a bare etcd watch of another key and a bare SELECT citus_update_node(id, host, \
             port) on one warm connection,\nfor a row that the daemon does not know; in turn with the \
             daemon's moves, {} ms apart.",
            self.args.pause_ms
        );
    }
}

fn said(reached: bool) -> &'static str {
    if reached { "reached" } else { "NOT reached" }
}
