//! `cargo xtask`: the demo, all checks and tests, the lab, the benches, the soak.
//!
//! It must build on a machine that has only cargo and a C linker, because it
//! installs the rest. So it depends on no product crate.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod demo;
mod lab_command;
mod scenario;
mod screen;
mod setup;
mod shell;
mod soak;
mod stages;
pub mod structure;
mod traffic_command;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Demo, tests, lab and benches of citus-sync"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows citus-sync at work: a planned switchover and a crash, in about two minutes
    Demo(demo::Arguments),
    /// Runs all checks and tests
    Test(stages::Arguments),
    /// Runs a lab: etcd, Patroni, PostgreSQL and Citus on this machine
    #[command(subcommand)]
    Lab(lab_command::Command),
    /// Measures `follow` (latency of a move), `idle` (cost of doing nothing) or `continuity` (what
    /// clients notice)
    Bench(bench::Arguments),
    /// Runs random switchovers, restarts, crashes, freezes and etcd restarts, from a seed
    Soak(soak::Arguments),
    /// Checks what the compiler cannot see: dependencies, homes of libraries, circles of files
    Structure,
}

/// Runs the command line.
pub fn run() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => Ok(stages::run(&arguments)),
        Command::Lab(command) => lab_command::run(&command),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Structure => stages::structure(),
    }
}
