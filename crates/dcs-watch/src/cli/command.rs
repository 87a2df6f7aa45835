//! The `dcs-watch` command: prints what happens to Patroni's keys, in order and without loss.
//!
//! Enters: arguments, and etcd or a recording. Leaves: lines on standard output, errors on standard
//! error, and an exit code: 0 for success, 1 when a line of a recording cannot be read, 2 for wrong
//! usage or configuration.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::printer::{Output, Printer};
use crate::client::driver::drive;
use crate::client::{Counters, Settings};
use crate::key::{Namespace, ScopeId};
use crate::recording::{self, Entry};
use crate::text::Escaped;

/// Prints what happens to Patroni's keys in etcd, in order and without loss.
#[derive(Debug, Parser)]
#[command(
    name = "dcs-watch",
    version,
    after_help = "Exit codes: 0 success, 1 a line of the recording cannot be read, 2 wrong usage or configuration."
)]
struct Arguments {
    /// The members of the etcd cluster, as <http://host:port>, separated by commas
    #[arg(long, value_delimiter = ',', required_unless_present = "from_file")]
    endpoints: Vec<String>,
    /// Patroni's namespace in etcd
    #[arg(long, default_value = "/service/")]
    namespace: Namespace,
    /// Print only this scope ("wk1", "citus/0", or "citus" for all its groups); may be repeated
    #[arg(long)]
    scope: Vec<ScopeId>,
    /// Print text for people, or JSON lines that --from-file can read
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// Replay a recording instead of watching etcd ("-" for standard input)
    #[arg(long, conflicts_with_all = ["endpoints", "user", "password_file"])]
    from_file: Option<PathBuf>,
    /// The etcd user
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// A file with the password of the etcd user on its first line
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
}

/// Runs the command with the arguments of the process; the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.from_file.clone() {
        Some(path) => replay(&arguments, &path),
        None => settings(&arguments).and_then(|settings| follow(&arguments, settings)),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Writes an error to standard error; names of files may hold any text.
fn complain(message: &str) {
    eprintln!("dcs-watch: {}", Escaped(message));
}

fn settings(arguments: &Arguments) -> anyhow::Result<Settings> {
    let mut settings = Settings::new(arguments.endpoints.clone());
    settings.namespace = arguments.namespace.clone();
    settings.username.clone_from(&arguments.user);
    if let Some(path) = &arguments.password_file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the password file {}", path.display()))?;
        let password = text.lines().next().unwrap_or_default().to_owned();
        anyhow::ensure!(
            !password.is_empty(),
            "the password file {} is empty",
            path.display()
        );
        settings.password = Some(password.as_str().into());
    }
    settings.validate()?;
    Ok(settings)
}

fn follow(arguments: &Arguments, settings: Settings) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let shutdown = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let started = Instant::now();
        let mut printer = Printer::new(
            arguments.namespace.clone(),
            arguments.scope.clone(),
            arguments.output,
        );
        let counters = Counters::new(started);
        drive(
            &Arc::new(settings),
            &counters,
            started,
            &mut printer,
            shutdown,
        )
        .await;
        printer.finish()?;
        Ok(ExitCode::SUCCESS)
    })
}

fn replay(arguments: &Arguments, path: &Path) -> anyhow::Result<ExitCode> {
    let name = path.display();
    let reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
        Box::new(BufReader::new(file))
    };
    let mut printer = Printer::new(
        arguments.namespace.clone(),
        arguments.scope.clone(),
        arguments.output,
    );
    let mut code = ExitCode::SUCCESS;
    for (number, line) in reader.split(b'\n').enumerate() {
        let number = number + 1;
        let line = line.with_context(|| format!("cannot read {name}, line {number}"))?;
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        // A recording may end in half a line, or be edited by hand: the rest is still printed.
        let outcome = match recording::parse(&line) {
            Ok(line) => match line.entry {
                Entry::Note(note) => printer.note(line.t, &note),
                Entry::Event(event) => printer.recorded(line.t, event),
            },
            Err(error) => {
                complain(&format!("{name}, line {number}: {error}"));
                code = ExitCode::FAILURE;
                Ok(())
            }
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(code),
            outcome => outcome.context("cannot write to standard output")?,
        }
    }
    Ok(code)
}
