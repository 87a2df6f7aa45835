//! The processes of one server. In: the folder it works in. Out: signals to all
//! of them, found by where they work rather than by parentage, so that a server
//! started by Patroni, or by an earlier command, is found just as well.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox::Sandbox;
use crate::silence::{silence, unsilence};
use crate::wait::{wait_for, wait_until};

/// Lines of a log that an error shows.
const LAST_WORDS: usize = 12;

/// A server: everything that works in `folder` or below.
#[derive(Debug)]
pub(crate) struct Process {
    sandbox: Sandbox,
    folder: PathBuf,
    /// Kept to collect the exit status; a zombie would otherwise stay.
    child: Mutex<Option<Child>>,
}

impl Process {
    pub(crate) fn new(sandbox: &Sandbox, folder: PathBuf) -> Self {
        Self {
            sandbox: sandbox.clone(),
            folder,
            child: Mutex::new(None),
        }
    }

    /// Starts `command` in the folder, its output appended to the log there.
    pub(crate) fn spawn(&self, mut command: Command) -> Result<()> {
        let path = self.log();
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        self.sandbox.user().own(&path)?;
        command
            .current_dir(&self.folder)
            .stdout(file.try_clone().context("sharing the log file")?)
            .stderr(file)
            // Ctrl-C at the terminal must reach the owner, not the servers:
            // they are ended in order, or with the lab's namespaces.
            .process_group(0);
        *self.child() = Some(self.sandbox.spawn(&mut command)?);
        Ok(())
    }

    /// Where the output goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Those alive now, zombies not counted.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        pids_in(&self.folder)
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.pids().is_empty()
    }

    /// Sends `signal` to every process. Repeats until no new one shows up, as
    /// one may have been forked meanwhile.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let mut told = Vec::new();
        loop {
            let fresh: Vec<Pid> = self
                .pids()
                .into_iter()
                .filter(|pid| !told.contains(pid))
                .collect();
            if fresh.is_empty() {
                return;
            }
            for pid in fresh {
                // Gone meanwhile is as good as told.
                let _ = kill_process(pid, signal);
                told.push(pid);
            }
        }
    }

    /// Stops everything in its tracks and has every packet for it dropped.
    pub(crate) fn vanish(&self) -> Result<()> {
        let what = || format!("silencing {}", self.folder.display());
        loop {
            self.signal_all(Signal::STOP);
            let pids = self.pids();
            silence(&pids).with_context(what)?;
            // A stop takes a moment, in which one may have been forked.
            if self.pids() == pids {
                return Ok(());
            }
        }
    }

    /// Undoes [`Process::vanish`].
    pub(crate) fn reappear(&self) -> Result<()> {
        unsilence(&self.pids())?;
        self.signal_all(Signal::CONT);
        Ok(())
    }

    /// SIGKILL to everything, until nothing is left.
    pub(crate) fn kill(&self) -> Result<()> {
        let what = format!("the end of {}", self.folder.display());
        wait_for(&what, Duration::from_secs(30), || {
            self.signal_all(Signal::KILL);
            // Our child must be collected too: PostgreSQL takes a zombie for
            // a running postmaster, and would refuse to start again.
            Ok(!self.is_running() && self.collect())
        })
    }

    /// `signal` to the process that was started (or, in an attached lab, to
    /// the one whose parent is not of this server), then SIGKILL to whatever
    /// is still there after `patience`.
    pub(crate) fn stop(&self, signal: Signal, patience: Duration) -> Result<()> {
        for pid in self.heads() {
            let _ = kill_process(pid, signal);
        }
        let ended = wait_for("an orderly stop", patience, || {
            Ok(self.collect() && !self.is_running())
        });
        if ended.is_err() { self.kill() } else { Ok(()) }
    }

    /// Waits until `ask` says that the server is ready. Ends early, with the
    /// end of the log, when the server is gone.
    pub(crate) fn wait_ready(
        &self,
        what: &str,
        deadline: Duration,
        mut ask: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let ready = wait_until(what, deadline, || {
            let answer = ask();
            match answer {
                Ok(true) => Ok(Some(true)),
                _ if !self.is_running() => Ok(Some(false)),
                Ok(false) => Ok(None),
                Err(error) => Err(error),
            }
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{what} ended instead of starting. {}", self.last_words()),
            Err(error) => Err(error.context(self.last_words())),
        }
    }

    /// The end of the newest log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n  ");
        format!("Its log ends:\n  {end}")
    }

    /// Processes whose parent is none of this server's: Patroni, or a
    /// postmaster without one.
    fn heads(&self) -> Vec<Pid> {
        let all = self.pids();
        let is_ours = |pid: Option<Pid>| pid.is_some_and(|pid| all.contains(&pid));
        all.iter()
            .copied()
            .filter(|pid| !is_ours(parent(*pid)))
            .collect()
    }

    /// Collects the child's exit status if it has ended. True when there is
    /// no child (any more).
    fn collect(&self) -> bool {
        let mut child = self.child();
        if let Some(process) = child.as_mut()
            && matches!(process.try_wait(), Ok(Some(_)))
        {
            *child = None;
        }
        child.is_none()
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.sandbox.is_detached() {
            let _ = self.kill();
            if let Some(mut child) = self.child().take() {
                let _ = child.wait();
            }
        }
    }
}

/// Every process that works in `folder` or below.
pub(crate) fn pids_in(folder: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            // A zombie's link cannot be read, another user's neither.
            let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
            // After the folder was removed the link reads "… (deleted)".
            let cwd = cwd.to_str()?.trim_end_matches(" (deleted)").to_owned();
            Path::new(&cwd)
                .starts_with(folder)
                .then(|| Pid::from_raw(pid))?
        })
        .collect()
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in parentheses may itself contain spaces and parentheses.
    let after_name = stat.rsplit_once(')')?.1;
    Pid::from_raw(after_name.split_whitespace().nth(1)?.parse().ok()?)
}
