//! The fixture of a soak: a lab, and the daemon that keeps its rows. In: the version of Patroni, the
//! number of workers. Out: both, made healthy again after each operation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Daemon, Lab, Load, Protocol, Timing, Traffic, Version};
use serde_json::{Value, json};

use crate::screen;

/// Every operation affects both.
const DATABASES: [&str; 2] = ["postgres", "second"];
/// For Patroni to make a scope healthy: rewind, restart, synchronous standby.
const HEALTHY: Duration = Duration::from_secs(120);
/// For the daemon to become ready, even on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// A busy machine may add this to [`HOLD_WAIT`]: the process has to be started first.
const GRACE: Duration = Duration::from_secs(5);
/// By default `citus-sync hold` takes no longer than this.
const HOLD_WAIT: Duration = Duration::from_secs(5);

/// A lab with a daemon.
pub(super) struct Fixture {
    pub(super) lab: Lab,
    pub(super) daemon: Daemon,
    /// How often all Patronis were restarted because a scope did not become healthy by itself.
    pub(super) patroni_restarts: usize,
    /// The logs of earlier daemons.
    earlier_log: String,
    program: PathBuf,
    configuration: String,
    listen: u16,
    token_file: PathBuf,
}

impl Fixture {
    /// Starts the lab and the daemon, with the hook if this Patroni has one.
    pub(super) fn start(
        program: &Path,
        patroni: Version,
        workers: u32,
        stand_in: bool,
    ) -> Result<Self> {
        let builder = Lab::builder()
            .workers(workers)
            .members(2)
            .databases(DATABASES)
            .patroni(patroni)
            .stand_in(stand_in)
            // Short rounds, so that a scope becomes healthy sooner.
            .timing(Timing {
                loop_wait: Duration::from_secs(2),
                ..Timing::default()
            });
        let builder = match patroni {
            Version::V4_1 => builder.hook(program),
            Version::Debian => builder,
        };
        let lab = screen::step(
            &format!(
                "starting etcd, {} Patroni clusters of 2, and 2 databases",
                workers + 1
            ),
            || builder.start(),
        )?;
        // A copy, so that a build meanwhile does not change the program.
        let own = lab.sandbox().root().join("citus-sync");
        fs::copy(program, &own).with_context(|| format!("copying {}", program.display()))?;
        let (listen, token_file) = match lab.hook() {
            Some(hook) => (hook.listen(), hook.token_file()),
            None => (lab.sandbox().port()?, lab.sandbox().root().join("token")),
        };
        let mut configuration: Value = serde_json::from_str(&lab.daemon_configuration(listen)?)
            .context("the daemon's configuration")?;
        if lab.hook().is_none() {
            lab.sandbox().write(&token_file, "of-a-soak-0123456789\n")?;
            configuration["token_file"] = json!(token_file);
        }
        let configuration = configuration.to_string();
        let daemon = Daemon::start(lab.sandbox(), &own, &configuration, listen)?;
        daemon.wait_ready(READY)?;
        Ok(Self {
            lab,
            daemon,
            patroni_restarts: 0,
            earlier_log: String::new(),
            program: own,
            configuration,
            listen,
            token_file,
        })
    }

    /// Clients of every kind: writers and readers of each group, simple and prepared, in both
    /// databases, through the coordinator and through a worker.
    pub(super) fn clients(&self) -> Result<Traffic> {
        let citus = self.lab.flavour().is_citus();
        let mut builder = Traffic::builder(&self.lab)
            .load(Load {
                pause: Duration::from_millis(60),
                ..Load::default()
            })
            .protocols([Protocol::Prepared, Protocol::Simple])
            .in_turn()
            .multi_shard(usize::from(citus));
        if citus {
            builder = builder.also_through("wk1")?;
        }
        builder.start()
    }

    /// Starts the daemon again after it was killed. Does not wait.
    pub(super) fn start_daemon_again(&mut self) -> Result<()> {
        self.earlier_log = self.log();
        let sandbox = self.lab.sandbox();
        self.daemon = Daemon::start(sandbox, &self.program, &self.configuration, self.listen)?;
        Ok(())
    }

    /// The log of the daemon and of the earlier ones.
    pub(super) fn log(&self) -> String {
        let mut text = self.earlier_log.clone();
        for entry in self.daemon.log().entries() {
            text.push_str(&entry.text);
            text.push('\n');
        }
        text
    }

    /// Runs `citus-sync hold` or `citus-sync release`. Returns its output if it failed. Fails if it
    /// took longer than it promises.
    pub(super) fn citus_sync(
        &self,
        command: &str,
        scope: &str,
        options: &[&str],
    ) -> Result<String> {
        let began = Instant::now();
        let output = Command::new(&self.program)
            .args([command, "--scope", scope])
            .args(["--url", &format!("http://127.0.0.1:{}", self.listen)])
            .arg("--token-file")
            .arg(&self.token_file)
            .args(options)
            .output()
            .with_context(|| format!("running citus-sync {command}"))?;
        let took = began.elapsed();
        ensure!(
            took < HOLD_WAIT + GRACE,
            "citus-sync {command} took {took:?}, and promises to end within {HOLD_WAIT:?}"
        );
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let code = output.status.code();
        Ok(match code {
            Some(0) => String::new(),
            code => format!("citus-sync {command} exits with {code:?}: {said}"),
        })
    }

    /// Starts what does not run, and waits until every scope is healthy and the daemon is ready.
    pub(super) fn make_healthy(&mut self) -> Result<()> {
        let lab = &self.lab;
        lab.etcd().thaw();
        if lab.etcd().kv().status().is_err() {
            lab.etcd().start_again()?;
        }
        for scope in lab.scopes() {
            scope.thaw();
            scope.revive()?;
        }
        if lab.wait_healthy(HEALTHY).is_err() {
            // Patroni may get stuck: after a restart of etcd, 3.0 may follow a leader that is gone.
            // That is no violation of ours, but it is counted.
            self.patroni_restarts += 1;
            for member in lab.scopes().iter().flat_map(lab::Scope::members) {
                member.crash()?;
                member.start()?;
            }
            lab.wait_healthy(HEALTHY)
                .context("Patroni does not become healthy, not even after a restart")?;
        }
        self.daemon.wait_ready(READY)
    }
}
