//! The program under test, as its user runs it: a process with a file, a log and a port.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use citus_core::report::{
    GroupReport, History, HoldAnswer, HoldOutcome, HoldRequest, State, Transition,
};
use lab::{Lab, Sandbox, wait_for, wait_until};
use serde_json::{Value, json};

/// Generous: what is awaited takes milliseconds, and a loaded machine is no failure.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What the daemon is shown by who has writes held, where the lab has no hook with a token of its
/// own.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub(crate) struct Daemon {
    process: lab::Daemon,
    sandbox: Sandbox,
    configuration: String,
    listen: u16,
    token_file: PathBuf,
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
        // Where the lab's hook asks, if it has one.
        let listen = match lab.hook() {
            Some(hook) => hook.listen(),
            None => lab.sandbox().port().expect("a free port"),
        };
        let text = lab.daemon_configuration(listen).expect("a configuration");
        let mut config: Value = serde_json::from_str(&text).expect("JSON is YAML");
        change(&mut config);
        Self::start_configured(lab.sandbox(), listen, &config, |_| {})
    }

    /// Starts it with this policy, and waits until it is ready.
    pub(crate) fn start_by(lab: &Lab, policy: &Value) -> Self {
        let daemon = Self::start_with(lab, |config| config["policy"] = policy.clone());
        daemon.wait_ready();
        daemon
    }

    /// Starts it with this configuration, whose `listen` has this port; does not wait.
    pub(crate) fn start_configured(
        sandbox: &Sandbox,
        listen: u16,
        config: &Value,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let mut config = config.clone();
        let token_file = match config["token_file"].as_str() {
            Some(file) => PathBuf::from(file),
            None => sandbox.root().join("token"),
        };
        if config["token_file"].is_null() {
            sandbox.write(&token_file, TOKEN).expect("a token");
            config["token_file"] = json!(token_file);
        }
        let configuration = serde_json::to_string_pretty(&config).expect("text");
        let process = spawn(sandbox, &configuration, listen, change);
        Self {
            process,
            sandbox: sandbox.clone(),
            configuration,
            listen,
            token_file,
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

    /// Its host is gone to all others: no packet for it arrives.
    pub(crate) fn vanish(&self) {
        self.process.vanish().expect("it was running");
    }

    /// Undoes [`Daemon::vanish`].
    pub(crate) fn reappear(&self) {
        self.process.reappear().expect("it had vanished");
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

    /// The transitions of one group so far, oldest first.
    pub(crate) fn transitions(&self, group: i32) -> Vec<Transition> {
        let (_, body) = self.process.get("/api/v1/history").expect("the history");
        let history: History = serde_json::from_str(&body).expect("a history");
        let transitions = history.transitions.into_iter();
        transitions.filter(|found| found.group == group).collect()
    }

    /// The only transition of a group so far.
    pub(crate) fn transition(&self, group: i32) -> Transition {
        match self.transitions(group).as_slice() {
            [transition] => transition.clone(),
            other => panic!("one transition, not {other:#?}\n{}", self.log()),
        }
    }

    /// Asks for a hold of this group; what is answered, whatever it is.
    pub(crate) fn ask_for_hold(&self, group: u32, request: &HoldRequest) -> HoldAnswer {
        let body = serde_json::to_value(request).expect("JSON");
        self.tell(
            |agent, url, bearer| {
                let asked = agent.post(url).header("Authorization", bearer);
                asked.send_json(body)
            },
            group,
        )
    }

    /// Asks for a hold of this group for as long as there may be one, and is answered that every
    /// database is held.
    pub(crate) fn hold(&self, group: u32) -> HoldAnswer {
        self.hold_for(group, None)
    }

    /// [`Daemon::hold`] for so long at most.
    pub(crate) fn hold_for(&self, group: u32, timeout: Option<Duration>) -> HoldAnswer {
        let request = HoldRequest {
            timeout_ms: timeout.map(|timeout| u64::try_from(timeout.as_millis()).expect("short")),
            wait_ms: Some(u64::try_from(SOON.as_millis()).expect("short")),
            ..HoldRequest::default()
        };
        let answer = self.ask_for_hold(group, &request);
        assert_eq!(
            answer.outcome,
            HoldOutcome::Held,
            "{answer:?}\n{}",
            self.log()
        );
        answer
    }

    /// Lets a group go.
    pub(crate) fn release(&self, group: u32) -> HoldAnswer {
        self.tell(
            |agent, url, bearer| agent.delete(url).header("Authorization", bearer).call(),
            group,
        )
    }

    fn tell(
        &self,
        ask: impl FnOnce(
            &ureq::Agent,
            &str,
            &str,
        ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        group: u32,
    ) -> HoldAnswer {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(SOON * 2))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let url = format!(
            "http://127.0.0.1:{}/api/v1/groups/{group}/hold",
            self.listen
        );
        let token = std::fs::read_to_string(&self.token_file).expect("the token");
        let bearer = format!("Bearer {}", token.trim());
        let mut response = ask(&agent, &url, &bearer).expect("an answer");
        let body = response.body_mut().read_to_string().expect("a body");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// `citus-sync hold …` or another command that asks this daemon: whether it succeeded, and what
    /// it said on both streams.
    pub(crate) fn command(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_citus-sync"))
            .args(arguments)
            .arg("--url")
            .arg(format!("http://127.0.0.1:{}", self.listen))
            .env(
                "CITUS_SYNC_TOKEN",
                std::fs::read_to_string(&self.token_file)
                    .expect("the token")
                    .trim(),
            )
            .output()
            .expect("the program");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// `citus-sync check …` or another command that reads this daemon's configuration: whether it
    /// succeeded, and what it said on both streams.
    pub(crate) fn configured(&self, arguments: &[&str]) -> (bool, String) {
        let file = self.sandbox.root().join("configured.yml");
        self.sandbox
            .write(&file, &self.configuration)
            .expect("a configuration");
        let output = Command::new(env!("CARGO_BIN_EXE_citus-sync"))
            .args(arguments)
            .arg("-c")
            .arg(&file)
            .output()
            .expect("the program");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Waits until the standing hold of a group is complete, in every one of its databases.
    pub(crate) fn wait_held(&self, group: i32) {
        let held = wait_for(&format!("group {group} to be held"), SOON, || {
            let report = self.group(group)?;
            let hold = report.hold.context("no hold stands")?;
            Ok(report
                .databases
                .keys()
                .all(|name| hold.databases.get(name).is_some_and(|word| word == "held")))
        });
        self.expect(held);
    }

    /// Waits until no hold of a group stands.
    pub(crate) fn wait_let_go(&self, group: i32) {
        let gone = wait_for(&format!("group {group} to be let go"), SOON, || {
            Ok(self.group(group)?.hold.is_none())
        });
        self.expect(gone);
    }

    /// Waits until the first transition of a group is over.
    pub(crate) fn wait_transition(&self, group: i32) -> Transition {
        let over = wait_until(&format!("a transition of group {group}"), SOON, || {
            Ok(self.transitions(group).pop())
        });
        self.expect(over)
    }

    /// What was waited for, or a panic that shows the log.
    pub(crate) fn expect<T>(&self, waited: Result<T>) -> T {
        waited.unwrap_or_else(|error| panic!("{error:#}\n--- the daemon's log:\n{}", self.log()))
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
