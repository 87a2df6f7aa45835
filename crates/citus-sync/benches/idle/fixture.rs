//! Many worker scopes on three servers: etcd, a coordinator, and one worker
//! that answers at every address of 127.0.0.0/8, so that each scope's leader
//! has an address of its own.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use lab::{Etcd, Postgres, Sandbox};

use super::support::keys;
use super::support::machine::Machine;
use super::writer::Heartbeat;

/// The database on both servers.
pub(crate) const DATABASE: &str = "postgres";

/// Members of a scope: a leader and two replicas.
const MEMBERS: usize = 3;

/// The scopes, their rows, and the servers. Fields are dropped in this order.
pub(crate) struct Fixture {
    scopes: u32,
    /// The etcd.
    pub(crate) etcd: Etcd,
    coordinator: Postgres,
    worker: Postgres,
    flavour: String,
    /// Holds it all.
    pub(crate) sandbox: Sandbox,
}

impl Fixture {
    /// Starts the servers, adds the rows, writes the keys.
    pub(crate) fn prepare(scopes: u32) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let etcd = Etcd::start(&sandbox)?;
        let coordinator = Postgres::builder(&sandbox, "cn").stand_in().start()?;
        let flavour = coordinator.install_citus(DATABASE)?.to_string();
        let worker = Postgres::builder(&sandbox, "worker")
            .stand_in()
            // Every address of the loopback network; pg_hba.conf lets only 127.0.0.1 in, which is
            // where connections to any of them come from.
            .setting("listen_addresses", "0.0.0.0")
            .setting("max_connections", "1200")
            .setting("max_locks_per_transaction", "64")
            .setting("max_wal_senders", "0")
            .setting("wal_level", "minimal")
            .setting("autovacuum", "off")
            .start()?;
        let fixture = Self {
            scopes,
            etcd,
            coordinator,
            worker,
            flavour,
            sandbox,
        };
        fixture.add_rows()?;
        fixture.write_keys()?;
        Ok(fixture)
    }

    fn add_rows(&self) -> Result<()> {
        let port = self.worker.port();
        let mut insert = format!(
            "INSERT INTO pg_dist_node (groupid, nodename, nodeport) VALUES (0, '127.0.0.1', {})",
            self.coordinator.port()
        );
        for group in 1..=self.scopes {
            let _ = write!(insert, ", ({group}, '{}', {port})", address(group, 0));
        }
        let mut sql = self.coordinator.connect(DATABASE)?;
        sql.batch_execute(&insert).context("writing the rows")
    }

    fn write_keys(&self) -> Result<()> {
        let kv = self.etcd.kv();
        let config = r#"{"ttl":30,"loop_wait":10,"retry_timeout":10,"maximum_lag_on_failover":1048576,"postgresql":{"use_pg_rewind":true,"parameters":{"max_connections":100}}}"#;
        let mut scopes = vec!["cn".to_owned()];
        scopes.extend((1..=self.scopes).map(|group| format!("wk{group}")));
        for scope in &scopes {
            let server = if scope == "cn" {
                &self.coordinator
            } else {
                &self.worker
            };
            kv.put(&format!("/service/{scope}/initialize"), &server.system()?)?;
            kv.put(&format!("/service/{scope}/config"), config)?;
        }
        for heartbeat in self.heartbeats() {
            let (key, value) = heartbeat.next();
            kv.put(&key, &value)?;
        }
        for scope in &scopes {
            kv.put(&keys::leader_key(scope), &format!("{scope}-0"))?;
        }
        Ok(())
    }

    /// What Patroni rewrites in every loop: the members of all scopes, and each scope's `/status`.
    /// Neighbours in the list are of different scopes.
    pub(crate) fn heartbeats(&self) -> Vec<Heartbeat> {
        let mut heartbeats = Vec::new();
        for number in 0..=MEMBERS {
            for group in 0..=self.scopes {
                let scope = if group == 0 {
                    "cn".to_owned()
                } else {
                    format!("wk{group}")
                };
                heartbeats.push(if number == MEMBERS {
                    let members = (0..MEMBERS).map(|n| format!("{scope}-{n}")).collect();
                    Heartbeat::Status { scope, members }
                } else {
                    let name = format!("{scope}-{number}");
                    let (host, port) = match (group, number) {
                        (0, 0) => ("127.0.0.1".to_owned(), self.coordinator.port()),
                        _ => (address(group, number), self.worker.port()),
                    };
                    Heartbeat::Member {
                        scope,
                        name,
                        host,
                        port,
                        primary: number == 0,
                    }
                });
            }
        }
        heartbeats
    }

    /// What it runs on.
    pub(crate) fn machine(&self) -> Result<Machine> {
        let mut sql = self.coordinator.connect(DATABASE)?;
        Machine::look(
            &mut sql,
            &self.etcd.endpoint(),
            self.sandbox.root(),
            self.flavour.clone(),
        )
    }

    /// Sessions of the daemon on the coordinator and on the worker.
    pub(crate) fn connections(&self) -> Result<(i64, i64)> {
        let count = |server: &Postgres| -> Result<i64> {
            let count =
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'citus-sync'";
            Ok(server.connect(DATABASE)?.query_one(count, &[])?.get(0))
        };
        Ok((count(&self.coordinator)?, count(&self.worker)?))
    }
}

/// A loopback address for each member of each scope.
fn address(group: u32, member: usize) -> String {
    format!("127.{}.{}.{}", member + 1, group / 200, group % 200 + 1)
}
