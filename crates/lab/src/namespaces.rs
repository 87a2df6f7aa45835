//! A lab's namespaces: one of process ids, and one of System V shared memory. In: the lab's
//! folder. Out: processes that are started inside and end with their owner, however that ends:
//! it finishes, fails, is interrupted or is killed with SIGKILL.
//!
//! util-linux's `unshare` makes the namespaces, with `init.sh` as their first process. When
//! that process ends, the kernel kills all others inside, and frees the shared memory that
//! PostgreSQL would leave behind. Init ends when its pipe to the owner closes, which the
//! kernel does even for an owner that is killed.
//!
//! The owner itself is outside. It and its `/proc` use the machine's process ids. Servers
//! report other ids for themselves (`pg_stat_activity`, `postmaster.pid`): those inside. A
//! program that looks up such an id in `/proc` needs its own `/proc` (`unshare --mount-proc`).
//!
//! All this takes root. A process with threads cannot enter a user namespace, so without root the
//! owner must be in one from its start.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::wait::wait_for;

const INIT: &str = include_str!("init.sh");

/// The file in a detached lab's folder with the process id of its init.
const PID_FILE: &str = "init";

/// The named pipe in a detached lab's folder. Init ends everything when a writer has closed it.
const END_PIPE: &str = "end";

/// For the processes to end, and for the folder to be removed.
const END: Duration = Duration::from_secs(60);

const REQUIREMENT: &str = "could not make namespaces for the lab (`unshare --fork --pid --ipc true` \
     says why): it takes root, or a shell from `unshare --map-current-user --keep-caps`";

/// The namespaces of one lab.
#[derive(Debug)]
pub(crate) struct Namespaces {
    init: OwnedFd,
    pid: Pid,
    /// Init's standard input. Init ends when it closes.
    owner: Mutex<Option<ChildStdin>>,
}

impl Namespaces {
    /// Makes namespaces that end with this process. Then `root` is removed too. Init keeps
    /// `keep_open`, the lock on the lab's ports, as long as it lives.
    pub(crate) fn start(root: &Path, keep_open: Stdio) -> Result<Self> {
        // In its own session: signals to the owner's group or terminal do not reach it.
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

    /// The namespaces of a lab that another process detached. None if they have ended, as after a
    /// restart of the machine.
    pub(crate) fn of(root: &Path) -> Option<Self> {
        let pid = parse_pid(&fs::read_to_string(root.join(PID_FILE)).ok()?)?;
        let init = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        is_init_of(pid, root).then(|| Self {
            init,
            pid,
            owner: Mutex::new(None),
        })
    }

    /// Lets the namespaces outlive this process.
    pub(crate) fn detach(&self, root: &Path) -> Result<()> {
        fs::write(root.join(PID_FILE), format!("{}\n", self.pid))
            .context("writing the process id of the lab's init")?;
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, root.join(END_PIPE), FileType::Fifo, mode, 0)
            .context("making the pipe to the lab's init")?;
        if let Some(mut owner) = self.owner().take() {
            owner
                .write_all(b"stay\n")
                .context("the lab's init is gone")?;
        }
        Ok(())
    }

    /// Runs `work`. Processes that it starts are inside the namespaces, and are children of this
    /// process all the same.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        // In a thread for this alone: the namespaces of a thread's children cannot be set back.
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

    /// Has init kill every process inside and remove `root`, and waits for that. Init does it even if
    /// this process ends meanwhile.
    pub(crate) fn end(&self, root: &Path) -> Result<()> {
        drop(self.owner().take());
        wait_for("the lab to end", END, || {
            // Not there unless the lab is detached; and init may not have opened it yet.
            let _ = open(
                root.join(END_PIPE),
                OFlags::WRONLY | OFlags::NONBLOCK,
                Mode::empty(),
            );
            Ok(!root.exists() || !is_init_of(self.pid, root))
        })
    }

    fn owner(&self) -> MutexGuard<'_, Option<ChildStdin>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// False once init has ended. Another process may have its id then, but not its argument.
fn is_init_of(pid: Pid, root: &Path) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| Path::new(OsStr::from_bytes(argument)).file_name() == root.file_name())
}

fn parse_pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.trim().parse().ok()?)
}
