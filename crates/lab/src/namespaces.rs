//! A lab's namespaces: of process ids, and of System V shared memory. In: the lab's
//! folder. Out: processes that are born inside, and nothing left of them when their
//! owner is gone (finished, failed, interrupted or killed with SIGKILL).
//!
//! util-linux's `unshare` makes them, with `init.sh` as their first process. When that
//! process ends, the kernel kills every other one inside, and frees the shared memory that
//! PostgreSQL would leave behind. It ends when a pipe to the owner closes, which no way of
//! dying can prevent.
//!
//! Process ids: the owner is outside, so `/proc`, `Child::id` and `kill` have the machine's
//! numbers there. What servers say of themselves (`pg_stat_activity`, `postmaster.pid`) are the
//! numbers inside; a program that looks those up in `/proc` needs one of its own
//! (`unshare --mount-proc`).

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::wait::wait_for;

const INIT: &str = include_str!("init.sh");

/// Where a detached lab notes the process id of its init, for [`Namespaces::of`].
const NOTE: &str = "init";

/// For the kernel to kill everything, and for the folder to be removed.
const END: Duration = Duration::from_secs(60);

const REQUIREMENT: &str = "could not make namespaces for the lab (`unshare --fork --pid --ipc true` \
     says why): it takes root, or a shell from `unshare --map-current-user --keep-caps`";

/// The namespaces of one lab.
#[derive(Debug)]
pub(crate) struct Namespaces {
    init: OwnedFd,
    pid: Pid,
    /// Init ends when this closes.
    owner: Mutex<Option<ChildStdin>>,
}

impl Namespaces {
    /// New, empty namespaces that end with this process, and `root` with them. `keep_open` is held for
    /// as long as they last: the lock on the lab's ports.
    pub(crate) fn start(root: &Path, keep_open: Stdio) -> Result<Self> {
        // A session of its own: what is sent to the owner's group or terminal does not reach it.
        let mut starter = Command::new("setsid")
            .args(["--fork", "unshare", "--fork", "--pid", "--ipc"])
            .args(["sh", "-c", INIT, "lab-init"])
            .arg(root)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(keep_open)
            .spawn()
            .context("running setsid")?;
        let owner = starter.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = starter.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        starter.wait().context("waiting for setsid")?;
        let pid = parse_pid(&line).context(REQUIREMENT)?;
        Ok(Self {
            init: pidfd_open(pid, PidfdFlags::empty()).context("the lab's init is gone")?,
            pid,
            owner: Mutex::new(owner),
        })
    }

    /// Those of a lab that another process detached. None if they are gone: the machine was
    /// restarted.
    pub(crate) fn of(root: &Path) -> Option<Self> {
        let pid = parse_pid(&fs::read_to_string(root.join(NOTE)).ok()?)?;
        let init = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Another process may have that number by now, but not that argument.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_init = arguments
            .split(|byte| *byte == 0)
            .any(|argument| OsStr::from_bytes(argument) == root);
        is_init.then(|| Self {
            init,
            pid,
            owner: Mutex::new(None),
        })
    }

    /// Lets them outlive this process.
    pub(crate) fn detach(&self, root: &Path) -> Result<()> {
        fs::write(root.join(NOTE), format!("{}\n", self.pid)).context("noting the lab's init")?;
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut owner) = owner.take() {
            owner
                .write_all(b"stay\n")
                .context("the lab's init is gone")?;
        }
        Ok(())
    }

    /// Does `work` where processes that it starts are born inside. They are children of this process
    /// all the same.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        // In a thread of its own, which ends thereby: where children are born is a matter of
        // the thread, and cannot be undone.
        thread::scope(|threads| {
            let entered = threads.spawn(|| {
                let wanted = ThreadNameSpaceType::PROCESS_ID
                    | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
                move_into_thread_name_spaces(self.init.as_fd(), wanted)
                    .context("entering the lab's namespaces")?;
                work()
            });
            entered
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// SIGKILL to everything inside.
    pub(crate) fn kill(&self) {
        // It may be gone already.
        let _ = pidfd_send_signal(&self.init, Signal::KILL);
    }
}

/// Removes the folder of a lab whose processes are dying.
pub(crate) fn remove(root: &Path) -> Result<()> {
    wait_for("the lab's folder to be removed", END, || {
        // The dying may still write.
        match fs::remove_dir_all(root) {
            Err(error) if root.exists() => Err(error.into()),
            _ => Ok(true),
        }
    })
}

fn parse_pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.trim().parse().ok()?)
}
