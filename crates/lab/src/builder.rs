//! A lab to be. In: how many of what, and how they are configured. Out: all of it
//! running, healthy and formed.

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

/// On two cores all members of a big lab start at once: give them time.
const HEALTHY: Duration = Duration::from_secs(150);

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
    /// The program, and how many daemons it asks.
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

    /// `citus-sync hold`, of this program, as the script that Patroni runs before it stops
    /// PostgreSQL. It asks the daemon that listens at [`Hook::listen`]. Patroni 3.0.3 or later:
    /// Debian 12's is too old.
    #[must_use]
    pub fn hook(self, program: &Path) -> Self {
        self.hook_for(program, 1)
    }

    /// [`LabBuilder::hook`] that asks several daemons, at [`Hook::ports`].
    #[must_use]
    pub fn hook_for(mut self, program: &Path, daemons: usize) -> Self {
        self.hook = Some((program.to_owned(), daemons));
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
        let hook = match &self.hook {
            Some((citus_sync, daemons)) => {
                Some(Hook::prepare(&sandbox, citus_sync, &program, *daemons)?)
            }
            None => None,
        };
        let etcd = Etcd::start(&sandbox)?;

        let mut scopes = Vec::new();
        for group in 0..=self.workers {
            let name = scope_name(group);
            let before_stop = hook.as_ref().map(|hook| hook.line(&name));
            let before_stop = before_stop.as_ref().or(self.before_stop.as_ref());
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
                    before_stop: before_stop.map(String::as_str),
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
            hook,
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
