//! The program under test, as its user runs it: a process with a file, a log and a port.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use citus_sync::report::{GroupReport, State};
use lab::{Lab, Sandbox, wait_for};
use serde_json::Value;

/// Generous: what is awaited takes milliseconds, and a loaded machine is no failure.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Daemon {
    process: lab::Daemon,
    sandbox: Sandbox,
    configuration: String,
    listen: u16,
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
        let configuration = serde_json::to_string_pretty(config).expect("text");
        let process = spawn(sandbox, &configuration, listen, change);
        Self {
            process,
            sandbox: sandbox.clone(),
            configuration,
            listen,
        }
    }

    /// SIGKILL, and started again with the same file.
    pub(crate) fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Started again, after [`Daemon::kill`].
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(&self.sandbox, &self.configuration, self.listen, |_| {});
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it was running");
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.process.freeze().expect("it was running");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.process.thaw().expect("it was frozen");
    }

    /// SIGTERM; its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.process.stop(SOON).expect("a clean stop")
    }

    pub(crate) fn wait_ready(&self) {
        self.process
            .wait_ready(SOON)
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// What `/api/v1/state` says.
    pub(crate) fn state(&self) -> Result<State> {
        let (_, body) = self.process.get("/api/v1/state")?;
        Ok(serde_json::from_str(&body)?)
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
        let (_, text) = self.process.get("/metrics")?;
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
        let entries = self.process.log().entries();
        let lines: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        lines.join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log:\n{}", self.log());
        }
    }
}

fn spawn(
    sandbox: &Sandbox,
    configuration: &str,
    listen: u16,
    change: impl FnOnce(&mut Command),
) -> lab::Daemon {
    let program = Path::new(env!("CARGO_BIN_EXE_citus-sync"));
    lab::Daemon::start_as(sandbox, program, configuration, listen, change).expect("the program")
}
