//! The command line: words go in, a page on stdout and an exit code leave. Logs and errors go to
//! stderr.
//!
//! Exit codes: 0 done, 1 the thing asked for is not so, 2 usage or configuration.

mod check;
mod convert;
mod daemon;
mod history;
mod hold;
mod logs;
mod plan;
mod remediation;
mod run;
mod snapshot;
mod status;
mod stdout;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};

use citus_core::config::Config;
use logs::Logs;

/// Keeps `pg_dist_node` of a Citus cluster true to what Patroni decided.
#[derive(Debug, Parser)]
#[command(name = "citus-sync", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    logs: Logs,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 the thing asked for is not so, 2 usage or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the leaders until stopped
    Run(Source),
    /// Look at everything that `run` will need, and say what to fix; changes nothing
    Check(check::Options),
    /// Say what `run` would change now, and why; changes nothing
    Plan(plan::Options),
    /// Show what a running daemon knows
    Status(status::Options),
    /// Have writes of a group wait while its PostgreSQL stops: for Patroni's `before_stop`, and for
    /// people
    #[command(after_long_help = hold::HOLD_HELP)]
    Hold(hold::HoldOptions),
    /// End a hold that `hold` asked for
    #[command(after_long_help = hold::RELEASE_HELP)]
    Release(hold::ReleaseOptions),
    /// Show past switchovers, restarts, failovers and holds with the time of each phase
    #[command(after_long_help = history::HELP)]
    History(history::Options),
    /// Work with configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the configuration as a native file; secrets are referred to, not copied
    Convert(Source),
}

/// Which configuration.
#[derive(Debug, Args)]
struct Source {
    /// The configuration: citus-sync's own file, or Patroni's with a `citus:` section
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: PathBuf,
}

/// What a command came to.
type Outcome = Result<Done, Failed>;

/// A command that did what it was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// And all is so.
    Yes,
    /// And the answer is no.
    No,
}

/// A command that could not do it.
#[derive(Debug)]
enum Failed {
    /// The configuration cannot be used; the text may have several lines.
    Configuration(String),
    /// Something else, in words.
    Otherwise(String),
}

/// The whole command.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let cli = Cli::parse();
    let daemon = matches!(cli.command, Command::Run(_));
    let outcome = logs::start(&cli.logs, daemon).and_then(|()| match cli.command {
        Command::Run(source) => run::run(&source),
        Command::Check(options) => check::check(&options),
        Command::Plan(options) => plan::plan(&options),
        Command::Status(options) => status::status(&options),
        Command::Hold(options) => hold::hold(&options, started),
        Command::Release(options) => hold::release(&options, started),
        Command::History(options) => history::history(&options),
        Command::Config(ConfigCommand::Convert(source)) => convert::convert(&source),
    });
    match outcome {
        Ok(Done::Yes) => ExitCode::SUCCESS,
        Ok(Done::No) => ExitCode::from(1),
        Err(Failed::Configuration(text)) => {
            stdout::complain(&text);
            ExitCode::from(2)
        }
        Err(Failed::Otherwise(text)) => {
            stdout::complain(&format!("citus-sync: {text}"));
            ExitCode::from(1)
        }
    }
}

impl Source {
    fn load(&self) -> Result<Config, Failed> {
        load(&self.file)
    }
}

/// Reads a configuration; every problem becomes a line.
fn load(file: &Path) -> Result<Config, Failed> {
    Config::load(file, &|name| std::env::var(name).ok(), &|path| {
        std::fs::read_to_string(path)
    })
    .map_err(|error| Failed::Configuration(error.to_string()))
}

/// Runs a future to its end on this thread. What still hangs then (a name that does not resolve
/// blocks a thread for half a minute) is left behind, not waited for.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::Otherwise(format!("cannot start: {error}")))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
