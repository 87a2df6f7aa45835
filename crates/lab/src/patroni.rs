//! Patroni: which version, where its program is, and its configuration. In: a
//! member's place in the lab. Out: the command to run, and a `patroni.yml`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::installation::Installation;
use crate::server::{WAL_SEGMENT_MB, base_settings, hba_lines};
use crate::venv;

/// Which Patroni a lab runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Debian's (3.0 in bookworm), which still writes the role `master`.
    #[default]
    Debian,
    /// 4.1 from the Python package index, in a virtual environment.
    V4_1,
}

impl Version {
    /// The version in `LAB_PATRONI` (`3` or `4`), or Debian's.
    pub fn from_environment() -> Result<Self> {
        match std::env::var("LAB_PATRONI") {
            Ok(word) if !word.is_empty() => word.parse(),
            _ => Ok(Self::Debian),
        }
    }

    /// The program, installed if need be (4.1 only).
    pub(crate) fn program(self) -> Result<PathBuf> {
        match self {
            Self::Debian => {
                let program = Path::new("/usr/bin/patroni");
                if !program.exists() {
                    bail!("no {}: `apt-get install patroni`", program.display());
                }
                Ok(program.to_owned())
            }
            Self::V4_1 => venv::patroni(),
        }
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "3" | "debian" => Ok(Self::Debian),
            "4" => Ok(Self::V4_1),
            other => bail!("the lab has no Patroni {other:?}: 3 (Debian's) or 4 (4.1)"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian => "Debian's Patroni",
            Self::V4_1 => "Patroni 4.1",
        })
    }
}

/// Patroni's timing. The leader key expires `ttl` after the leader's death;
/// Patroni keeps to `loop_wait + 2 × retry_timeout ≤ ttl` and, from 3.1 on, to
/// a `ttl` of at least 20 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How long the leader key lives without renewal.
    pub ttl: Duration,
    /// The pause between two rounds of a member.
    pub loop_wait: Duration,
    /// How long a member retries while etcd does not answer.
    pub retry_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(20),
            loop_wait: Duration::from_secs(5),
            retry_timeout: Duration::from_secs(5),
        }
    }
}

impl Timing {
    pub(crate) fn as_config(&self) -> Value {
        json!({
            "ttl": self.ttl.as_secs(),
            "loop_wait": self.loop_wait.as_secs(),
            "retry_timeout": self.retry_timeout.as_secs(),
        })
    }
}

/// What a member's configuration is made from.
pub(crate) struct MemberPlan<'a> {
    pub(crate) scope: &'a str,
    pub(crate) name: &'a str,
    pub(crate) port: u16,
    pub(crate) api_port: u16,
    pub(crate) folder: &'a Path,
    pub(crate) etcd_ports: &'a [u16],
    pub(crate) namespace: &'a str,
    pub(crate) installation: &'a Installation,
    pub(crate) citus: bool,
    pub(crate) synchronous: bool,
    pub(crate) settings: &'a [(String, String)],
    pub(crate) before_stop: Option<&'a str>,
}

/// The text of `patroni.yml`. It is JSON, which is YAML too.
pub(crate) fn configuration(plan: &MemberPlan<'_>) -> Result<String> {
    let settings: Map<String, Value> = base_settings(plan.citus)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .chain(
            plan.settings
                .iter()
                .map(|(name, value)| (name.clone(), json!(value))),
        )
        .collect();
    let etcd: Vec<String> = plan
        .etcd_ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let api = format!("127.0.0.1:{}", plan.api_port);
    let config = json!({
        "scope": plan.scope,
        "namespace": plan.namespace,
        "name": plan.name,
        "restapi": {"listen": api, "connect_address": api},
        "etcd3": {"hosts": etcd},
        "bootstrap": bootstrap(plan, &settings),
        "postgresql": postgresql(plan, &settings),
        "watchdog": {"mode": "off"},
    });
    serde_json::to_string_pretty(&config).context("writing a Patroni configuration")
}

/// The settings that Patroni writes to etcd when the cluster forms.
fn bootstrap(plan: &MemberPlan<'_>, settings: &Map<String, Value>) -> Value {
    json!({
        "dcs": {
            // Short rounds while the cluster forms: a member that waits for another looks once
            // in each round. The lab sets the wanted timing afterwards.
            "ttl": 20, "loop_wait": 1, "retry_timeout": 5,
            "synchronous_mode": plan.synchronous,
            "maximum_lag_on_failover": 1_048_576,
            "postgresql": {
                "use_pg_rewind": true,
                "use_slots": true,
                "parameters": settings,
            },
        },
        "initdb": [
            {"encoding": "UTF8"}, {"locale": "C.UTF-8"}, {"auth": "trust"},
            {"wal-segsize": WAL_SEGMENT_MB}, "no-sync",
        ],
    })
}

/// The settings of the member's own PostgreSQL.
fn postgresql(plan: &MemberPlan<'_>, settings: &Map<String, Value>) -> Value {
    let address = format!("127.0.0.1:{}", plan.port);
    let mut config = json!({
        "listen": address,
        "connect_address": address,
        "data_dir": plan.folder.join("data"),
        "bin_dir": plan.installation.bin,
        "pgpass": plan.folder.join("pgpass"),
        "authentication": {
            "superuser": {"username": "postgres"},
            "replication": {"username": "postgres"},
        },
        "pg_hba": hba_lines(),
        "basebackup": [{"checkpoint": "fast"}, "no-sync"],
        // Here too: some of these Patroni reads only from the local configuration.
        "parameters": settings,
    });
    if let Some(script) = plan.before_stop {
        config["before_stop"] = json!(script);
    }
    config
}
