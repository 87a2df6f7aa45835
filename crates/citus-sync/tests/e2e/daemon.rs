//! The program under test, as its user runs it: a process with a file, a log and a port.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use citus_sync::report::{GroupReport, State};
use lab::{Lab, Sandbox, wait_for, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// Generous: what is awaited takes milliseconds, and a loaded machine is no failure.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Daemon {
    child: Child,
    listen: u16,
    folder: TempDir,
    config: PathBuf,
}

impl Daemon {
    /// Starts it with the smallest configuration for this lab, and waits until it is ready.
    pub(crate) fn start(lab: &Lab) -> Self {
        let daemon = Self::start_with(lab, |_| {});
        daemon.wait_ready();
        daemon
    }

    /// Starts it with a configuration changed by `change`; does not wait.
    pub(crate) fn start_with(lab: &Lab, change: impl FnOnce(&mut Value)) -> Self {
        let listen = lab.sandbox().port().expect("a free port");
        let text = lab.daemon_configuration(listen).expect("a configuration");
        let mut config: Value = serde_json::from_str(&text).expect("JSON is YAML");
        change(&mut config);
        Self::start_configured(lab.sandbox(), listen, &config, |_| {})
    }

    /// Starts it with this configuration, whose `listen` has this port; does not wait.
    pub(crate) fn start_configured(
        sandbox: &Sandbox,
        listen: u16,
        config: &Value,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("citus-sync.yml");
        fs::write(&path, serde_json::to_string_pretty(config).expect("text")).expect("written");
        let child = spawn(sandbox, &path, &folder.path().join("log"), change);
        Self {
            child,
            listen,
            folder,
            config: path,
        }
    }

    /// SIGKILL, and started again with the same file.
    pub(crate) fn kill_and_start_again(&mut self, lab: &Lab) {
        self.kill();
        self.start_again(lab);
    }

    /// Started again, after [`Daemon::kill`].
    pub(crate) fn start_again(&mut self, lab: &Lab) {
        self.child = spawn(
            lab.sandbox(),
            &self.config,
            &self.folder.path().join("log"),
            |_| {},
        );
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("its end");
    }

    /// SIGTERM; its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill");
        assert!(asked.success());
        wait_until("the daemon to stop", SOON, || Ok(self.child.try_wait()?))
            .expect("a clean stop")
            .code()
    }

    pub(crate) fn wait_ready(&self) {
        let ready = wait_for("the daemon to be ready", SOON, || {
            Ok(self.get("/readyz")?.starts_with("HTTP/1.1 200"))
        });
        if let Err(error) = ready {
            panic!("{error:#}\n{}", self.log());
        }
    }

    /// What `/api/v1/state` says.
    pub(crate) fn state(&self) -> Result<State> {
        let answer = self.get("/api/v1/state")?;
        let (_, body) = answer.split_once("\r\n\r\n").context("a body")?;
        Ok(serde_json::from_str(body)?)
    }

    /// What it says of one group.
    pub(crate) fn group(&self, group: i32) -> Result<GroupReport> {
        let state = self.state()?;
        let formation = state.formations.into_iter().next().context("a formation")?;
        formation
            .groups
            .into_iter()
            .find(|report| report.group == group)
            .with_context(|| format!("no group {group} yet"))
    }

    /// The sum of a counter's samples whose line contains all of `parts`.
    pub(crate) fn metric(&self, name: &str, parts: &[&str]) -> Result<u64> {
        let text = self.get("/metrics")?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum())
    }

    /// Waits for a line of the log that contains all of `parts`.
    pub(crate) fn wait_logged(&self, parts: &[&str]) {
        let what = format!("a log line with {parts:?}");
        let logged = wait_for(&what, SOON, || {
            Ok(self
                .log()
                .lines()
                .any(|line| parts.iter().all(|part| line.contains(part))))
        });
        if let Err(error) = logged {
            panic!("{error:#}\n{}", self.log());
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.listen))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.is_empty() {
            bail!("nothing came back for {path}");
        }
        Ok(answer)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log:\n{}", self.log());
        }
    }
}

fn spawn(sandbox: &Sandbox, config: &Path, log: &Path, change: impl FnOnce(&mut Command)) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_citus-sync"));
    command
        .arg("run")
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null());
    command
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log);
    change(&mut command);
    // So that it ends with the lab even when this process is killed.
    sandbox.mark(&mut command).spawn().expect("the program")
}
