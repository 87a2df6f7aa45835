//! The release binary of the daemon with a configuration file, as a process of
//! the lab. In: etcd's endpoint, the groups. Out: its process id, its pages.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use citus_core::report::{GroupReport, State};
use lab::{Sandbox, wait_for};

/// The start takes milliseconds; a busy machine may need longer.
const START: Duration = Duration::from_secs(60);

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    address: String,
    log: PathBuf,
    agent: ureq::Agent,
}

impl Daemon {
    /// Starts `citus-sync run` for the coordinator scope `cn` and the worker scopes `wk1`,
    /// `wk2`, …, with default settings, and waits until it is ready and has in sync every group.
    ///
    /// `under` is a command that runs it, like `valgrind --tool=callgrind`; it must replace itself
    /// by what it runs, or the process looked at is the wrong one.
    pub(crate) fn start(
        sandbox: &Sandbox,
        etcd: &str,
        database: &str,
        groups: u32,
        under: Option<&str>,
    ) -> Result<Self> {
        let folder = sandbox.folder("daemon")?;
        let address = format!("127.0.0.1:{}", sandbox.port()?);
        let mut config = format!(
            "etcd:\n  endpoints: [\"{etcd}\"]\nlisten: {address}\n\
             coordinator: {{ scope: cn, databases: [{database}], user: postgres }}\nworkers:\n"
        );
        for group in 1..=groups {
            let _ = writeln!(config, "  - {{ group: {group}, scope: wk{group} }}");
        }
        let file = folder.join("citus-sync.yml");
        fs::write(&file, config).with_context(|| format!("writing {}", file.display()))?;
        let log = folder.join("log");
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let words = under.unwrap_or_default().split_whitespace();
        let mut words = words.chain([env!("CARGO_BIN_EXE_citus-sync"), "run", "-c"]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg(&file);
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = sandbox.spawn(&mut command).context("starting citus-sync")?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut daemon = Self {
            child,
            address,
            log,
            agent,
        };
        daemon.wait_in_sync(groups)?;
        Ok(daemon)
    }

    fn wait_in_sync(&mut self, groups: u32) -> Result<()> {
        // The coordinator is a group as well.
        let expected = usize::try_from(groups)? + 1;
        let in_sync = wait_for(
            "citus-sync to be ready, with every group in sync",
            START,
            || {
                if let Some(status) = self.child.try_wait()? {
                    bail!("citus-sync ended: {status}");
                }
                if self.get("/readyz")?.0 != 200 {
                    return Ok(false);
                }
                let groups = self.groups()?;
                Ok(groups.len() == expected && groups.iter().all(|group| group.in_sync))
            },
        );
        in_sync.with_context(|| self.last_words())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One of its pages: status and body.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("http://{}{path}", self.address);
        let mut answer = self
            .agent
            .get(&url)
            .call()
            .with_context(|| format!("GET {url}"))?;
        Ok((
            answer.status().as_u16(),
            answer.body_mut().read_to_string()?,
        ))
    }

    /// What it says of its groups.
    pub(crate) fn groups(&self) -> Result<Vec<GroupReport>> {
        let (status, body) = self.get("/api/v1/state")?;
        ensure!(status == 200, "/api/v1/state answered {status}: {body}");
        let state: State = serde_json::from_str(&body).context("reading /api/v1/state")?;
        Ok(state
            .formations
            .into_iter()
            .flat_map(|formation| formation.groups)
            .collect())
    }

    /// The end of its log, for an error.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n  ");
        format!(
            "the log of citus-sync (process {}) ends:\n  {end}",
            self.pid()
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; both ways it is collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
