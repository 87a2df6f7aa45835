//! The floor of idling: a process that does nothing but receive. It opens a
//! bare watch of the same keys, in a runtime like the daemon's, and throws
//! every event away: what any client that watches these keys pays.

use std::env;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use etcd_client::{Client, WatchOptions};
use lab::Sandbox;

/// The hidden argument that makes a process of this bench the floor.
pub(crate) const ARGUMENT: &str = "--watch-only";

/// The process; killed when dropped.
pub(crate) struct Floor(Child);

impl Floor {
    /// Starts this program anew, to watch only.
    pub(crate) fn start(sandbox: &Sandbox, etcd: &str) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["--bench", ARGUMENT, etcd])
            .stdin(Stdio::null());
        let child = sandbox.spawn(&mut command);
        Ok(Self(child.context("starting the floor")?))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may have ended already; both ways it is collected.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Watches for ever.
pub(crate) fn watch(etcd: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut client = Client::connect([etcd], None).await?;
        let options = WatchOptions::new().with_prefix();
        let mut watch = client.watch("/service/", Some(options)).await?;
        while watch.message().await?.is_some() {}
        bail!("etcd closed the watch of the floor")
    })
}
