//! Evidence for finding the cause of a violation. In: the fixture as the violation left it. Out: the
//! most useful part on the terminal, and all of it in a folder.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::fixture::Fixture;
use crate::screen;

/// The number of lines of the daemon's log on the terminal.
const TAIL: usize = 120;

/// Saves the report and the log. Used after a run without a violation.
pub(super) fn save(fixture: &Fixture, folder: &Path, report: &str) -> Result<()> {
    write(folder, "report", report)?;
    write(folder, "citus-sync.log", &fixture.log())?;
    screen::line(&format!("the daemon's log is in {}", folder.display()));
    Ok(())
}

/// Shows and saves all evidence.
pub(super) fn show(fixture: &Fixture, folder: &Path, report: &str) -> Result<()> {
    let save = |name: &str, text: &str| write(folder, name, text);
    let state_of_lab = rows_and_keys(fixture);
    let log = fixture.log();
    let lines: Vec<&str> = log.lines().collect();
    screen::heading("The daemon's log ends");
    screen::put(&(lines[lines.len().saturating_sub(TAIL)..].join("\n") + "\n"));
    screen::heading("Rows, leaders, keys");
    screen::put(&state_of_lab);
    let state = page(fixture, "/api/v1/state");
    screen::heading("/api/v1/state");
    screen::put(&format!("{state}\n"));

    save("report", report)?;
    save("rows-and-keys", &state_of_lab)?;
    save("citus-sync.log", &log)?;
    save("state.json", &state)?;
    save("history.json", &page(fixture, "/api/v1/history"))?;
    save("metrics", &page(fixture, "/metrics"))?;
    if let Some(hook) = fixture.lab.hook() {
        save("hook.log", &hook.log())?;
    }
    for member in fixture.lab.scopes().iter().flat_map(lab::Scope::members) {
        let log = fs::read(member.log()).unwrap_or_default();
        save(
            &format!("{}.log", member.name()),
            &String::from_utf8_lossy(&log),
        )?;
    }
    screen::line(&format!("all logs are in {}", folder.display()));
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

fn page(fixture: &Fixture, path: &str) -> String {
    match fixture.daemon.get(path) {
        Ok((200, body)) => body,
        Ok((status, body)) => format!("{path} answers {status}: {body}"),
        Err(error) => format!("{error:#}"),
    }
}

fn rows_and_keys(fixture: &Fixture) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "leaders: {:?}", fixture.lab.leaders());
    for database in fixture.lab.databases() {
        let rows = fixture.lab.rows(database);
        let _ = writeln!(text, "rows of {database}: {rows:?}");
    }
    for scope in fixture.lab.scopes() {
        for field in ["leader", "sync", "failover", "status"] {
            let value = scope.key(field).ok().flatten().map(|key| key.value);
            let _ = writeln!(text, "{}/{field}: {value:?}", scope.name());
        }
        for member in scope.members() {
            let running = member.is_running();
            let name = member.name();
            let _ = writeln!(text, "{name} at {}: running {running}", member.address());
        }
    }
    text
}
