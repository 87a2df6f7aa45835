//! A small world to decide in: three servers with logs, what etcd says of them, a coordinator
//! with two databases, clients that write wherever a row points, and a keeper that carries out
//! what is decided and knows only what it was told.
//!
//! The rules are asserted here from the world's own truth, which neither the table nor the checker
//! can see ([`carry`] asserts them over each step that is carried out).
//!
//! What the world is kinder in than the real one: a session that closes, a member that is back,
//! and a key of etcd's are known at once; what a member answers, how far it is, and what the
//! coordinator says come when they come, and may be old by then.

mod carry;
mod ends;
mod event;
mod keeper;
mod patroni;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use dcs_watch::ScopeView;

use super::super::*;
use super::builders::{Story, addr, row, secondary, versioned};

pub(super) use self::event::Event;
use self::keeper::Keeper;
use self::server::{Entry, Server};

pub(super) const HOSTS: [&str; 3] = ["pg1", "pg2", "pg3"];
pub(super) const DATABASES: [&str; 2] = ["app", "second"];

/// `policy.hold_timeout`, in milliseconds.
pub(super) const HOLD_TIMEOUT: u64 = 30_000;

/// How often all have to answer until a group that is well is settled.
const ROUNDS: usize = 8;

/// Patroni's `synchronous_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synchronous {
    Off,
    On,
    /// One of two will do.
    Quorum,
}

/// One database of the coordinator.
#[derive(Clone, Debug)]
struct Database {
    rows: Vec<Row>,
    /// What the rows were before the last change, which a crash of the coordinator may undo.
    before: Option<Vec<Row>>,
    /// We have a session, and have read the rows.
    connected: bool,
    /// Every statement that changes something fails.
    failing: bool,
    held: Held,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    synchronous: Synchronous,
    servers: BTreeMap<&'static str, Server>,
    /// Whose log is what happened.
    last_primary: &'static str,
    /// What etcd holds.
    etcd: ScopeView,
    revision: i64,
    etcd_is_silent: bool,
    /// Milliseconds since the beginning.
    clock: u64,
    databases: BTreeMap<&'static str, Database>,
    coordinator_is_up: bool,
    /// Writes that a client was told to be there.
    acknowledged: BTreeSet<u32>,
    writes: u32,
    liberties: Liberties,
    keeper: Keeper,
    /// What was carried out, in words.
    told: Vec<String>,
}

impl World {
    /// pg1 leads, pg2 is synchronous to it unless nobody is, pg3 follows; the second database has
    /// rows for its standbys as well.
    pub(super) fn new(synchronous: Synchronous, liberties: Liberties) -> Self {
        let story = Story::new();
        let mut etcd = story.view;
        let mut servers: BTreeMap<&'static str, Server> =
            HOSTS.iter().map(|host| (*host, Server::new())).collect();
        servers.get_mut("pg1").expect("pg1").start(true);
        etcd.leader = Some(versioned("pg1".to_owned(), 40));
        let database = |rows: &[Row]| Database {
            rows: rows.to_vec(),
            before: None,
            connected: true,
            failing: false,
            held: Held::No,
        };
        let other = row(3, 2, "other");
        let app = database(&[row(2, 1, "pg1"), other.clone()]);
        let second = database(&[
            row(5, 1, "pg1"),
            secondary(6, 1, "pg2"),
            secondary(7, 1, "pg3"),
            other,
        ]);
        let mut world = Self {
            synchronous,
            servers,
            last_primary: "pg1",
            etcd,
            revision: 100,
            etcd_is_silent: false,
            clock: 1,
            databases: BTreeMap::from([("app", app), ("second", second)]),
            coordinator_is_up: true,
            acknowledged: BTreeSet::new(),
            writes: 0,
            liberties,
            keeper: Keeper::default(),
            told: Vec::new(),
        };
        world.describe_members();
        match synchronous {
            Synchronous::Off => {}
            Synchronous::On => world.write_sync(&["pg2"]),
            Synchronous::Quorum => world.write_sync(&["pg2", "pg3"]),
        }
        world.everybody_answers();
        world.told.clear();
        world
    }

    /// Something happens, and whatever follows from it at once.
    pub(super) fn happens(&mut self, event: Event) {
        self.apply(event);
        self.acknowledge();
        self.settle();
    }

    /// What was carried out since this was last asked.
    pub(super) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    pub(super) fn row_of(&self, database: &str) -> &str {
        let rows = &self.databases[database].rows;
        let primary = rows.iter().find(|row| row.groupid == 1 && row.is_primary());
        &primary.expect("nobody removes rows").address.host
    }

    pub(super) fn held(&self, database: &str) -> Held {
        self.databases[database].held
    }

    /// Milliseconds to the deadline of the standing hold.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.keeper.deadline()
    }

    /// Clients are told of every write that is where it has to be.
    fn acknowledge(&mut self) {
        let Some(primary) = self.primary() else {
            return;
        };
        let server = &self.servers[primary];
        if server.cut_from_coordinator || !self.coordinator_is_up {
            return;
        }
        let sync = self.etcd.sync.as_ref().map(|sync| &sync.value);
        let (standbys, quorum) = sync.map_or((&[][..], 0), |sync| {
            (sync.standbys.as_slice(), sync.quorum as usize)
        });
        let needed = standbys.len() - quorum.min(standbys.len());
        for (place, entry) in server.log.iter().enumerate() {
            let Entry::Write { id, .. } = entry else {
                continue;
            };
            let have = standbys.iter().filter(|name| {
                let log = &self.servers[name.as_str()].log;
                log.get(place) == Some(entry)
            });
            if have.count() >= needed {
                self.acknowledged.insert(*id);
            }
        }
    }

    /// A client writes through the coordinator, if that lets it and gets it anywhere.
    fn write(&mut self, database: usize) {
        let name = DATABASES[database];
        let held = matches!(self.databases[name].held, Held::Yes { .. });
        let at = self.row_of(name).to_owned();
        if let Some(server) = self.servers.get_mut(at.as_str())
            && !held
            && self.coordinator_is_up
            && server.is_up()
            && server.is_primary()
            && !server.cut_from_coordinator
        {
            self.writes += 1;
            server.log.push(Entry::Write {
                database,
                id: self.writes,
            });
        }
    }

    fn primary(&self) -> Option<&'static str> {
        let mut primaries = self
            .servers
            .iter()
            .filter(|(_, server)| server.is_primary());
        let primary = primaries.next().map(|(host, _)| *host);
        assert!(primaries.next().is_none(), "the world has two primaries");
        primary
    }

    fn host_of(&self, name: &str) -> Option<&'static str> {
        self.servers.keys().find(|host| **host == name).copied()
    }

    /// Everybody answers so many times that nothing changes any more.
    pub(super) fn everybody_answers(&mut self) {
        for _ in 0..ROUNDS {
            self.happens(Event::EverybodyAnswers);
        }
    }

    /// What holds at any time, whatever happened.
    fn assert_the_rules(&self) {
        for (name, database) in &self.databases {
            if database.held != Held::No {
                let deadline = self.deadline().expect("a hold without a deadline");
                assert!(
                    self.clock < deadline,
                    "rule 2: {name} is held past the deadline"
                );
            }
            let mut seen = BTreeSet::new();
            for row in &database.rows {
                assert!(!row.is_temporary(), "rule 6: {name} {row:?}");
                assert!(seen.insert(&row.address), "rule 6: {name} {row:?} twice");
            }
            let of_the_group = database.rows.iter().filter(|row| row.groupid == 1);
            let kept: Vec<(i32, bool)> = of_the_group
                .map(|row| (row.nodeid, row.is_primary()))
                .collect();
            let expected: &[(i32, bool)] = match *name {
                "app" => &[(2, true)],
                _ => &[(5, true), (6, false), (7, false)],
            };
            assert_eq!(kept, expected, "rule 6: {name}");
            assert!(
                database.rows.iter().any(|row| row.address == addr("other")),
                "rule 7: another group's row was touched"
            );
        }
    }
}
