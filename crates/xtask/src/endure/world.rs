//! What operations are done to: a lab, and the daemon that keeps its rows. In: which Patroni, how
//! many workers. Out: both, whole again whenever that is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Daemon, Lab, Load, Protocol, Timing, Traffic, Version};
use serde_json::{Value, json};

use crate::screen;

/// Each happening is in both.
const DATABASES: [&str; 2] = ["postgres", "second"];
/// Time for Patroni to make a scope whole again: rewind, restart, a synchronous standby.
const HEALTHY: Duration = Duration::from_secs(120);
/// A busy machine is no failure.
const READY: Duration = Duration::from_secs(60);
/// What a busy machine may add to what `citus-sync hold` promises: it is a process, and has to be started first.
const GRACE: Duration = Duration::from_secs(5);
/// What `citus-sync hold` takes at most unless told otherwise.
const HOLD_WAIT: Duration = Duration::from_secs(5);

/// A lab with a daemon.
pub(super) struct World {
    pub(super) lab: Lab,
    pub(super) daemon: Daemon,
    /// How often Patroni had to be started anew because it did not become healthy by itself.
    pub(super) made_anew: usize,
    /// The logs of daemons that are dead.
    earlier_log: String,
    program: PathBuf,
    configuration: String,
    listen: u16,
    token_file: PathBuf,
}

impl World {
    /// Starts it all; the hook is on where Patroni has one.
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
            // Rounds shorter than usual, so that what was broken is whole again sooner.
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
        // A build meanwhile must not change what is started again.
        let own = lab.sandbox().root().join("citus-sync");
        fs::copy(program, &own).with_context(|| format!("copying {}", program.display()))?;
        let (listen, token_file) = match lab.hook() {
            Some(hook) => (hook.listen(), hook.token_file()),
            None => (lab.sandbox().port()?, lab.sandbox().root().join("token")),
        };
        let mut configuration: Value = serde_json::from_str(&lab.daemon_configuration(listen)?)
            .context("the daemon's configuration")?;
        if lab.hook().is_none() {
            lab.sandbox()
                .write(&token_file, "of-a-long-run-0123456789\n")?;
            configuration["token_file"] = json!(token_file);
        }
        let configuration = configuration.to_string();
        let daemon = Daemon::start(lab.sandbox(), &own, &configuration, listen)?;
        daemon.wait_ready(READY)?;
        Ok(Self {
            lab,
            daemon,
            made_anew: 0,
            earlier_log: String::new(),
            program: own,
            configuration,
            listen,
            token_file,
        })
    }

    /// Clients of every sort: writers and readers of each group, simple and prepared, in both
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

    /// Starts the daemon again after its death, and does not wait.
    pub(super) fn start_daemon_again(&mut self) -> Result<()> {
        self.earlier_log = self.log();
        let sandbox = self.lab.sandbox();
        self.daemon = Daemon::start(sandbox, &self.program, &self.configuration, self.listen)?;
        Ok(())
    }

    /// The log of the daemon, and of those before it.
    pub(super) fn log(&self) -> String {
        let mut text = self.earlier_log.clone();
        for entry in self.daemon.log().entries() {
            text.push_str(&entry.text);
            text.push('\n');
        }
        text
    }

    /// `citus-sync hold` or `citus-sync release`, as a person runs it. Returns what it said; that it took longer than
    /// it promised is an error.
    pub(super) fn order(&self, word: &str, scope: &str, more: &[&str]) -> Result<String> {
        let began = Instant::now();
        let output = Command::new(&self.program)
            .args([word, "--scope", scope])
            .args(["--url", &format!("http://127.0.0.1:{}", self.listen)])
            .arg("--token-file")
            .arg(&self.token_file)
            .args(more)
            .output()
            .with_context(|| format!("running citus-sync {word}"))?;
        let took = began.elapsed();
        ensure!(
            took < HOLD_WAIT + GRACE,
            "citus-sync {word} took {took:?}, and promises to end within {HOLD_WAIT:?}"
        );
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let code = output.status.code();
        Ok(match code {
            Some(0) => String::new(),
            code => format!("citus-sync {word} exits with {code:?}: {said}"),
        })
    }

    /// Starts whatever does not run, and waits until every scope is healthy and the daemon is ready.
    pub(super) fn make_whole(&mut self) -> Result<()> {
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
            // A Patroni can be wedged by what it went through (3.0 may follow a leader that is gone,
            // after etcd was restarted under it). That is not what this is about, but it is told.
            self.made_anew += 1;
            for member in lab.scopes().iter().flat_map(lab::Scope::members) {
                member.crash()?;
                member.start()?;
            }
            lab.wait_healthy(HEALTHY)
                .context("Patroni does not become healthy, not even when it is started anew")?;
        }
        self.daemon.wait_ready(READY)
    }
}
