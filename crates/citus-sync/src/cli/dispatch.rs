//! Reads the arguments, runs the command they name, and turns its outcome into an exit code.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

use super::logs::{self, Log, Logs};
use super::outcome::{Done, Failed, Outcome};
use super::source::Source;
use super::{check, convert, history, hold, plan, reload, run, status};

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
    /// Have a running daemon read its configuration again
    #[command(after_long_help = reload::HELP)]
    Reload(Source),
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

/// The whole command.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let cli = Cli::parse();
    let daemon = matches!(cli.command, Command::Run(_));
    let log = match logs::start(&cli.logs, daemon) {
        Ok(log) => log,
        Err(failed) => return report(&Log::Direct, Err(failed)),
    };
    let outcome = match cli.command {
        Command::Run(source) => run::run(&source),
        Command::Reload(source) => reload::reload(&source),
        Command::Check(options) => check::check(&options),
        Command::Plan(options) => plan::plan(&options),
        Command::Status(options) => status::status(&options),
        Command::Hold(options) => hold::hold(&options, started),
        Command::Release(options) => hold::release(&options, started),
        Command::History(options) => history::history(&options),
        Command::Config(ConfigCommand::Convert(source)) => convert::convert(&source),
    };
    report(&log, outcome)
}

/// The exit code of an outcome; what went wrong is printed.
fn report(log: &Log, outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(Done::Yes) => ExitCode::SUCCESS,
        Ok(Done::No) => ExitCode::from(1),
        Err(Failed::Configuration(text)) => {
            log.print_error(&text);
            ExitCode::from(2)
        }
        Err(Failed::Otherwise(text)) => {
            log.print_error(&format!("citus-sync: {text}"));
            ExitCode::from(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
