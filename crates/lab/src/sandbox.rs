//! The sandbox of a lab: a folder, namespaces, a block of ports, an account for servers. In:
//! nothing. Out: commands that run in the sandbox. Nothing is left of it when its owner has
//! ended (see `namespaces.rs`).

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::namespaces::Namespaces;
use crate::ports::Ports;
use crate::user::User;

/// A folder in memory with room for a few labs, or none. With `TMPDIR` set to it labs start and end
/// sooner.
pub fn memory_folder() -> Option<PathBuf> {
    const ROOM: u64 = 4 << 30;
    let folder = Path::new("/dev/shm");
    let about = rustix::fs::statvfs(folder).ok()?;
    let runs_programs = !about.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC);
    (runs_programs && about.f_bavail * about.f_frsize >= ROOM).then(|| folder.to_owned())
}

/// Cheap to clone. Dropping the last clone ends and removes everything, unless the sandbox was
/// [detached](Sandbox::detach).
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
    /// None if they have ended, and only the folder is left.
    namespaces: Option<Namespaces>,
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
        let namespaces = Namespaces::start(root.path(), ports.share_lock()?)?;
        Ok(Self {
            inner: Arc::new(Inner {
                id,
                root: root.keep(), // from now on it is removed with the namespaces
                user,
                ports: Some(ports),
                namespaces: Some(namespaces),
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
                namespaces: Namespaces::of(root),
                detached: AtomicBool::new(true),
            }),
        })
    }

    /// Lets the lab outlive this process. From now on only
    /// [`Sandbox::remove`] ends it.
    pub fn detach(&self) -> Result<()> {
        self.inner.detached.store(true, Ordering::SeqCst);
        self.namespaces()?.detach(&self.inner.root)
    }

    /// Ends every process of the lab and removes its folder, now.
    pub fn remove(&self) -> Result<()> {
        self.inner.remove()
    }

    /// The lab's folder.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// A name that no other lab on this machine has.
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

    /// A command for [`Sandbox::spawn`] or [`Sandbox::output`]: it runs as the servers' account, in
    /// the lab's folder, with a clean environment and a `/proc` of the lab's processes.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("unshare");
        // Debian's folders first: root's PATH may name folders that the servers'
        // account cannot read.
        let mut path = String::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        if let Ok(own) = std::env::var("PATH") {
            path.push(':');
            path.push_str(&own);
        }
        command
            .arg("--mount-proc")
            .args(self.inner.user.unshare_options())
            .arg("--")
            .arg(program)
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", &self.inner.root)
            .current_dir(&self.inner.root)
            .stdin(Stdio::null());
        command
    }

    /// Starts a command in this lab. The process is a child of this one, and ends with the lab.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.namespaces()?.inside(|| {
            let spawned = command.spawn();
            spawned.with_context(|| format!("starting {command:?}"))
        })
    }

    /// Runs a command in this lab, and waits for its end.
    pub(crate) fn output(&self, command: &mut Command) -> Result<Output> {
        self.namespaces()?.inside(|| {
            let output = command.output();
            output.with_context(|| format!("running {command:?}"))
        })
    }

    fn namespaces(&self) -> Result<&Namespaces> {
        let namespaces = self.inner.namespaces.as_ref();
        namespaces.context("no process of this lab is left, as after a restart of the machine")
    }
}

impl Inner {
    fn remove(&self) -> Result<()> {
        if let Some(namespaces) = &self.namespaces {
            namespaces.end(&self.root)?;
        }
        // Left if init had ended before.
        if self.root.exists() {
            fs::remove_dir_all(&self.root)
                .with_context(|| format!("removing {}", self.root.display()))?;
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.detached.load(Ordering::SeqCst) {
            let _ = self.remove();
        }
    }
}
