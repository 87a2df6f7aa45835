//! `citus-sync reload`: has the daemon that runs with a file read it again, and says what came of it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::address::{DEADLINE, url_of};
use super::outcome::{Done, Failed, Outcome};
use super::runtime::block_on;
use super::source::Source;
use super::stdout::{print, print_error};
use crate::http::fetch_state;
use citus_core::report::ReloadReport;

/// What stands below `reload --help`.
pub(super) const HELP: &str = "\
The daemon is found among the processes of this host: it is the one that was started with `run` and the \
same file. It gets a SIGHUP, as from `systemctl reload`. Secrets are taken over at once: the token, and \
the passwords. What needs a restart is named. A file that cannot be used changes nothing.

Exit codes: 0 taken over, or nothing to do; 1 no daemon, or something needs a restart; 2 usage, or a file \
that cannot be used.";

/// How long the daemon may take to read its file.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is asked whether it has.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Signals the daemon, and waits for its word.
pub(super) fn reload(source: &Source) -> Outcome {
    // What the daemon would refuse is told here, where somebody reads it.
    let config = source.load()?;
    let daemon = find(&config.source)?;
    let url = url_of(config.listen);
    block_on(async {
        let count = async || {
            let state = fetch_state(&url, DEADLINE).await?;
            Ok(state.reload.unwrap_or_default())
        };
        let before = count().await.map(|reload: ReloadReport| reload.count);
        kill_process(daemon, Signal::HUP).map_err(|error| {
            let pid = daemon.as_raw_nonzero();
            Failed::Otherwise(format!("cannot signal the daemon, process {pid}: {error}"))
        })?;
        let started = Instant::now();
        let why = match before {
            Err(error) => not_heard(&error),
            Ok(before) => loop {
                match count().await {
                    Ok(now) if now.count > before => return tell(&now),
                    Err(error) => break not_heard(&error),
                    Ok(_) if started.elapsed() > PATIENCE => {
                        break "it said nothing within 10 s".to_owned();
                    }
                    Ok(_) => sleep(ASK_EVERY).await,
                }
            },
        };
        print_error(&format!(
            "citus-sync: process {} was told to reload, but {why}; see its log",
            daemon.as_raw_nonzero()
        ));
        Ok(Done::No)
    })?
}

fn not_heard(error: &crate::http::ClientError) -> String {
    error.to_string()
}

fn tell(reload: &ReloadReport) -> Outcome {
    if let Some(why) = &reload.refused {
        print_error(&format!("citus-sync: nothing has changed: {why}"));
        return Ok(Done::No);
    }
    let mut text = String::new();
    if !reload.applied.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "taken over: {}", reload.applied.join(", "));
    }
    if !reload.needs_restart.is_empty() {
        let _ = writeln!(text, "needs a restart: {}", reload.needs_restart.join(", "));
    }
    if text.is_empty() {
        "nothing has changed\n".clone_into(&mut text);
    }
    print(&text)?;
    Ok(if reload.needs_restart.is_empty() {
        Done::Yes
    } else {
        Done::No
    })
}

/// The process that runs with this file.
fn find(file: &Path) -> Result<Pid, Failed> {
    let wanted = fs::canonicalize(file)
        .map_err(|error| Failed::Otherwise(format!("{}: {error}", file.display())))?;
    let processes = fs::read_dir("/proc")
        .map_err(|error| Failed::Otherwise(format!("cannot look at the processes: {error}")))?;
    let mut found = Vec::new();
    let mut others = Vec::new();
    for process in processes.filter_map(Result::ok) {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse().ok())
        else {
            continue;
        };
        match configuration_of(&process.path()) {
            Some(theirs) if theirs == wanted => found.extend(Pid::from_raw(pid)),
            Some(theirs) => others.push(format!("process {pid} with {}", theirs.display())),
            None => {}
        }
    }
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let others = if others.is_empty() {
                "no daemon runs here that this user may look at".to_owned()
            } else {
                format!("there is {}", others.join(", "))
            };
            Err(Failed::Otherwise(format!(
                "no daemon runs with {}: {others}",
                wanted.display()
            )))
        }
        several => Err(Failed::Otherwise(format!(
            "{} daemons run with {}: stop the ones that are too many",
            several.len(),
            wanted.display()
        ))),
    }
}

/// The file that a process was started with, if it is a daemon of ours.
fn configuration_of(process: &Path) -> Option<PathBuf> {
    let bytes = fs::read(process.join("cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let file = file_in(&text.split('\0').collect::<Vec<_>>())?.to_owned();
    let folder = fs::read_link(process.join("cwd")).ok()?;
    fs::canonicalize(folder.join(file)).ok()
}

/// What `-c` names in the arguments of `citus-sync … run …`.
fn file_in<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let (program, arguments) = arguments.split_first()?;
    let ours = Path::new(program).file_name()? == env!("CARGO_PKG_NAME");
    if !ours || !arguments.contains(&"run") {
        return None;
    }
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if *argument == "-c" || *argument == "--config" {
            return arguments.next().copied();
        }
        let joined = argument
            .strip_prefix("--config=")
            .or_else(|| argument.strip_prefix("-c"));
        if joined.is_some() {
            return joined;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_known_by_its_arguments() {
        for (arguments, file) in [
            (
                &["/usr/bin/citus-sync", "run", "-c", "a.yml", ""][..],
                Some("a.yml"),
            ),
            (
                &["citus-sync", "--log-level", "debug", "run", "--config", "a"],
                Some("a"),
            ),
            (&["citus-sync", "run", "--config=/b"], Some("/b")),
            (&["citus-sync", "run", "-c/b"], Some("/b")),
            (&["citus-sync", "status", "-c", "a.yml"], None),
            (&["other", "run", "-c", "a.yml"], None),
            (&["citus-sync", "run"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(file_in(arguments), file, "{arguments:?}");
        }
    }
}
