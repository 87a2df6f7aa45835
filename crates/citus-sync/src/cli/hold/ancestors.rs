//! The Patroni that runs this process, if one does, as `/proc` shows it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::outcome::Failed;
use citus_core::config::{Member, is_yaml, member, patronis_arguments};

/// How far up to look. Patroni is the parent, or a shell and a `sudo` further up.
const GENERATIONS: usize = 8;

/// The member that is about to stop: from our own environment, or else from the configuration of the
/// nearest Patroni among our ancestors. Empty when there is none.
///
/// Patroni removes its variables from the environment of what it runs, so its own environment is read
/// as well.
///
/// # Errors
///
/// There is a Patroni, but its configuration cannot be read: a hold without a
/// member would hold writes whenever a standby stops.
pub(super) fn member_above() -> Result<Member, Failed> {
    let own = member(&|name| std::env::var(name).ok(), &[]).unwrap_or_default();
    if own.name.is_some() && own.scope.is_some() {
        return Ok(own);
    }
    let mut pid = std::process::id();
    for _ in 0..GENERATIONS {
        let Some(parent) = parent_of(pid).filter(|parent| *parent > 0) else {
            break;
        };
        pid = parent;
        if let Some(found) = patroni(pid) {
            return match found {
                Ok(found) => Ok(own.or(found)),
                // The environment names the member; that is enough.
                Err(_) if own.name.is_some() => Ok(own),
                Err(error) => Err(Failed::Configuration(format!(
                    "citus-sync: process {pid} looks like the Patroni that runs this, but which \
                     member it is cannot be seen: {error}; say so with --member and --scope"
                ))),
            };
        }
    }
    Ok(own)
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// The member that this process is, if it is a Patroni. One that names no configuration and has no
/// variables is taken for something else.
fn patroni(pid: u32) -> Option<Result<Member, String>> {
    let command = words(pid, "cmdline");
    let arguments = patronis_arguments(&command)?;
    let environment = words(pid, "environ");
    let variable = |name: &str| {
        let found = environment.iter().find_map(|word| {
            let (key, value) = word.split_once('=')?;
            (key == name).then(|| value.to_owned())
        });
        found.filter(|value| !value.is_empty())
    };
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    let mut problem = None;
    for argument in arguments {
        match files(&folder.join(argument)) {
            Ok(files) if files.is_empty() => {}
            Ok(files) => return Some(member(&variable, &files).and_then(named)),
            Err(error) if is_yaml(argument) => problem = Some(error),
            // Some flag's value.
            Err(_) => {}
        }
    }
    match (member(&variable, &[]), problem) {
        (Ok(found), _) if found.name.is_some() => Some(Ok(found)),
        (Err(error), _) | (_, Some(error)) => Some(Err(error)),
        (Ok(_), None) => None,
    }
}

fn named(found: Member) -> Result<Member, String> {
    if found.name.is_some() {
        Ok(found)
    } else {
        Err("its configuration has no `name`".to_owned())
    }
}

/// The words of a file of `/proc` in which each ends with a zero byte.
fn words(pid: u32, file: &str) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// A file with its text, or those of a folder that Patroni would read, in its order.
fn files(path: &Path) -> Result<Vec<(String, String)>, String> {
    let wrong = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let mut paths: Vec<PathBuf> = if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| wrong(path, error))?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| is_yaml(&file.to_string_lossy()) && file.is_file())
            .collect()
    } else {
        vec![path.to_owned()]
    };
    paths.sort();
    let read = |path: &PathBuf| match crate::files::read(path) {
        Ok(text) => Ok((path.display().to_string(), text)),
        Err(error) => Err(wrong(path, error)),
    };
    paths.iter().map(read).collect()
}
