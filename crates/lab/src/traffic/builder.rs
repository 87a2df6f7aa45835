//! Traffic to be. In: a lab, and what the application is like. Out: a client for
//! each session, and the tables they need.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use super::book::Book;
use super::client::{ALL_SHARDS, Client, Task};
use super::door::Door;
use super::statements::{count, create_marks, create_tables, keys_of};
use super::stream::{Kind, Protocol, Stream};
use super::{Load, Traffic};
use crate::cluster::Lab;

/// Keys that one writer goes through.
const KEYS: usize = 4;

/// What the application is like.
#[derive(Debug)]
pub struct TrafficBuilder<'a> {
    lab: &'a Lab,
    load: Load,
    databases: Vec<String>,
    protocols: Vec<Protocol>,
    in_turn: bool,
    doors: Vec<Door>,
    groups: Vec<u32>,
    multi_shard: usize,
    /// Ids of writers, and numbers of writes, that nobody has used before.
    unused: i64,
}

impl<'a> TrafficBuilder<'a> {
    pub(super) fn new(lab: &'a Lab) -> Self {
        Self {
            lab,
            load: Load::default(),
            databases: lab.databases().to_vec(),
            protocols: vec![Protocol::Prepared],
            in_turn: false,
            doors: vec![Door::leader_of(lab.coordinator())],
            groups: lab.workers().iter().map(crate::Scope::group).collect(),
            multi_shard: 0,
            unused: 0,
        }
    }

    /// How much is sent for each group, door, database and protocol.
    #[must_use]
    pub fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// All of the lab's databases unless told otherwise.
    #[must_use]
    pub fn databases<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.databases = names.into_iter().map(Into::into).collect();
        self
    }

    /// Prepared statements alone unless told otherwise.
    #[must_use]
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Protocol>) -> Self {
        self.protocols = protocols.into_iter().collect();
        self
    }

    /// One protocol for each door and database, in turn, rather than each protocol for each of them.
    #[must_use]
    pub fn in_turn(mut self) -> Self {
        self.in_turn = true;
        self
    }

    /// Rows of all worker groups unless told otherwise.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.groups = groups.into_iter().collect();
        self
    }

    /// Beside those of the single groups, this many clients that write all shards at once and as
    /// many that read all, for each door, database and protocol. As they concern every node, they
    /// pause ten times as long. Citus only.
    #[must_use]
    pub fn multi_shard(mut self, clients: usize) -> Self {
        self.multi_shard = clients;
        self
    }

    /// Also through the leader of this worker scope. It must have the metadata.
    pub fn also_through(mut self, scope: &str) -> Result<Self> {
        let scope = self.lab.scope(scope)?;
        for database in &self.databases {
            ensure!(
                self.lab.doors(database)?.contains(&scope.group()),
                "{} is no door to {database}: it does not have the metadata",
                scope.name()
            );
        }
        self.doors.push(Door::leader_of(scope));
        Ok(self)
    }

    /// Through this port instead of through the coordinator's leader.
    #[must_use]
    pub fn only_through_port(mut self, port: u16) -> Self {
        self.doors = vec![Door::port(port)];
        self
    }

    /// Starts it, and waits until every client was served.
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
        // Each writer has keys of its own, as in the stand-in a key keeps its last write only. Readers
        // without a writer have keys that nobody writes.
        let books = sorts.len() * writers.max(1);
        let keys = keys_of(sql, group, KEYS * books)?;
        let mut keys = keys.chunks(KEYS);
        for (door, protocol) in sorts {
            let books: Vec<Arc<Book>> = keys
                .by_ref()
                .take(writers.max(1))
                .map(|keys| self.book(keys.to_vec()))
                .collect();
            let mut add = |kind, number: usize| {
                let book = Arc::clone(&books[number % books.len()]);
                let stream = stream(kind, protocol, &door, database, Some(group));
                let task = match kind {
                    Kind::Write => Task::Write(book),
                    _ => Task::Read(book),
                };
                clients.push(client(stream, &door, task, self.load.pause));
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
        for (door, protocol) in self.sorts(database) {
            for _ in 0..self.multi_shard {
                let read = stream(Kind::ReadAll, protocol, &door, database, None);
                clients.push(client(read, &door, Task::Count(rows), pause));
                let write = stream(Kind::WriteAll, protocol, &door, database, None);
                let book = self.book(vec![0]);
                create_marks(sql, book.writer)?;
                clients.push(client(write, &door, Task::Write(book), pause));
            }
        }
        Ok(())
    }

    /// Each door with each protocol, or with the one whose turn it is.
    fn sorts(&self, database: &str) -> Vec<(Door, Protocol)> {
        let first = self.databases.iter().position(|name| name == database);
        let mut sorts = Vec::new();
        for (turn, door) in (first.unwrap_or(0)..).zip(&self.doors) {
            let protocols = &self.protocols;
            let own = match protocols.get(turn % protocols.len().max(1)) {
                Some(protocol) if self.in_turn => std::slice::from_ref(protocol),
                _ => protocols,
            };
            sorts.extend(own.iter().map(|protocol| (door.clone(), *protocol)));
        }
        sorts
    }

    fn book(&mut self, keys: Vec<i64>) -> Arc<Book> {
        self.unused += 1;
        Arc::new(Book::new(self.unused, keys, self.unused))
    }
}

fn stream(
    kind: Kind,
    protocol: Protocol,
    door: &Door,
    database: &str,
    group: Option<u32>,
) -> Stream {
    Stream {
        kind,
        protocol,
        door: Arc::clone(door.name()),
        database: database.into(),
        group,
    }
}

fn client(stream: Stream, door: &Door, task: Task, pause: Duration) -> Client {
    Client {
        pause,
        stream: Arc::new(stream),
        door: door.clone(),
        task,
        progress: Arc::default(),
    }
}
