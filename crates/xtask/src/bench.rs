//! `cargo xtask bench`. In: which bench, and its arguments. Out: what the bench
//! prints; the benches themselves are the daemon's.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::{setup, shell};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure
    which: Which,
    /// Passed on to the bench
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// From a leader key in etcd to the committed row
    Follow,
    /// What watching costs when nothing happens
    Idle,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::for_build()?;
    setup::for_lab(lab::Version::Debian)?;
    let name = match arguments.which {
        Which::Follow => "follow",
        Which::Idle => "idle",
    };
    let mut command = shell::cargo(&["bench", "-p", "citus-sync", "--bench", name, "--"]);
    shell::run(command.args(&arguments.rest))?;
    Ok(ExitCode::SUCCESS)
}
