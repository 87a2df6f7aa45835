//! A whole formation: etcd, a coordinator scope `cn` and worker scopes
//! `wk1`…`wkN`, each a Patroni cluster. In: a lab from its builder, or the folder of a lab
//! that another process started. Out: its scopes, rows and leaders, until it is removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::citus::Flavour;
use crate::etcd::Etcd;
use crate::formation;
use crate::hook::{Hook, HookRecord};
use crate::member::{Member, MemberRecord};
use crate::patroni::Version;
use crate::sandbox::Sandbox;
use crate::scope::Scope;

/// Patroni's default.
pub const NAMESPACE: &str = "/service/";
/// The coordinator's scope.
pub const COORDINATOR: &str = "cn";

const RECORD: &str = "lab.json";

/// A running lab. Dropping it stops and removes everything, unless it was
/// [detached](Lab::detach).
#[derive(Debug)]
pub struct Lab {
    pub(crate) flavour: Flavour,
    pub(crate) version: Version,
    pub(crate) databases: Vec<String>,
    pub(crate) took: Duration,
    pub(crate) hook: Option<Hook>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) etcd: Etcd,
    pub(crate) sandbox: Sandbox,
}

/// What a later command needs to find a detached lab again.
#[derive(Serialize, Deserialize)]
struct Record {
    flavour: Flavour,
    version: Version,
    databases: Vec<String>,
    etcd: (u16, u16),
    synchronous: bool,
    hook: Option<HookRecord>,
    scopes: Vec<(String, u32, Vec<MemberRecord>)>,
}

impl Lab {
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

    /// The script that Patroni runs before it stops PostgreSQL, if the lab has one.
    pub fn hook(&self) -> Option<&Hook> {
        self.hook.as_ref()
    }

    /// The etcd that Patroni uses.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The lab's folder, ports and namespaces.
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

    /// The address that each group's primary row should have, by etcd's leader keys:
    /// `(group, "127.0.0.1:port")` in group order.
    pub fn leaders(&self) -> Result<Vec<(u32, String)>> {
        self.scopes
            .iter()
            .map(|scope| Ok((scope.group(), scope.leader_address()?)))
            .collect()
    }

    /// The address that each group's primary row has in the coordinator's `pg_dist_node`:
    /// `(group, "name:port")` in group order.
    pub fn rows(&self, database: &str) -> Result<Vec<(u32, String)>> {
        formation::rows(&mut self.coordinator().connect(database)?)
    }

    /// The worker groups whose leaders are entry nodes of one database: those with the metadata
    /// ([`Lab::with_metadata`]). None with the stand-in, which does not sync metadata to workers.
    pub fn entry_nodes(&self, database: &str) -> Result<Vec<u32>> {
        if self.flavour.is_citus() {
            self.with_metadata(database)
        } else {
            Ok(Vec::new())
        }
    }

    /// The worker groups whose primaries have the metadata of one database, by `pg_dist_node`.
    pub fn with_metadata(&self, database: &str) -> Result<Vec<u32>> {
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

    /// The smallest configuration of citus-sync for this lab, with `listen` on 127.0.0.1 and the
    /// token of the lab's [hook](Lab::hook), which asks daemons at its [ports](Hook::ports). It is
    /// JSON, which is YAML too and easy for a test to change.
    pub fn daemon_configuration(&self, listen: u16) -> Result<String> {
        let workers: Vec<_> = self
            .workers()
            .iter()
            .map(|scope| json!({"group": scope.group(), "scope": scope.name()}))
            .collect();
        let mut config = json!({
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
        if let Some(hook) = &self.hook {
            config["token_file"] = json!(hook.token_file());
        }
        serde_json::to_string_pretty(&config).context("writing the daemon's configuration")
    }

    /// Lets the lab outlive this process. Returns its folder, for [`Lab::attach`].
    pub fn detach(self) -> Result<PathBuf> {
        let record = Record {
            flavour: self.flavour.clone(),
            version: self.version,
            databases: self.databases.clone(),
            etcd: (self.etcd.port(), self.etcd.peer_port()),
            synchronous: self.scopes.iter().any(|scope| scope.synchronous),
            hook: self.hook.as_ref().map(|hook| hook.record().clone()),
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

    /// The lab that another process detached. Dropping it changes nothing; [`Lab::remove`] ends it.
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
        let hook = record.hook.map(|hook| Hook::attach(&sandbox, hook));
        Ok(Self {
            hook: hook.transpose()?,
            flavour: record.flavour,
            version: record.version,
            databases: record.databases,
            took: Duration::ZERO,
            scopes,
            etcd,
            sandbox,
        })
    }

    /// Ends every process of the lab and removes its folder, even if it was detached.
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
            // The test has failed, and the logs are removed with the lab: show their ends now.
            for scope in &self.scopes {
                eprintln!("{}", last_words_of(scope));
            }
        }
        // This ends all processes at once, and not one member after another.
        let _ = self.sandbox.remove();
    }
}

pub(crate) fn last_words_of(scope: &Scope) -> String {
    let words: Vec<String> = scope
        .members
        .iter()
        .map(|member| format!("{}: {}", member.name(), member.last_words()))
        .collect();
    words.join("\n")
}
