//! Leaves nothing behind. In: a lab's mark and its folder. Out: when the owner
//! is gone (finished, failed, interrupted or killed with SIGKILL) every process
//! of the lab is dead and its folder removed.
//!
//! The work is done by a small `sh` process in a session of its own, see
//! `reaper.sh`. It learns of the owner's death by end of file on a pipe, which
//! no way of dying can prevent.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

const SCRIPT: &str = include_str!("reaper.sh");

/// The environment variable that every process of a lab carries.
pub const MARK: &str = "LAB_ID";

/// A waiting reaper. Dropping it reaps now, and returns when that is done.
#[derive(Debug)]
pub(crate) struct Reaper {
    process: Child,
}

impl Reaper {
    /// Starts a reaper that waits for this process to go away. `keep_open` is
    /// held until the reaping is over: the lock on the lab's ports.
    pub(crate) fn watch(id: &str, root: &Path, keep_open: Stdio) -> Result<Self> {
        let process = script(id, root, "wait")
            .stdin(Stdio::piped())
            .stdout(keep_open)
            .spawn()
            .context("starting the lab's reaper (setsid, sh)")?;
        Ok(Self { process })
    }

    /// Sends the reaper away without reaping.
    pub(crate) fn dismiss(mut self) -> Result<()> {
        let mut word = self.process.stdin.take().context("the reaper is gone")?;
        word.write_all(b"stay\n")
            .context("dismissing the lab's reaper")
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Ends a lab that has no reaper waiting for it.
pub(crate) fn reap_now(id: &str, root: &Path) -> Result<()> {
    let status = script(id, root, "now")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("running the lab's reaper (setsid, sh)")?;
    ensure!(
        status.success(),
        "could not remove the lab in {}",
        root.display()
    );
    Ok(())
}

fn script(id: &str, root: &Path, mode: &str) -> Command {
    let mut command = Command::new("setsid");
    command
        .args(["--wait", "sh", "-c", SCRIPT, "citus-sync-lab-reaper", id])
        .arg(root)
        .arg(mode)
        .env_remove(MARK)
        .current_dir("/")
        .stderr(Stdio::null());
    command
}
