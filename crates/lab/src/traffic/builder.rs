//! How the application is configured. In: a lab, and what the application is like. Out: a
//! client for each session, and the tables they need.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use super::Traffic;
use super::client::{ALL_SHARDS, Client, Task};
use super::entry_node::EntryNode;
use super::ledger::Ledger;
use super::shared::Load;
use super::statements::{count, create_marks, create_tables, keys_of};
use super::stream::{Kind, Stream};
use crate::cluster::Lab;
use crate::session::Protocol;

/// Keys of one writer.
const KEYS: usize = 4;

/// What the application is like.
#[derive(Debug)]
pub struct TrafficBuilder<'a> {
    lab: &'a Lab,
    load: Load,
    databases: Vec<String>,
    protocols: Vec<Protocol>,
    in_turn: bool,
    entry_nodes: Vec<EntryNode>,
    groups: Vec<u32>,
    multi_shard: usize,
    /// Ids of writers, and numbers of writes, from here on were never used.
    unused: i64,
}

impl Traffic {
    /// Traffic to configure: its entry nodes, databases and protocols.
    pub fn builder(lab: &Lab) -> TrafficBuilder<'_> {
        TrafficBuilder::new(lab)
    }

    /// Prepared statements for every worker group through the coordinator's leader, which each new
    /// connection looks up in etcd.
    pub fn start(lab: &Lab, database: &str, load: Load) -> Result<Self> {
        Self::builder(lab).databases([database]).load(load).start()
    }

    /// Prepared statements for every worker group through one node's port.
    pub fn start_at(lab: &Lab, port: u16, database: &str, load: Load) -> Result<Self> {
        let builder = Self::builder(lab).databases([database]).load(load);
        builder.only_through_port(port).start()
    }
}

impl<'a> TrafficBuilder<'a> {
    pub(super) fn new(lab: &'a Lab) -> Self {
        Self {
            lab,
            load: Load::default(),
            databases: lab.databases().to_vec(),
            protocols: vec![Protocol::Prepared],
            in_turn: false,
            entry_nodes: vec![EntryNode::leader_of(lab.coordinator())],
            groups: lab.workers().iter().map(crate::Scope::group).collect(),
            multi_shard: 0,
            unused: 0,
        }
    }

    /// How much is sent for each group, entry node, database and protocol.
    #[must_use]
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// The databases; by default all of the lab's.
    #[must_use]
    pub fn databases<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.databases = names.into_iter().map(Into::into).collect();
        self
    }

    /// The protocols; by default prepared statements alone.
    #[must_use]
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Protocol>) -> Self {
        self.protocols = protocols.into_iter().collect();
        self
    }

    /// Each entry node and database gets one of the protocols, in turn, rather than every protocol.
    #[must_use]
    pub fn in_turn(mut self) -> Self {
        self.in_turn = true;
        self
    }

    /// The groups whose rows are used; by default all worker groups.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.groups = groups.into_iter().collect();
        self
    }

    /// Adds this many clients that write all shards at once, and as many that read all shards, for
    /// each entry node, database and protocol. Their statements reach every node, so they pause ten
    /// times as long. Citus only.
    #[must_use]
    pub fn multi_shard(mut self, clients: usize) -> Self {
        self.multi_shard = clients;
        self
    }

    /// Adds the leader of this worker scope as an entry node. It must have the metadata.
    pub fn also_through(mut self, scope: &str) -> Result<Self> {
        let scope = self.lab.scope(scope)?;
        for database in &self.databases {
            ensure!(
                self.lab.entry_nodes(database)?.contains(&scope.group()),
                "{} is no entry node of {database}: it does not have the metadata",
                scope.name()
            );
        }
        self.entry_nodes.push(EntryNode::leader_of(scope));
        Ok(self)
    }

    /// Uses this port as the only entry node, instead of the coordinator's leader.
    #[must_use]
    pub fn only_through_port(mut self, port: u16) -> Self {
        self.entry_nodes = vec![EntryNode::port(port)];
        self
    }

    /// Starts the clients, and waits until each of them was served.
    pub fn start(mut self) -> Result<Traffic> {
        let flavour = self.lab.flavour().clone();
        ensure!(
            self.multi_shard == 0 || flavour.is_citus(),
            "the stand-in plans no multi-shard statements"
        );
        self.unused = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
        let mut clients = Vec::new();
        for database in self.databases.clone() {
            let mut sql = self.lab.coordinator().connect(&database)?;
            create_tables(&mut sql, &flavour)
                .with_context(|| format!("the application's tables in {database}"))?;
            for group in self.groups.clone() {
                self.add_group(&mut clients, &mut sql, &database, group)?;
            }
            if self.multi_shard > 0 {
                self.add_multi_shard(&mut clients, &mut sql, &database)?;
            }
        }
        Traffic::run(flavour, self.load, clients)
    }

    fn add_group(
        &mut self,
        clients: &mut Vec<Client>,
        sql: &mut postgres::Client,
        database: &str,
        group: u32,
    ) -> Result<()> {
        let Load {
            writers, readers, ..
        } = self.load;
        let sorts = self.sorts(database);
        // Each writer has keys of its own, because the stand-in keeps only the last write of a key.
        // Readers without a writer have keys that no client writes.
        let ledgers = sorts.len() * writers.max(1);
        let keys = keys_of(sql, group, KEYS * ledgers)?;
        let mut keys = keys.chunks(KEYS);
        for (entry_node, protocol) in sorts {
            let ledgers: Vec<Arc<Ledger>> = keys
                .by_ref()
                .take(writers.max(1))
                .map(|keys| self.ledger(keys.to_vec()))
                .collect();
            let mut add = |kind, number: usize| {
                let ledger = Arc::clone(&ledgers[number % ledgers.len()]);
                let stream = stream(kind, protocol, &entry_node, database, Some(group));
                let task = match kind {
                    Kind::Write => Task::Write(ledger),
                    _ => Task::Read(ledger),
                };
                clients.push(client(stream, &entry_node, task, self.load.pause));
            };
            (0..writers).for_each(|number| add(Kind::Write, number));
            (0..readers).for_each(|number| add(Kind::Read, number));
        }
        Ok(())
    }

    fn add_multi_shard(
        &mut self,
        clients: &mut Vec<Client>,
        sql: &mut postgres::Client,
        database: &str,
    ) -> Result<()> {
        let rows = count(sql)?;
        let pause = self.load.pause * ALL_SHARDS;
        for (entry_node, protocol) in self.sorts(database) {
            for _ in 0..self.multi_shard {
                let read = stream(Kind::ReadAll, protocol, &entry_node, database, None);
                clients.push(client(read, &entry_node, Task::Count(rows), pause));
                let write = stream(Kind::WriteAll, protocol, &entry_node, database, None);
                let ledger = self.ledger(vec![0]);
                create_marks(sql, ledger.writer)?;
                clients.push(client(write, &entry_node, Task::Write(ledger), pause));
            }
        }
        Ok(())
    }

    /// Each entry node with every protocol, or with the one whose turn it is.
    fn sorts(&self, database: &str) -> Vec<(EntryNode, Protocol)> {
        let first = self.databases.iter().position(|name| name == database);
        let mut sorts = Vec::new();
        for (turn, entry_node) in (first.unwrap_or(0)..).zip(&self.entry_nodes) {
            let protocols = &self.protocols;
            let own = match protocols.get(turn % protocols.len().max(1)) {
                Some(protocol) if self.in_turn => std::slice::from_ref(protocol),
                _ => protocols,
            };
            sorts.extend(own.iter().map(|protocol| (entry_node.clone(), *protocol)));
        }
        sorts
    }

    fn ledger(&mut self, keys: Vec<i64>) -> Arc<Ledger> {
        self.unused += 1;
        Arc::new(Ledger::new(self.unused, keys, self.unused))
    }
}

fn stream(
    kind: Kind,
    protocol: Protocol,
    entry_node: &EntryNode,
    database: &str,
    group: Option<u32>,
) -> Stream {
    Stream {
        kind,
        protocol,
        entry_node: Arc::clone(entry_node.name()),
        database: database.into(),
        group,
    }
}

fn client(stream: Stream, entry_node: &EntryNode, task: Task, pause: Duration) -> Client {
    Client {
        pause,
        stream: Arc::new(stream),
        entry_node: entry_node.clone(),
        task,
        progress: Arc::default(),
    }
}
