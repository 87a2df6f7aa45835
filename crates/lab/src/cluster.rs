//! A whole formation: etcd, a coordinator scope `cn` and worker scopes
//! `wk1`…`wkN`, each a Patroni cluster. In: how many of what. Out: a running
//! Citus (or stand-in) cluster whose group numbers follow the workers' order.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::citus::{Flavour, stand_in_forced};
use crate::etcd::Etcd;
use crate::formation;
use crate::installation::Installation;
use crate::member::{Member, MemberRecord};
use crate::patroni::{MemberPlan, Timing, Version, configuration};
use crate::sandbox::Sandbox;
use crate::scope::Scope;

/// Patroni's default.
pub const NAMESPACE: &str = "/service/";
/// The coordinator's scope.
pub const COORDINATOR: &str = "cn";

/// On two cores all members of a big lab start at once: give them time.
const HEALTHY: Duration = Duration::from_secs(150);
const RECORD: &str = "lab.json";

/// A lab to be.
#[derive(Clone, Debug)]
pub struct LabBuilder {
    workers: u32,
    members: u32,
    version: Version,
    timing: Timing,
    databases: Vec<String>,
    stand_in: bool,
    synchronous: bool,
    settings: Vec<(String, String)>,
    before_stop: Option<String>,
}

impl LabBuilder {
    /// Worker scopes; 2 unless told otherwise.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Members of each scope; 2 unless told otherwise.
    #[must_use]
    pub fn members(mut self, members: u32) -> Self {
        self.members = members;
        self
    }

    /// Which Patroni.
    #[must_use]
    pub fn patroni(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Patroni's clocks.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Citus databases; `postgres` alone unless told otherwise.
    #[must_use]
    pub fn databases<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.databases = names.into_iter().map(Into::into).collect();
        self
    }

    /// The stand-in even where Citus is installed (as `LAB_STAND_IN=1` does).
    #[must_use]
    pub fn stand_in(mut self, stand_in: bool) -> Self {
        self.stand_in = stand_in;
        self
    }

    /// Patroni's `synchronous_mode`; on unless told otherwise.
    #[must_use]
    pub fn synchronous(mut self, synchronous: bool) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// A PostgreSQL setting on all members.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// A script that Patroni runs, and waits for, before it stops PostgreSQL.
    #[must_use]
    pub fn before_stop(mut self, script: &str) -> Self {
        self.before_stop = Some(script.into());
        self
    }

    /// Starts it all and waits until every scope is healthy and every database
    /// knows every worker.
    pub fn start(self) -> Result<Lab> {
        let began = Instant::now();
        let installation = Installation::find()?;
        let program = self.version.program()?;
        let citus = installation.has_citus && !self.stand_in && !stand_in_forced();
        let sandbox = Sandbox::new()?;
        let etcd = Etcd::start(&sandbox)?;

        let mut scopes = Vec::new();
        for group in 0..=self.workers {
            let name = scope_name(group);
            let mut members = Vec::new();
            for number in 1..=self.members {
                let record = MemberRecord {
                    name: format!("{name}-{number}"),
                    port: sandbox.port()?,
                    api_port: sandbox.port()?,
                };
                let member = Member::new(&sandbox, record, program.clone())?;
                member.write_configuration(&configuration(&MemberPlan {
                    scope: &name,
                    name: member.name(),
                    port: member.port(),
                    api_port: member.api_port(),
                    folder: member.folder(),
                    etcd_ports: &[etcd.port()],
                    namespace: NAMESPACE,
                    installation: &installation,
                    citus,
                    synchronous: self.synchronous,
                    settings: &self.settings,
                    before_stop: self.before_stop.as_deref(),
                })?)?;
                member.start()?;
                members.push(member);
            }
            scopes.push(Scope {
                name,
                group,
                namespace: NAMESPACE.into(),
                members,
                synchronous: self.synchronous,
                etcd: etcd.kv().clone(),
            });
        }

        let mut lab = Lab {
            flavour: Flavour::StandIn,
            version: self.version,
            databases: self.databases,
            took: Duration::ZERO,
            scopes,
            etcd,
            sandbox,
        };
        for scope in &lab.scopes {
            scope
                .wait_healthy(HEALTHY)
                .with_context(|| last_words_of(scope))?;
        }
        lab.flavour = formation::form(&lab.scopes, &lab.databases, citus)?;
        for scope in &lab.scopes {
            scope.configure(&self.timing.as_config())?;
        }
        lab.took = began.elapsed();
        Ok(lab)
    }
}

/// `cn` for group 0, `wk1`, `wk2`, … for the workers.
fn scope_name(group: u32) -> String {
    if group == 0 {
        COORDINATOR.into()
    } else {
        format!("wk{group}")
    }
}

/// A running lab. Dropping it ends and removes everything, unless it was
/// [detached](Lab::detach).
#[derive(Debug)]
pub struct Lab {
    flavour: Flavour,
    version: Version,
    databases: Vec<String>,
    took: Duration,
    scopes: Vec<Scope>,
    etcd: Etcd,
    sandbox: Sandbox,
}

/// What a later command needs to find a detached lab again.
#[derive(Serialize, Deserialize)]
struct Record {
    flavour: Flavour,
    version: Version,
    databases: Vec<String>,
    etcd: (u16, u16),
    synchronous: bool,
    scopes: Vec<(String, u32, Vec<MemberRecord>)>,
}

impl Lab {
    /// A lab of one coordinator and two workers, to be changed as needed. The
    /// Patroni version is what `LAB_PATRONI` says, or Debian's.
    pub fn builder() -> LabBuilder {
        LabBuilder {
            workers: 2,
            members: 2,
            version: Version::from_environment().unwrap_or_default(),
            timing: Timing::default(),
            databases: vec!["postgres".into()],
            stand_in: false,
            synchronous: true,
            settings: Vec::new(),
            before_stop: None,
        }
    }

    /// Citus or the stand-in.
    pub fn flavour(&self) -> &Flavour {
        &self.flavour
    }

    /// Which Patroni.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The Citus databases.
    pub fn databases(&self) -> &[String] {
        &self.databases
    }

    /// How long the start took.
    pub fn start_up_time(&self) -> Duration {
        self.took
    }

    /// The etcd that Patroni uses.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The lab's folder, ports and mark.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// All scopes: the coordinator's, then the workers' in group order.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// The coordinator's scope.
    pub fn coordinator(&self) -> &Scope {
        &self.scopes[0]
    }

    /// The workers' scopes, in group order.
    pub fn workers(&self) -> &[Scope] {
        &self.scopes[1..]
    }

    /// A scope by name.
    pub fn scope(&self, name: &str) -> Result<&Scope> {
        self.scopes
            .iter()
            .find(|scope| scope.name() == name)
            .with_context(|| {
                let all: Vec<&str> = self.scopes.iter().map(Scope::name).collect();
                format!("no scope {name:?} in this lab; it has {}", all.join(", "))
            })
    }

    /// Where each group's primary row should point, by etcd's leader keys:
    /// `(group, "127.0.0.1:port")` in group order.
    pub fn leaders(&self) -> Result<Vec<(u32, String)>> {
        self.scopes
            .iter()
            .map(|scope| Ok((scope.group(), scope.leader_address()?)))
            .collect()
    }

    /// Where each group's primary row does point, in the coordinator's
    /// `pg_dist_node`: `(group, "name:port")` in group order.
    pub fn rows(&self, database: &str) -> Result<Vec<(u32, String)>> {
        formation::rows(&mut self.coordinator().connect(database)?)
    }

    /// The worker groups whose primaries have the metadata, in one database: clients may enter
    /// through them. None with the stand-in, which plans nothing.
    pub fn doors(&self, database: &str) -> Result<Vec<u32>> {
        if !self.flavour.is_citus() {
            return Ok(Vec::new());
        }
        let rows = self.coordinator().connect(database)?.query(
            "SELECT groupid FROM pg_dist_node \
             WHERE groupid <> 0 AND noderole = 'primary' AND hasmetadata",
            &[],
        )?;
        rows.iter()
            .map(|row| Ok(u32::try_from(row.get::<_, i32>(0))?))
            .collect()
    }

    /// Waits until every scope is healthy.
    pub fn wait_healthy(&self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        for scope in &self.scopes {
            scope
                .wait_healthy(end.saturating_duration_since(Instant::now()))
                .with_context(|| last_words_of(scope))?;
        }
        Ok(())
    }

    /// The smallest configuration of citus-sync for this lab, plus `listen`
    /// on 127.0.0.1. It is JSON, which is YAML too, for a test to change.
    pub fn daemon_configuration(&self, listen: u16) -> Result<String> {
        let workers: Vec<_> = self
            .workers()
            .iter()
            .map(|scope| json!({"group": scope.group(), "scope": scope.name()}))
            .collect();
        let config = json!({
            "etcd": {"endpoints": [self.etcd.endpoint()]},
            "namespace": NAMESPACE,
            "coordinator": {
                "scope": COORDINATOR,
                "databases": self.databases,
                "user": "postgres",
            },
            "workers": workers,
            "listen": format!("127.0.0.1:{listen}"),
        });
        serde_json::to_string_pretty(&config).context("writing the daemon's configuration")
    }

    /// Lets the lab outlive this process. Returns its folder, for
    /// [`Lab::attach`].
    pub fn detach(self) -> Result<PathBuf> {
        let record = Record {
            flavour: self.flavour.clone(),
            version: self.version,
            databases: self.databases.clone(),
            etcd: (self.etcd.port(), self.etcd.peer_port()),
            synchronous: self.scopes.iter().any(|scope| scope.synchronous),
            scopes: self
                .scopes
                .iter()
                .map(|scope| {
                    let members = scope.members.iter().map(|member| member.record().clone());
                    (scope.name.clone(), scope.group, members.collect())
                })
                .collect(),
        };
        let root = self.sandbox.root().to_owned();
        self.sandbox
            .write(&root.join(RECORD), &serde_json::to_string_pretty(&record)?)?;
        self.sandbox.detach()?;
        Ok(root)
    }

    /// The lab that another process detached. Dropping it changes nothing;
    /// [`Lab::remove`] ends it.
    pub fn attach(root: &Path) -> Result<Self> {
        let path = root.join(RECORD);
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let record: Record =
            serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        let sandbox = Sandbox::attach(root)?;
        let (port, peer) = record.etcd;
        let initial = format!("etcd1=http://127.0.0.1:{peer}");
        let etcd = Etcd::describe(&sandbox, "etcd1", port, peer, &initial)?;
        let program = record.version.program()?;
        let mut scopes = Vec::new();
        for (name, group, members) in record.scopes {
            let members: Result<Vec<Member>> = members
                .into_iter()
                .map(|member| Member::new(&sandbox, member, program.clone()))
                .collect();
            scopes.push(Scope {
                name,
                group,
                namespace: NAMESPACE.into(),
                members: members?,
                synchronous: record.synchronous,
                etcd: etcd.kv().clone(),
            });
        }
        Ok(Self {
            flavour: record.flavour,
            version: record.version,
            databases: record.databases,
            took: Duration::ZERO,
            scopes,
            etcd,
            sandbox,
        })
    }

    /// Ends every process of the lab and removes its folder, detached or not.
    pub fn remove(self) -> Result<()> {
        self.sandbox.remove()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.sandbox.is_detached() {
            return;
        }
        if std::thread::panicking() {
            // A failed test: the logs go with the lab, so show their ends now.
            for scope in &self.scopes {
                eprintln!("{}", last_words_of(scope));
            }
        }
        // All at once by the reaper, rather than one member after another.
        let _ = self.sandbox.remove();
    }
}

fn last_words_of(scope: &Scope) -> String {
    let words: Vec<String> = scope
        .members
        .iter()
        .map(|member| format!("{}: {}", member.name(), member.last_words()))
        .collect();
    words.join("\n")
}
