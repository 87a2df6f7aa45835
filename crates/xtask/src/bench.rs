//! `cargo xtask bench`. In: the name of a bench, and its arguments. Out: what the bench
//! prints. The benches themselves belong to the crate `citus-sync`.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::{setup, shell};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure
    which: Which,
    /// Arguments of the bench
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// From a leader key in etcd to the committed row
    Follow,
    /// What watching costs when nothing happens
    Idle,
    /// What clients notice of switchovers, restarts and crashes
    Continuity,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::for_build()?;
    let (name, patroni) = match arguments.which {
        Which::Follow => ("follow", lab::Version::Debian),
        Which::Idle => ("idle", lab::Version::Debian),
        // Debian's may be too old for the hook.
        Which::Continuity => ("continuity", lab::Version::V4_1),
    };
    setup::for_lab(patroni)?;
    let mut command = shell::cargo(&["bench", "-p", "citus-sync", "--bench", name, "--"]);
    shell::run(command.args(&arguments.rest))?;
    Ok(ExitCode::SUCCESS)
}
