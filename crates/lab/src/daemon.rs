//! The daemon under test. In: its program and a configuration. Out: a running
//! process of the lab, its HTTP answers, and its log with the time of each line.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox::Sandbox;
use crate::silence::{silence, unsilence};
use crate::timeline::Timeline;
use crate::wait::{wait_for, wait_until};

/// A citus-sync process. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Mutex<Child>,
    listen: u16,
    log: Timeline,
    config: PathBuf,
}

impl Daemon {
    /// Starts `program run -c FILE` with `configuration`, in which it must listen on
    /// 127.0.0.1:`listen`. Does not wait.
    pub fn start(
        sandbox: &Sandbox,
        program: &Path,
        configuration: &str,
        listen: u16,
    ) -> Result<Self> {
        Self::start_as(sandbox, program, configuration, listen, |_| {})
    }

    /// [`Daemon::start`], but `change` may change the command first.
    pub fn start_as(
        sandbox: &Sandbox,
        program: &Path,
        configuration: &str,
        listen: u16,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let config = sandbox.root().join(format!("citus-sync-{listen}.yml"));
        sandbox.write(&config, configuration)?;
        let mut command = Command::new(program);
        command
            .args(["run", "-c"])
            .arg(&config)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut child = sandbox.spawn(&mut command)?;
        let stderr = child.stderr.take().context("no pipe to the daemon's log")?;
        let log = Timeline::default();
        let lines = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.add("citus-sync", &line);
            }
        });
        Ok(Self {
            child: Mutex::new(child),
            listen,
            log,
            config,
        })
    }

    /// Its log so far, with the time of each line.
    pub fn log(&self) -> &Timeline {
        &self.log
    }

    /// The file with its configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// `GET path`: the status and the body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(3)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let url = format!("http://127.0.0.1:{}{path}", self.listen);
        let mut response = agent
            .get(&url)
            .call()
            .with_context(|| format!("GET {url}"))?;
        Ok((
            response.status().as_u16(),
            response.body_mut().read_to_string()?,
        ))
    }

    /// Waits until `/readyz` answers 200. Fails early when the daemon ends.
    pub fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let ready = wait_until("citus-sync to be ready", deadline, || {
            if !self.is_running() {
                return Ok(Some(false));
            }
            match self.get("/readyz")? {
                (200, _) => Ok(Some(true)),
                (status, body) => bail!("/readyz says {status}: {}", body.trim()),
            }
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => bail!(
                "citus-sync ended instead of starting:\n{}",
                self.last_words()
            ),
            Err(error) => Err(error.context(self.last_words())),
        }
    }

    /// Sends SIGTERM, waits, and returns the exit code (none if a signal ended the daemon).
    pub fn stop(&self, patience: Duration) -> Result<Option<i32>> {
        self.signal(Signal::TERM)?;
        let mut code = None;
        wait_for("citus-sync to stop", patience, || {
            let status = self.child().try_wait().context("waiting for citus-sync")?;
            code = status.and_then(|status| status.code());
            Ok(status.is_some())
        })?;
        Ok(code)
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child();
        child.kill().context("killing citus-sync")?;
        child.wait().context("waiting for citus-sync")?;
        Ok(())
    }

    /// Suspends it with SIGSTOP.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Undoes [`Daemon::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Makes it look like a daemon whose host is gone: it is suspended, and every
    /// packet for it is dropped, so that its peers get no answer to a keepalive
    /// and no sign of an end.
    pub fn vanish(&self) -> Result<()> {
        self.freeze()?;
        silence(&[self.process()?]).context("silencing citus-sync")
    }

    /// Undoes [`Daemon::vanish`]. Connections that its peers have closed
    /// meanwhile are reset when it uses them.
    pub fn reappear(&self) -> Result<()> {
        unsilence(&[self.process()?])?;
        self.thaw()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// True while it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let entries = self.log.entries();
        let end = &entries[entries.len().saturating_sub(30)..];
        let lines: Vec<&str> = end.iter().map(|entry| entry.text.as_str()).collect();
        lines.join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.process()?, signal).context("signalling citus-sync")
    }

    fn process(&self) -> Result<Pid> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        pid.context("no process id")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
