//! The processes of one server. In: the folder it works in. Out: signals to all
//! of them. They are found by their working folder and not by their parents, because Patroni
//! or an earlier command may have started the server.

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

/// An error shows this many lines of the log.
const LAST_WORDS: usize = 12;

/// A server: every process that works in `folder` or below.
#[derive(Debug)]
pub(crate) struct Process {
    sandbox: Sandbox,
    folder: PathBuf,
    /// The process that was started. Its exit status must be collected, or a zombie stays.
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
            // Ctrl-C at the terminal must reach the owner and not the servers:
            // the owner stops them in order, or they end with the lab's namespaces.
            .process_group(0);
        *self.child() = Some(self.sandbox.spawn(&mut command)?);
        Ok(())
    }

    /// The file with the output.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The live processes, without zombies.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        pids_in(&self.folder)
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.pids().is_empty()
    }

    /// Sends `signal` to every process, until there is no new one: a process may fork meanwhile.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let mut signalled = Vec::new();
        loop {
            let fresh: Vec<Pid> = self
                .pids()
                .into_iter()
                .filter(|pid| !signalled.contains(pid))
                .collect();
            if fresh.is_empty() {
                return;
            }
            for pid in fresh {
                // It may have ended meanwhile.
                let _ = kill_process(pid, signal);
                signalled.push(pid);
            }
        }
    }

    /// Suspends every process, and drops every packet for it.
    pub(crate) fn vanish(&self) -> Result<()> {
        let what = || format!("silencing {}", self.folder.display());
        loop {
            self.signal_all(Signal::STOP);
            let pids = self.pids();
            silence(&pids).with_context(what)?;
            // Before it stopped, a process may have forked.
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

    /// Sends SIGKILL to every process until none is left.
    pub(crate) fn kill(&self) -> Result<()> {
        let what = format!("the end of {}", self.folder.display());
        wait_for(&what, Duration::from_secs(30), || {
            self.signal_all(Signal::KILL);
            // The child must be collected too: PostgreSQL takes a zombie for
            // a running postmaster, and would refuse to start again.
            Ok(!self.is_running() && self.collect())
        })
    }

    /// Sends `signal` to the server's first process, then SIGKILL to what is left after
    /// `patience`.
    pub(crate) fn stop(&self, signal: Signal, patience: Duration) -> Result<()> {
        for pid in self.heads() {
            let _ = kill_process(pid, signal);
        }
        let ended = wait_for("an orderly stop", patience, || {
            Ok(self.collect() && !self.is_running())
        });
        if ended.is_err() { self.kill() } else { Ok(()) }
    }

    /// Waits until `ask` returns true. Fails early, with the end of the log, when the server has
    /// ended.
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

    /// The end of the log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n  ");
        format!("Its log ends:\n  {end}")
    }

    /// The processes whose parent is not of this server: Patroni, or a postmaster without Patroni.
    fn heads(&self) -> Vec<Pid> {
        let all = self.pids();
        let is_ours = |pid: Option<Pid>| pid.is_some_and(|pid| all.contains(&pid));
        all.iter()
            .copied()
            .filter(|pid| !is_ours(parent(*pid)))
            .collect()
    }

    /// Collects the child's exit status if it has ended. True when there is no child left.
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

/// The processes that work in `folder` or below.
pub(crate) fn pids_in(folder: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            // The link of a zombie cannot be read, nor that of another user's process.
            let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
            // Once the folder is removed the link ends with " (deleted)".
            let cwd = cwd.to_str()?.trim_end_matches(" (deleted)").to_owned();
            Path::new(&cwd)
                .starts_with(folder)
                .then(|| Pid::from_raw(pid))?
        })
        .collect()
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in parentheses may contain spaces and parentheses.
    let after_name = stat.rsplit_once(')')?.1;
    Pid::from_raw(after_name.split_whitespace().nth(1)?.parse().ok()?)
}
