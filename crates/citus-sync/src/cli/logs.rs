//! Logs on stderr: as text for people and journals, or as JSON for collectors.
//!
//! What a field says may come from a server or from etcd: a text log escapes its control characters,
//! so that it can neither forge a line nor steer a terminal, and cuts it to a bound.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use clap::{Args, ValueEnum};
use dcs_watch::text::excerpt;
use tracing::error;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::log_writer::LogWriter;
use super::outcome::Failed;
use super::stdout::{clean_lines, print_error};

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

/// The log of this process, until it ends.
pub(super) enum Log {
    /// A command's: it may wait for its reader.
    Direct,
    /// The daemon's: it may not.
    Buffered(LogWriter),
}

impl Log {
    /// Tells what went wrong, on stderr, after all that was logged.
    pub(super) fn print_error(&self, text: &str) {
        match self {
            Self::Direct => print_error(text),
            Self::Buffered(writer) => {
                let line = format!("{}\n", clean_lines(text));
                // It takes everything.
                let _ = writer.clone().write_all(line.as_bytes());
                writer.wait_until_written();
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Self::Buffered(writer) = self {
            writer.wait_until_written();
        }
    }
}

/// Begins to log. A command that prints a page and ends logs little, so that the page is what is
/// read.
pub(super) fn start(logs: &Logs, daemon: bool) -> Result<Log, Failed> {
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
    let (log, writer) = if daemon {
        let writer = LogWriter::start(io::stderr())
            .map_err(|error| Failed::Otherwise(format!("cannot start the log: {error}")))?;
        panics_go_to_the_log();
        (Log::Buffered(writer.clone()), BoxMakeWriter::new(writer))
    } else {
        (Log::Direct, BoxMakeWriter::new(io::stderr))
    };
    // An internal error would be printed with eprintln!, which panics when stderr is closed.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .log_internal_errors(false);
    match logs.log_format {
        Format::Json => builder.json().flatten_event(true).init(),
        // The journal has a clock of its own.
        Format::Text if stderr_is_the_journal() => {
            builder
                .without_time()
                .with_ansi(false)
                .with_target(false)
                .fmt_fields(fields())
                .init();
        }
        Format::Text => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colours = io::stderr().is_terminal() && !no_color;
            let builder = builder.with_ansi(colours).with_target(false);
            builder.fmt_fields(fields()).init();
        }
    }
    Ok(log)
}

/// A panic is a line of the log like any other: printed as usual it would make its thread wait for
/// stderr.
fn panics_go_to_the_log() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            error!("{panic}\n{backtrace}");
        } else {
            error!("{panic}");
        }
    }));
}

/// How much of one field is written, in bytes. Four of that size still make a line that a terminal
/// shows and a journal keeps whole.
const FIELD_BYTES: usize = 1 << 10;

/// What `debug_fn` makes of [`field`].
fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(field).delimited(" ")
}

/// One field as `name=value`; the message without its name.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    let text = excerpt(&text, FIELD_BYTES);
    match field.name() {
        "message" => write!(writer, "{text}"),
        name if writer.has_ansi_escapes() => {
            write!(writer, "{ITALIC}{name}{PLAIN}{DIM}={PLAIN}{text}")
        }
        name => write!(writer, "{name}={text}"),
    }
}

const ITALIC: &str = "\u{1b}[3m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Whether stderr is the very stream that systemd connected to the journal. The variable alone is
/// not enough: children inherit it, whatever becomes of their stderr.
fn stderr_is_the_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| named == format!("{}:{}", stderr.dev(), stderr.ino()))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(fields())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_foreign_text_forges_no_line_and_steers_no_terminal() {
        let foreign = "gone\n2026-01-01 ERROR forged\r\u{1b}]0;title\u{7}\u{9b}2J";
        let text = logged(|| tracing::warn!(group = 1, scope = %foreign, "cannot: {foreign}"));
        assert_eq!(text.lines().count(), 1, "{text}");
        let mut rest = text.trim_end_matches('\n').chars();
        assert!(!rest.any(char::is_control), "{text:?}");
        assert!(text.contains(r"group=1 scope=gone\n2026"), "{text}");
    }

    #[test]
    fn a_line_is_bounded_however_long_its_fields_are() {
        let long = "x".repeat(20 << 20);
        let text = logged(|| tracing::warn!(scope = %long, "cannot: {long}"));
        assert!(text.len() < 4 << 10, "{} bytes", text.len());
        assert!(text.contains("MB"), "it tells how much was cut: {text}");
    }
}
