//! The configuration that a command was given, and how it is read.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::outcome::Failed;
use super::secret_files::exposed;
use crate::files::{read, read_once};
use citus_core::config::Config;

/// Which configuration.
#[derive(Clone, Debug, Args)]
pub(super) struct Source {
    /// The configuration: citus-sync's own file, or Patroni's with a `citus:` section
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: PathBuf,
}

impl Source {
    pub(super) fn load(&self) -> Result<Config, Failed> {
        load(&self.file)
    }

    /// Reads it again. A pipe has said by then what it had to say.
    pub(super) fn load_again(&self) -> Result<Config, Failed> {
        load_with(&self.file, &read)
    }
}

/// Reads a configuration; every problem becomes a line.
pub(super) fn load(file: &Path) -> Result<Config, Failed> {
    load_with(file, &|path| {
        if path == file {
            read_once(path)
        } else {
            read(path)
        }
    })
}

fn load_with(file: &Path, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Config, Failed> {
    let config = Config::load(file, &|name| std::env::var(name).ok(), read)
        .map_err(|error| Failed::Configuration(error.to_string()))?;
    checked(config)
}

/// Refuses a configuration whose secrets are not safe.
fn checked(mut config: Config) -> Result<Config, Failed> {
    let exposed = exposed(&config);
    if exposed.problems.is_empty() {
        config.warnings.extend(exposed.warnings);
        return Ok(config);
    }
    let problems = exposed.problems.join("\n  ");
    let file = config.source.display();
    Err(Failed::Configuration(format!(
        "{file}: these files cannot be used:\n  {problems}"
    )))
}
