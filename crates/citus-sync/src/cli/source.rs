//! The configuration that a command was given, and how it is read.

use std::path::{Path, PathBuf};

use clap::Args;

use super::outcome::Failed;
use citus_core::config::Config;

/// Which configuration.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// The configuration: citus-sync's own file, or Patroni's with a `citus:` section
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: PathBuf,
}

impl Source {
    pub(super) fn load(&self) -> Result<Config, Failed> {
        load(&self.file)
    }
}

/// Reads a configuration; every problem becomes a line.
pub(super) fn load(file: &Path) -> Result<Config, Failed> {
    Config::load(file, &|name| std::env::var(name).ok(), &|path| {
        std::fs::read_to_string(path)
    })
    .map_err(|error| Failed::Configuration(error.to_string()))
}
