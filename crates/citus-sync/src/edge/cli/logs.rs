//! Logs on stderr: as text for people and journals, or as JSON for collectors.

use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::Failed;

/// How to log.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// What to log: error, warn, info, debug or trace, or by part: `info,dcs_watch=debug`.
    /// [default: info for `run`, warn for the others]
    #[arg(
        long,
        global = true,
        env = "CITUS_SYNC_LOG",
        value_name = "FILTER",
        help_heading = "Logging"
    )]
    log_level: Option<String>,
    /// How a line of the log looks
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = Format::Text,
        value_name = "FORMAT",
        help_heading = "Logging"
    )]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Begins to log. A command that prints a page and ends logs little, so that the page is what is
/// read.
pub(super) fn start(logs: &Logs, daemon: bool) -> Result<(), Failed> {
    let default = if daemon {
        LevelFilter::INFO
    } else {
        LevelFilter::WARN
    };
    let directives = logs.log_level.as_deref().unwrap_or_default();
    let filter = EnvFilter::builder()
        .with_default_directive(default.into())
        .parse(directives)
        .map_err(|error| {
            Failed::Configuration(format!(
                "--log-level (or CITUS_SYNC_LOG) {directives:?}: {error}; expected error, warn, \
                 info, debug or trace, or parts as in info,dcs_watch=debug"
            ))
        })?;
    let stderr = std::io::stderr;
    // An internal error would be told with eprintln!, which panics when stderr is closed.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .log_internal_errors(false);
    match logs.log_format {
        Format::Json => builder.json().flatten_event(true).init(),
        // The journal has a clock of its own.
        Format::Text if stderr_is_the_journal() => {
            builder
                .without_time()
                .with_ansi(false)
                .with_target(false)
                .init();
        }
        Format::Text => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colours = stderr().is_terminal() && !no_color;
            builder.with_ansi(colours).with_target(false).init();
        }
    }
    Ok(())
}

/// Whether stderr is the very stream that systemd connected to the journal. The variable alone is
/// not enough: children inherit it, whatever becomes of their stderr.
fn stderr_is_the_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| named == format!("{}:{}", stderr.dev(), stderr.ino()))
}
