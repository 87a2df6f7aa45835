//! A real etcd. In: a sandbox. Out: an endpoint that can be stopped, frozen,
//! wiped and restored from a backup, and a [`Gateway`] to it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::gateway::Gateway;
use crate::process::Process;
use crate::sandbox::Sandbox;

const START: Duration = Duration::from_secs(30);

/// One etcd member.
#[derive(Debug)]
pub struct Etcd {
    sandbox: Sandbox,
    name: String,
    folder: PathBuf,
    port: u16,
    peer_port: u16,
    /// All members, in etcd's form: `name=url,…`.
    initial_cluster: String,
    /// Part of the cluster token, from which etcd makes the cluster id. A new number makes the next
    /// empty store another cluster.
    generation: AtomicU32,
    backups: AtomicU32,
    gateway: Gateway,
    process: Process,
}

impl Etcd {
    /// Starts a cluster of one member, and waits until it answers.
    pub fn start(sandbox: &Sandbox) -> Result<Self> {
        let mut members = Self::start_cluster(sandbox, 1)?;
        members.pop().context("a cluster of one has a member")
    }

    /// Starts a cluster of `members`, and waits until all answer. Only once in a sandbox.
    pub fn start_cluster(sandbox: &Sandbox, members: usize) -> Result<Vec<Self>> {
        let mut plan = Vec::new();
        for number in 1..=members {
            plan.push((format!("etcd{number}"), sandbox.port()?, sandbox.port()?));
        }
        let initial_cluster: Vec<String> = plan
            .iter()
            .map(|(name, _, peer)| format!("{name}=http://127.0.0.1:{peer}"))
            .collect();
        let initial_cluster = initial_cluster.join(",");
        let mut cluster = Vec::new();
        for (name, port, peer_port) in plan {
            let etcd = Self::describe(sandbox, &name, port, peer_port, &initial_cluster)?;
            etcd.spawn()?;
            cluster.push(etcd);
        }
        for etcd in &cluster {
            etcd.wait_ready()?;
        }
        Ok(cluster)
    }

    /// A member with these ports, running or not.
    pub(crate) fn describe(
        sandbox: &Sandbox,
        name: &str,
        port: u16,
        peer_port: u16,
        initial_cluster: &str,
    ) -> Result<Self> {
        let folder = sandbox.folder(name)?;
        Ok(Self {
            process: Process::new(sandbox, folder.clone()),
            sandbox: sandbox.clone(),
            name: name.to_owned(),
            folder,
            port,
            peer_port,
            initial_cluster: initial_cluster.to_owned(),
            generation: AtomicU32::new(0),
            backups: AtomicU32::new(0),
            gateway: Gateway::new(port),
        })
    }

    /// The client port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn peer_port(&self) -> u16 {
        self.peer_port
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The client to read and write keys with.
    pub fn kv(&self) -> &Gateway {
        &self.gateway
    }

    /// Starts it again after [`Etcd::stop`] or [`Etcd::kill`], and waits until it answers.
    pub fn start_again(&self) -> Result<()> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Stops it with SIGTERM.
    pub fn stop(&self) -> Result<()> {
        self.process.stop(Signal::TERM, Duration::from_secs(10))
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }

    /// Suspends it with SIGSTOP: connections stay open, and it does not answer.
    pub fn freeze(&self) {
        self.process.signal_all(Signal::STOP);
    }

    /// Undoes [`Etcd::freeze`].
    pub fn thaw(&self) {
        self.process.signal_all(Signal::CONT);
    }

    /// Replaces the store by an empty one with another cluster id, as after a new installation.
    pub fn replace_with_empty(&self) -> Result<()> {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.wipe()
    }

    /// Replaces the store by an empty one with the same cluster id: its revision falls.
    pub fn wipe(&self) -> Result<()> {
        self.kill()?;
        self.remove_data()?;
        self.start_again()
    }

    /// Makes a backup of the store, for [`Etcd::restore`]. Restarts etcd.
    pub fn backup(&self) -> Result<Backup> {
        self.stop()?;
        let copy = self.folder.join(format!(
            "backup-{}",
            self.backups.fetch_add(1, Ordering::SeqCst)
        ));
        self.copy(&self.data(), &copy)?;
        self.start_again()?;
        Ok(Backup { folder: copy })
    }

    /// Restores a backup: the cluster id stays, the revision falls.
    pub fn restore(&self, backup: &Backup) -> Result<()> {
        self.kill()?;
        self.remove_data()?;
        self.copy(&backup.folder, &self.data())?;
        self.start_again()
    }

    /// The file with its log.
    pub fn log(&self) -> PathBuf {
        self.process.log()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn remove_data(&self) -> Result<()> {
        fs::remove_dir_all(self.data()).context("removing etcd's data")
    }

    fn copy(&self, from: &PathBuf, to: &PathBuf) -> Result<()> {
        let mut command = self.sandbox.command("cp");
        let output = self.sandbox.output(command.arg("-a").arg(from).arg(to))?;
        ensure!(
            output.status.success(),
            "copying {} failed: {}",
            from.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn spawn(&self) -> Result<()> {
        let client = self.endpoint();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let token = format!(
            "{}-{}",
            self.sandbox.id(),
            self.generation.load(Ordering::SeqCst)
        );
        let mut command: Command = self.sandbox.command("etcd");
        command.args(["--name", &self.name, "--data-dir", "data"]);
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args(["--initial-cluster", &self.initial_cluster]);
        command.args(["--initial-cluster-token", &token]);
        command.args(["--logger", "zap", "--log-outputs", "stderr"]);
        if !self.initial_cluster.contains(',') {
            // A cluster of one waits for no other member, so elections can be quick.
            command.args(["--heartbeat-interval", "20", "--election-timeout", "200"]);
        }
        self.process.spawn(command)
    }

    fn wait_ready(&self) -> Result<()> {
        let what = format!("etcd on port {}", self.port);
        self.process
            .wait_ready(&what, START, || Ok(self.gateway.status()?.leader != 0))
    }
}

/// A copy of an etcd store, in the lab's folder.
#[derive(Debug)]
pub struct Backup {
    folder: PathBuf,
}
