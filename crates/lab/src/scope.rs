//! One Patroni cluster of the lab. In: its members and etcd. Out: its leader by
//! etcd's key, and what an operator or a fault does to it: switchover, restart,
//! crash, freeze, revival.

use std::time::Duration;

use anyhow::{Context, Result};
use postgres::Client;
use serde_json::{Value, json};

use crate::gateway::{Gateway, KeyValue};
use crate::member::Member;
use crate::wait::{wait_for, wait_until, within};

/// How long Patroni may refuse a restart because it is busy.
const FREE: Duration = Duration::from_secs(30);
/// A healthy server answers a simple query sooner.
const ANSWER: Duration = Duration::from_secs(3);

/// A scope: a coordinator's or a worker's Patroni cluster.
#[derive(Debug)]
pub struct Scope {
    pub(crate) name: String,
    pub(crate) group: u32,
    pub(crate) namespace: String,
    pub(crate) members: Vec<Member>,
    pub(crate) synchronous: bool,
    pub(crate) etcd: Gateway,
}

impl Scope {
    /// The name, for example `wk1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its `groupid` in `pg_dist_node`; 0 for the coordinator.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// All members, running or not.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member named `name`.
    pub fn member(&self, name: &str) -> Result<&Member> {
        self.members
            .iter()
            .find(|member| member.name() == name)
            .with_context(|| format!("scope {} has no member {name:?}", self.name))
    }

    /// One of the scope's keys, `leader` for example.
    pub fn key(&self, field: &str) -> Result<Option<KeyValue>> {
        self.etcd.get(&self.path(field))
    }

    /// The full path of one of the scope's keys.
    pub fn path(&self, field: &str) -> String {
        format!("{}{}/{field}", self.namespace, self.name)
    }

    /// The member that holds the leader key, if any.
    pub fn try_leader(&self) -> Result<Option<&Member>> {
        match self.key("leader")? {
            Some(found) => self.member(&found.value).map(Some),
            None => Ok(None),
        }
    }

    /// The member that holds the leader key.
    pub fn leader(&self) -> Result<&Member> {
        self.try_leader()?
            .with_context(|| format!("scope {} has no leader now", self.name))
    }

    /// The leader's address: `127.0.0.1:port`.
    pub fn leader_address(&self) -> Result<String> {
        Ok(self.leader()?.address())
    }

    /// The other members.
    pub fn replicas(&self) -> Result<Vec<&Member>> {
        let leader = self.leader()?.name();
        Ok(self
            .members
            .iter()
            .filter(|member| member.name() != leader)
            .collect())
    }

    /// A superuser's connection to the leader.
    pub fn connect(&self, database: &str) -> Result<Client> {
        self.leader()?.connect(database)
    }

    /// Asks Patroni for a planned switchover and waits for its answer, which comes when the new
    /// leader has the key.
    pub fn switchover(&self, candidate: Option<&str>) -> Result<String> {
        let leader = self.leader()?;
        let mut request = json!({"leader": leader.name()});
        if let Some(candidate) = candidate {
            request["candidate"] = json!(candidate);
        }
        leader
            .rest("POST", "/switchover", &request)
            .with_context(|| format!("switchover of scope {}", self.name))
    }

    /// Has Patroni restart the leader's PostgreSQL, and waits for it. Right after a promotion Patroni
    /// refuses for a moment ("promote already in progress"); then the request is repeated.
    pub fn restart(&self) -> Result<String> {
        let what = format!("Patroni to restart the leader of scope {}", self.name);
        let outcome = wait_until(&what, FREE, || {
            match self.leader()?.rest("POST", "/restart", &json!({})) {
                Err(error) if error.to_string().contains("in progress") => Err(error),
                outcome => Ok(Some(outcome)),
            }
        })?;
        outcome.with_context(|| format!("restart of scope {}", self.name))
    }

    /// Changes Patroni's dynamic configuration, for example
    /// `{"pause": true}`.
    pub fn configure(&self, change: &Value) -> Result<()> {
        self.leader()?
            .rest("PATCH", "/config", change)
            .map(drop)
            .with_context(|| format!("configuration of scope {}", self.name))
    }

    /// Kills the leader's Patroni and PostgreSQL with SIGKILL. Returns the killed member. The leader
    /// key stays until its lease expires.
    pub fn crash(&self) -> Result<&Member> {
        let leader = self.leader()?;
        leader.crash()?;
        Ok(leader)
    }

    /// Ends the leader key's lease now, as its expiry would after `ttl`, which is 20 s or more. Only
    /// after the leader's death: a living one would take the key again.
    pub fn expire_leader(&self) -> Result<()> {
        if let Some(key) = self.key("leader")? {
            self.etcd.revoke_lease(key.lease)?;
        }
        Ok(())
    }

    /// Suspends the leader's Patroni and PostgreSQL with SIGSTOP. Returns it, to be
    /// [thawed](Member::thaw).
    pub fn freeze(&self) -> Result<&Member> {
        let leader = self.leader()?;
        leader.freeze();
        Ok(leader)
    }

    /// Makes the leader look like one whose host is gone. Returns it, to
    /// [reappear](Member::reappear).
    pub fn vanish(&self) -> Result<&Member> {
        let leader = self.leader()?;
        leader.vanish()?;
        Ok(leader)
    }

    /// Thaws every member.
    pub fn thaw(&self) {
        self.members.iter().for_each(Member::thaw);
    }

    /// Starts every member that is not running. Returns their names.
    pub fn revive(&self) -> Result<Vec<&str>> {
        let mut revived = Vec::new();
        for member in self.members.iter().filter(|member| !member.is_running()) {
            member.start()?;
            revived.push(member.name());
        }
        Ok(revived)
    }

    /// Waits until a member other than `former` holds the leader key and takes writes.
    pub fn wait_new_leader(&self, former: &str, deadline: Duration) -> Result<&Member> {
        let what = format!(
            "a writable leader of scope {} other than {former}",
            self.name
        );
        wait_until(&what, deadline, || {
            let Some(leader) = self.try_leader()?.filter(|leader| leader.name() != former) else {
                return Ok(None);
            };
            Ok(is_writable(leader)?.then_some(leader))
        })
    }

    /// Waits until the scope is healthy: the leader takes writes, every other member streams from it,
    /// there is a synchronous standby if there should be one, and no request is open.
    pub fn wait_healthy(&self, deadline: Duration) -> Result<()> {
        let what = format!("scope {} to be healthy", self.name);
        wait_for(&what, deadline, || self.is_healthy())
    }

    fn is_healthy(&self) -> Result<bool> {
        let leader = self.leader()?;
        let mut client = leader.connect("postgres")?;
        let (in_recovery, streaming) = within("asking the leader", ANSWER, move || {
            let row = client.query_one(
                "SELECT pg_is_in_recovery(), \
                        (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming')",
                &[],
            )?;
            Ok((row.get::<_, bool>(0), row.get::<_, i64>(1)))
        })?;
        if in_recovery {
            anyhow::bail!("leader {} is still in recovery", leader.name());
        }
        let replicas = self.members.len() - 1;
        if usize::try_from(streaming)? < replicas {
            anyhow::bail!(
                "{streaming} of {replicas} replicas stream from {}",
                leader.name()
            );
        }
        if self.synchronous && replicas > 0 {
            let sync: Value = match self.key("sync")? {
                Some(key) => serde_json::from_str(&key.value).unwrap_or(Value::Null),
                None => Value::Null,
            };
            let standby = sync["sync_standby"].as_str().unwrap_or("");
            if sync["leader"] != json!(leader.name()) || standby.is_empty() {
                anyhow::bail!("no synchronous standby yet: /sync says {sync}");
            }
        }
        let request = self
            .key("failover")?
            .map(|key| key.value)
            .unwrap_or_default();
        Ok(request.is_empty() || request == "{}")
    }
}

fn is_writable(member: &Member) -> Result<bool> {
    let mut client = member.connect("postgres")?;
    within("asking the leader", ANSWER, move || {
        Ok(client
            .query_one("SELECT NOT pg_is_in_recovery()", &[])?
            .get(0))
    })
}
