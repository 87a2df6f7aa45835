//! What it happens on: a coordinator and five worker groups of two members each, synchronous, on
//! one etcd; two databases. The fifth group is the entry node: clients enter through its leader,
//! nothing is done to it, and no row of the application is its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use citus_core::report::{History, State, Transition};
use lab::{Daemon, Lab, Scope, Timeline, Timing, Version, wait_for};
use serde_json::Value;

use super::arguments::GROUPS;
use super::event::Event;
use super::machine::Machine;

/// The Citus databases.
const DATABASES: [&str; 2] = ["postgres", "second"];
/// The scope of the fifth group.
const ENTRY_NODE: &str = "wk5";
/// Patroni makes a scope whole again: rewind, start, a synchronous standby.
const WHOLE: Duration = Duration::from_secs(180);
/// The daemon or the poll, to move the rows; the poll may wait for the locks of clients that hang.
const MOVED: Duration = Duration::from_secs(180);
/// The daemon, to find everything in order.
const IN_SYNC: Duration = Duration::from_secs(60);

/// Fields are dropped in this order.
pub(crate) struct Fixture {
    /// And what policy it has.
    daemon: Option<(Daemon, Value)>,
    /// The lab.
    pub(crate) lab: Lab,
    /// The worker scope through whose leader clients enter as well.
    pub(crate) entry_node: Option<&'static str>,
    /// Patroni's clocks.
    pub(crate) timing: Timing,
    /// Whether the account of every event is printed.
    pub(crate) accounts: bool,
}

impl Fixture {
    /// Starts it all but the daemon.
    pub(crate) fn prepare(version: Version, stand_in: bool) -> Result<Self> {
        let timing = Timing::default();
        let mut builder = Lab::builder()
            .workers(u32::try_from(GROUPS + 1)?)
            .members(2)
            .patroni(version)
            .timing(timing)
            .databases(DATABASES)
            .stand_in(stand_in);
        if version == Version::V4_1 {
            builder = builder.hook(program());
        }
        let lab = builder.start()?;
        let mut fixture = Self {
            daemon: None,
            lab,
            entry_node: None,
            timing,
            accounts: false,
        };
        let entry_node = fixture.lab.scope(ENTRY_NODE)?.group();
        let mut is_entry_node = true;
        for database in DATABASES {
            is_entry_node &= fixture.lab.entry_nodes(database)?.contains(&entry_node);
        }
        fixture.entry_node = is_entry_node.then_some(ENTRY_NODE);
        Ok(fixture)
    }

    /// Whether it can be done here: Debian's Patroni may know no hook.
    pub(crate) fn can(&self, event: Event) -> bool {
        self.lab.hook().is_some() || !event.uses_hook()
    }

    /// As many of the groups that may be disturbed, another first each round.
    pub(crate) fn victims(&self, groups: usize, round: usize) -> Vec<&Scope> {
        let scopes = &self.lab.workers()[..GROUPS];
        (0..groups)
            .map(|number| &scopes[(round + number) % GROUPS])
            .collect()
    }

    /// The daemon with this policy, and besides with a configuration that has nothing but what it
    /// must, and a token. One that runs with another policy is stopped.
    pub(crate) fn start_daemon(&mut self, policy: &Value) -> Result<()> {
        if matches!(&self.daemon, Some((_, known)) if known == policy) {
            return Ok(());
        }
        self.stop_daemon()?;
        let listen = match self.lab.hook() {
            Some(hook) => hook.listen(),
            None => self.lab.sandbox().port()?,
        };
        let configuration = self.lab.daemon_configuration(listen)?;
        let mut configuration: Value = serde_json::from_str(&configuration)?;
        configuration["policy"] = policy.clone();
        let configuration = configuration.to_string();
        let daemon = Daemon::start(self.lab.sandbox(), program(), &configuration, listen)?;
        daemon.wait_ready(IN_SYNC)?;
        self.daemon = Some((daemon, policy.clone()));
        Ok(())
    }

    /// The end of the daemon.
    pub(crate) fn stop_daemon(&mut self) -> Result<()> {
        match self.daemon.take() {
            Some((daemon, _)) => daemon.stop(IN_SYNC).map(drop),
            None => Ok(()),
        }
    }

    fn running(&self) -> Option<&Daemon> {
        self.daemon.as_ref().map(|(daemon, _)| daemon)
    }

    /// What the daemon said so far.
    pub(crate) fn daemon_log(&self) -> Option<&Timeline> {
        self.running().map(Daemon::log)
    }

    /// What the daemon said last, for an error.
    pub(crate) fn last_words(&self) -> String {
        let words = self.running().map(Daemon::last_words);
        words.unwrap_or_default()
    }

    /// Every event of a group that the daemon has been through.
    pub(crate) fn transitions(&self) -> Result<Vec<Transition>> {
        let Some(daemon) = self.running() else {
            return Ok(Vec::new());
        };
        let (status, body) = daemon.get("/api/v1/history")?;
        ensure!(status == 200, "/api/v1/history answered {status}: {body}");
        let history: History = serde_json::from_str(&body).context("reading /api/v1/history")?;
        Ok(history.transitions)
    }

    /// Everything that was killed is back, every scope is healthy.
    pub(crate) fn wait_whole(&self) -> Result<()> {
        for scope in self.lab.scopes() {
            scope.revive()?;
        }
        self.lab.wait_healthy(WHOLE)?;
        for database in DATABASES {
            self.wait_rows(database)?;
        }
        Ok(())
    }

    /// Nothing is left to do: rows are the leaders', and every worker has the metadata.
    pub(crate) fn wait_calm(&self) -> Result<()> {
        self.wait_whole()?;
        for database in DATABASES {
            self.wait_synced(database)?;
        }
        let Some(daemon) = self.running() else {
            return Ok(());
        };
        let in_sync = wait_for("every group to be in sync", IN_SYNC, || {
            let (_, body) = daemon.get("/api/v1/state")?;
            let state: State = serde_json::from_str(&body).context("reading /api/v1/state")?;
            let mut groups = state
                .formations
                .iter()
                .flat_map(|formation| &formation.groups);
            Ok(groups.all(|group| group.in_sync && group.hold.is_none()))
        });
        in_sync.with_context(|| daemon.last_words())
    }

    /// Waits until the rows of a database are the leaders'.
    pub(crate) fn wait_rows(&self, database: &str) -> Result<()> {
        let what = format!("the rows of {database} to be the leaders'");
        let moved = wait_for(&what, MOVED, || {
            let (rows, leaders) = (self.lab.rows(database)?, self.lab.leaders()?);
            ensure!(rows == leaders, "rows {rows:?}, leaders {leaders:?}");
            Ok(true)
        });
        moved.with_context(|| self.last_words())
    }

    fn wait_synced(&self, database: &str) -> Result<()> {
        let what = format!("the workers of {database} to have the metadata");
        wait_for(&what, IN_SYNC, || {
            let mut sql = self.lab.coordinator().connect(database)?;
            let row = sql.query_one(
                "SELECT NOT EXISTS (SELECT FROM pg_dist_node WHERE hasmetadata AND NOT metadatasynced)",
                &[],
            )?;
            // The stand-in has no daemon that would do it.
            Ok(row.get(0) || !self.lab.flavour().is_citus())
        })
    }

    /// What it runs on.
    pub(crate) fn machine(&self) -> Result<Machine> {
        let mut sql = self.lab.coordinator().connect(DATABASES[0])?;
        let flavour = format!("{}, {}", self.lab.flavour(), self.lab.version());
        let folder = self.lab.sandbox().root();
        Machine::look(&mut sql, &self.lab.etcd().endpoint(), folder, flavour)
    }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_citus-sync"))
}
