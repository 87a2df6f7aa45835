//! One lab's ground: a folder, a mark on every process, a block of ports, an
//! account for servers. In: nothing. Out: commands that run inside it, and the
//! promise that nothing is left of it (see [`crate::reaper`]).

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::ports::Ports;
use crate::reaper::{self, MARK, Reaper};
use crate::user::User;

/// A folder in memory, with room for a few labs: where `TMPDIR` may point to
/// make them quicker to start and to remove. None where there is no such room.
pub fn memory_folder() -> Option<PathBuf> {
    const ROOM: u64 = 4 << 30;
    let folder = Path::new("/dev/shm");
    let about = rustix::fs::statvfs(folder).ok()?;
    let runs_programs = !about.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC);
    (runs_programs && about.f_bavail * about.f_frsize >= ROOM).then(|| folder.to_owned())
}

/// Cheap to clone; the last clone dropped removes everything, unless the
/// sandbox was [detached](Sandbox::detach).
#[derive(Clone, Debug)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    root: PathBuf,
    user: User,
    ports: Option<Ports>,
    reaper: Mutex<Option<Reaper>>,
    detached: AtomicBool,
}

impl Sandbox {
    /// A new, empty sandbox under the system's temporary folder.
    pub fn new() -> Result<Self> {
        let user = User::for_servers()?;
        let ports = Ports::reserve()?;
        let root = tempfile::Builder::new()
            .prefix("citus-sync-lab-")
            .tempdir()
            .context("creating the lab's folder")?;
        let id = root
            .path()
            .file_name()
            .and_then(OsStr::to_str)
            .context("the lab's folder has no plain name")?
            .to_owned();
        user.own(root.path())?;
        let reaper = Reaper::watch(&id, root.path(), ports.share_lock()?)?;
        Ok(Self {
            inner: Arc::new(Inner {
                id,
                root: root.keep(), // from here on the reaper removes it
                user,
                ports: Some(ports),
                reaper: Mutex::new(Some(reaper)),
                detached: AtomicBool::new(false),
            }),
        })
    }

    /// The sandbox of a lab that another process started and detached.
    pub fn attach(root: &Path) -> Result<Self> {
        let id = root
            .file_name()
            .and_then(OsStr::to_str)
            .with_context(|| format!("{} is no lab's folder", root.display()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                id: id.to_owned(),
                root: root.to_owned(),
                user: User::for_servers()?,
                ports: None,
                reaper: Mutex::new(None),
                detached: AtomicBool::new(true),
            }),
        })
    }

    /// Lets the lab outlive this process. From now on only
    /// [`Sandbox::remove`] ends it.
    pub fn detach(&self) -> Result<()> {
        self.inner.detached.store(true, Ordering::SeqCst);
        if let Some(ports) = &self.inner.ports {
            // Holds the lock on the ports for as long as the lab lives.
            self.command("sleep")
                .arg("infinity")
                .stdout(ports.share_lock()?)
                // Or a pipe behind the command that made the lab would never end.
                .stderr(Stdio::null())
                .spawn()
                .context("starting the keeper of the lab's ports")?;
        }
        let reaper = self.reaper().take();
        if let Some(reaper) = reaper {
            reaper.dismiss()?;
        }
        Ok(())
    }

    /// Ends every process of the lab and removes its folder, now.
    pub fn remove(&self) -> Result<()> {
        match self.reaper().take() {
            Some(reaper) => drop(reaper),
            None if self.inner.root.exists() => {
                reaper::reap_now(&self.inner.id, &self.inner.root)?;
            }
            None => {}
        }
        Ok(())
    }

    /// The lab's folder.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The mark that every process of this lab carries in `LAB_ID`.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    pub(crate) fn user(&self) -> &User {
        &self.inner.user
    }

    /// True when the lab outlives this process.
    pub fn is_detached(&self) -> bool {
        self.inner.detached.load(Ordering::SeqCst)
    }

    /// A port of this lab's block.
    pub fn port(&self) -> Result<u16> {
        self.inner
            .ports
            .as_ref()
            .context("an attached lab takes no new ports")?
            .take()
    }

    /// A folder inside the sandbox, owned by the servers' account.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.inner.root.join(name);
        if !path.exists() {
            fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
            self.inner.user.own(&path)?;
        }
        Ok(path)
    }

    /// Writes a file inside the sandbox, owned by the servers' account.
    pub fn write(&self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        self.inner.user.own(path)
    }

    /// A command that runs as the servers' account, with a clean environment
    /// and the lab's mark, inside the lab's folder.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        // Debian's folders first: a root caller's PATH may lead to places that
        // the servers' account cannot read.
        let mut path = String::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        if let Ok(own) = std::env::var("PATH") {
            path.push(':');
            path.push_str(&own);
        }
        command
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", &self.inner.root)
            .env(MARK, &self.inner.id)
            .current_dir(&self.inner.root)
            .stdin(Stdio::null());
        self.inner.user.apply(&mut command);
        command
    }

    /// Marks a command that the caller set up on their own (a daemon under
    /// test) as part of this lab, so that it ends with it.
    pub fn mark<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(MARK, &self.inner.id)
    }

    fn reaper(&self) -> std::sync::MutexGuard<'_, Option<Reaper>> {
        self.inner
            .reaper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
