//! One Patroni member: Patroni and its PostgreSQL. In: its name, ports and configuration. Out:
//! starts, crashes, freezes, Patroni's REST calls, connections.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use postgres::Client;
use rustix::process::{Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::process::{Process, pids_in};
use crate::sandbox::Sandbox;
use crate::server;
use crate::wait::wait_for;

/// What a later command needs to find a member again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) api_port: u16,
}

/// A member of a scope.
#[derive(Debug)]
pub struct Member {
    sandbox: Sandbox,
    record: MemberRecord,
    folder: PathBuf,
    program: PathBuf,
    process: Process,
}

impl Member {
    pub(crate) fn new(sandbox: &Sandbox, record: MemberRecord, program: PathBuf) -> Result<Self> {
        let folder = sandbox.folder(&record.name)?;
        Ok(Self {
            process: Process::new(sandbox, folder.clone()),
            sandbox: sandbox.clone(),
            record,
            folder,
            program,
        })
    }

    /// Its name in Patroni.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// PostgreSQL's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.record.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.record.port)
    }

    /// The port of Patroni's REST API on 127.0.0.1.
    pub fn api_port(&self) -> u16 {
        self.record.api_port
    }

    /// A superuser's connection to this member.
    pub fn connect(&self, database: &str) -> Result<Client> {
        server::connect(self.record.port, database)
            .with_context(|| format!("member {}", self.record.name))
    }

    /// Starts Patroni, which starts PostgreSQL. Does not wait.
    pub fn start(&self) -> Result<()> {
        let mut command = self.sandbox.command(&self.program);
        command
            .arg("patroni.yml")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        self.process.spawn(command)
    }

    /// Stops Patroni, which stops PostgreSQL and releases the leader key.
    pub fn stop(&self) -> Result<()> {
        self.process.stop(Signal::TERM, Duration::from_secs(60))
    }

    /// Kills Patroni and PostgreSQL with SIGKILL.
    pub fn crash(&self) -> Result<()> {
        self.process.kill()
    }

    /// Kills PostgreSQL with SIGKILL, and leaves Patroni alone.
    pub fn crash_postgres(&self) -> Result<()> {
        // Only the processes of now: Patroni may start PostgreSQL again meanwhile.
        let first = pids_in(&self.data());
        let what = format!("the death of PostgreSQL of {}", self.record.name);
        wait_for(&what, Duration::from_secs(30), || {
            let alive: Vec<_> = pids_in(&self.data())
                .into_iter()
                .filter(|pid| first.contains(pid))
                .collect();
            for pid in &alive {
                let _ = kill_process(*pid, Signal::KILL);
            }
            Ok(alive.is_empty())
        })
    }

    /// Suspends all of its processes with SIGSTOP.
    pub fn freeze(&self) {
        self.process.signal_all(Signal::STOP);
    }

    /// Undoes [`Member::freeze`].
    pub fn thaw(&self) {
        self.process.signal_all(Signal::CONT);
    }

    /// Makes its PostgreSQL, a standby, receive WAL and replay none of it. `pg_wal_replay_pause`
    /// would not last: Patroni resumes replay in its next round (`handle_parameter_change`,
    /// PostgreSQL 14 and later).
    pub fn freeze_replay(&self) -> Result<()> {
        self.signal_replay("STOP")
    }

    /// Undoes [`Member::freeze_replay`].
    pub fn thaw_replay(&self) -> Result<()> {
        self.signal_replay("CONT")
    }

    fn signal_replay(&self, signal: &str) -> Result<()> {
        let startup = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'";
        let row = self.connect("postgres")?.query_opt(startup, &[])?;
        let row = row.with_context(|| format!("{} is no standby", self.record.name))?;
        // PostgreSQL knows the process id inside the lab's namespaces, so the signal comes from
        // there.
        let mut command = self.sandbox.command("kill");
        command.args(["-s", signal, &row.get::<_, i32>(0).to_string()]);
        let output = self.sandbox.output(&mut command)?;
        ensure!(
            output.status.success(),
            "signalling the startup process: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Makes it look like a member whose host is gone: Patroni and PostgreSQL are suspended, and
    /// every packet for them is dropped, keepalives too.
    pub fn vanish(&self) -> Result<()> {
        self.process.vanish()
    }

    /// Undoes [`Member::vanish`].
    pub fn reappear(&self) -> Result<()> {
        self.process.reappear()
    }

    /// True while any of its processes is alive, frozen ones included.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Process ids: Patroni, the postmaster and its children.
    pub fn pids(&self) -> Vec<i32> {
        self.process
            .pids()
            .into_iter()
            .map(|pid| pid.as_raw_nonzero().get())
            .collect()
    }

    /// Calls Patroni's REST API to change something. Returns Patroni's answer; a status of 300 and
    /// above is an error.
    pub fn rest(&self, method: &str, path: &str, body: &Value) -> Result<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.record.api_port);
        let agent = ureq::Agent::config_builder()
            // Patroni answers after the switchover.
            .timeout_global(Some(Duration::from_secs(90)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let sent = match method {
            "PATCH" => agent.patch(&url).send_json(body),
            _ => agent.post(&url).send_json(body),
        };
        let mut response =
            sent.with_context(|| format!("{method} {path} at Patroni of {}", self.record.name))?;
        let said = response.body_mut().read_to_string().unwrap_or_default();
        if response.status().as_u16() >= 300 {
            bail!(
                "Patroni of {} refused {path} ({}): {said}",
                self.record.name,
                response.status()
            );
        }
        Ok(said)
    }

    /// Where Patroni and PostgreSQL log to.
    pub fn log(&self) -> PathBuf {
        self.process.log()
    }

    /// The end of that log.
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }

    pub(crate) fn record(&self) -> &MemberRecord {
        &self.record
    }

    pub(crate) fn write_configuration(&self, text: &str) -> Result<()> {
        self.sandbox.write(&self.folder.join("patroni.yml"), text)
    }

    pub(crate) fn folder(&self) -> &PathBuf {
        &self.folder
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}
