//! What a person needs who wants to know why. In: the world as the violation left it. Out: the most
//! telling of it on the terminal, and all of it in a folder.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::world::World;
use crate::screen;

/// Lines of the daemon's log on the terminal.
const TAIL: usize = 120;

/// Saves what is worth reading after a run without a violation, too.
pub(super) fn save(world: &World, folder: &Path, story: &str) -> Result<()> {
    write(folder, "story", story)?;
    write(folder, "citus-sync.log", &world.log())?;
    screen::line(&format!("the daemon's log is in {}", folder.display()));
    Ok(())
}

/// Shows and saves all of it.
pub(super) fn show(world: &World, folder: &Path, story: &str) -> Result<()> {
    let save = |name: &str, text: &str| write(folder, name, text);
    let standing = standing(world);
    let log = world.log();
    let lines: Vec<&str> = log.lines().collect();
    screen::heading("The daemon's log ends");
    screen::put(&(lines[lines.len().saturating_sub(TAIL)..].join("\n") + "\n"));
    screen::heading("Rows, leaders, keys");
    screen::put(&standing);
    let state = page(world, "/api/v1/state");
    screen::heading("/api/v1/state");
    screen::put(&format!("{state}\n"));

    save("story", story)?;
    save("standing", &standing)?;
    save("citus-sync.log", &log)?;
    save("state.json", &state)?;
    save("history.json", &page(world, "/api/v1/history"))?;
    save("metrics", &page(world, "/metrics"))?;
    if let Some(hook) = world.lab.hook() {
        save("hook.log", &hook.log())?;
    }
    for member in world.lab.scopes().iter().flat_map(lab::Scope::members) {
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

fn page(world: &World, path: &str) -> String {
    match world.daemon.get(path) {
        Ok((200, body)) => body,
        Ok((status, body)) => format!("{path} answers {status}: {body}"),
        Err(error) => format!("{error:#}"),
    }
}

fn standing(world: &World) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "leaders: {:?}", world.lab.leaders());
    for database in world.lab.databases() {
        let rows = world.lab.rows(database);
        let _ = writeln!(text, "rows of {database}: {rows:?}");
    }
    for scope in world.lab.scopes() {
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
