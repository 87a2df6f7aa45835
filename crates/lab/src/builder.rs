//! How a lab is configured and started. In: the number of workers and members, and their
//! settings. Out: a running lab in which every scope is healthy and every database
//! knows every worker.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::citus::{Flavour, stand_in_forced};
use crate::cluster::{COORDINATOR, Lab, NAMESPACE, last_words_of};
use crate::etcd::Etcd;
use crate::formation;
use crate::hook::Hook;
use crate::installation::Installation;
use crate::member::{Member, MemberRecord};
use crate::patroni::{MemberPlan, Timing, Version, configuration};
use crate::sandbox::Sandbox;
use crate::scope::Scope;

/// How long the members of a scope may take to start. In a big lab many start at once.
const HEALTHY: Duration = Duration::from_secs(150);

/// A lab to configure.
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
    /// The program `citus-sync`, and the number of daemons that the hook asks.
    hook: Option<(PathBuf, usize)>,
}

impl Default for LabBuilder {
    fn default() -> Self {
        Self {
            workers: 2,
            members: 2,
            version: Version::from_environment().unwrap_or_default(),
            timing: Timing::default(),
            databases: vec!["postgres".into()],
            stand_in: false,
            synchronous: true,
            settings: Vec::new(),
            before_stop: None,
            hook: None,
        }
    }
}

impl Lab {
    /// A lab to configure; by default one coordinator and two workers. The Patroni is that of
    /// `LAB_PATRONI`, or Debian's.
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }
}

impl LabBuilder {
    /// The number of worker scopes; by default 2.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// The number of members of each scope; by default 2.
    #[must_use]
    pub fn members(mut self, members: u32) -> Self {
        self.members = members;
        self
    }

    /// The version of Patroni.
    #[must_use]
    pub fn patroni(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Patroni's timing.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// The Citus databases; by default only `postgres`.
    #[must_use]
    pub fn databases<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.databases = names.into_iter().map(Into::into).collect();
        self
    }

    /// Uses the stand-in even where Citus is installed, as `LAB_STAND_IN=1` does.
    #[must_use]
    pub fn stand_in(mut self, stand_in: bool) -> Self {
        self.stand_in = stand_in;
        self
    }

    /// Patroni's `synchronous_mode`; by default on.
    #[must_use]
    pub fn synchronous(mut self, synchronous: bool) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Adds a PostgreSQL setting on all members.
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

    /// Has Patroni run `citus-sync hold`, of this program, before it stops PostgreSQL. That asks
    /// the daemon that listens at [`Hook::listen`]. It takes Patroni 3.0.3 or later; Debian 12's is
    /// too old.
    #[must_use]
    pub fn hook(self, program: &Path) -> Self {
        self.hook_for(program, 1)
    }

    /// [`LabBuilder::hook`], but it asks several daemons, at [`Hook::ports`].
    #[must_use]
    pub fn hook_for(mut self, program: &Path, daemons: usize) -> Self {
        self.hook = Some((program.to_owned(), daemons));
        self
    }

    /// Starts everything, and waits until every scope is healthy and every database
    /// knows every worker.
    pub fn start(self) -> Result<Lab> {
        let began = Instant::now();
        let installation = Installation::find()?;
        let program = self.version.program()?;
        let citus = installation.has_citus && !self.stand_in && !stand_in_forced();
        let sandbox = Sandbox::new()?;
        let hook = match &self.hook {
            Some((citus_sync, daemons)) => {
                Some(Hook::prepare(&sandbox, citus_sync, &program, *daemons)?)
            }
            None => None,
        };
        let etcd = Etcd::start(&sandbox)?;
        let start = Start {
            sandbox: &sandbox,
            etcd: &etcd,
            hook: hook.as_ref(),
            program,
            installation,
            citus,
        };
        let scopes: Result<Vec<Scope>> = (0..=self.workers)
            .map(|group| self.start_scope(group, &start))
            .collect();
        let mut lab = Lab {
            flavour: Flavour::StandIn,
            version: self.version,
            databases: self.databases,
            took: Duration::ZERO,
            scopes: scopes?,
            hook,
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

    /// Starts the members of one scope. Does not wait.
    fn start_scope(&self, group: u32, start: &Start<'_>) -> Result<Scope> {
        let name = scope_name(group);
        let hook = start.hook.map(|hook| hook.line(&name));
        let before_stop = hook.as_ref().or(self.before_stop.as_ref());
        let mut members = Vec::new();
        for number in 1..=self.members {
            let record = MemberRecord {
                name: format!("{name}-{number}"),
                port: start.sandbox.port()?,
                api_port: start.sandbox.port()?,
            };
            let member = Member::new(start.sandbox, record, start.program.clone())?;
            member.write_configuration(&configuration(&MemberPlan {
                scope: &name,
                name: member.name(),
                port: member.port(),
                api_port: member.api_port(),
                folder: member.folder(),
                etcd_ports: &[start.etcd.port()],
                namespace: NAMESPACE,
                installation: &start.installation,
                citus: start.citus,
                synchronous: self.synchronous,
                settings: &self.settings,
                before_stop: before_stop.map(String::as_str),
            })?)?;
            member.start()?;
            members.push(member);
        }
        Ok(Scope {
            name,
            group,
            namespace: NAMESPACE.into(),
            members,
            synchronous: self.synchronous,
            etcd: start.etcd.kv().clone(),
        })
    }
}

/// What all scopes of a new lab share.
struct Start<'a> {
    sandbox: &'a Sandbox,
    etcd: &'a Etcd,
    hook: Option<&'a Hook>,
    /// Patroni's program.
    program: PathBuf,
    installation: Installation,
    citus: bool,
}

/// `cn` for group 0, `wk1`, `wk2`, … for the workers.
fn scope_name(group: u32) -> String {
    if group == 0 {
        COORDINATOR.into()
    } else {
        format!("wk{group}")
    }
}
