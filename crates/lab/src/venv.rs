//! Patroni 4.1 in a virtual environment. In: the Python package index. Out: the
//! program, installed once on each machine, and readable by the account that runs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::user::is_root;

/// Pinned, so that a new release changes no test.
const RELEASE: &str = "4.1.5";
/// The system's Python: the servers' account cannot read one in a user's home.
const PYTHON: &str = "/usr/bin/python3";

/// Patroni's program; the first call on a machine takes some ten seconds.
pub(crate) fn patroni() -> Result<PathBuf> {
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let folder = cache.join(format!("patroni-{RELEASE}"));
    let done = folder.join("complete");

    // One process at a time: a virtual environment cannot be made under another name and renamed,
    // because its scripts contain its path.
    let lock = cache.join(format!("patroni-{RELEASE}.lock"));
    let lock = File::create(&lock).with_context(|| format!("creating {}", lock.display()))?;
    flock(&lock, FlockOperation::LockExclusive).context("locking the Patroni cache")?;
    if !done.exists() {
        create(&folder).with_context(|| format!("installing Patroni {RELEASE}"))?;
        fs::write(&done, "").context("marking the Patroni cache as complete")?;
    }
    Ok(folder.join("bin/patroni"))
}

fn create(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).context("removing an incomplete virtual environment")?;
    }
    run(Command::new(PYTHON).args(["-m", "venv"]).arg(folder))?;
    let package = format!("patroni[etcd3,psycopg2-binary]=={RELEASE}");
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", &package]))?;
    // The caller's umask may be stricter.
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(folder))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        said.trim()
    );
    Ok(())
}

/// A folder that the servers' account can read.
fn cache() -> Result<PathBuf> {
    if is_root() {
        return Ok(PathBuf::from("/var/cache/citus-sync-lab"));
    }
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(folder).join("citus-sync-lab"));
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/citus-sync-lab"))
}
