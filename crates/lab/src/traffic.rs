//! A small application. In: a door to the cluster. Out: a record of every
//! statement, from which failures, gaps and lost writes are read.
//!
//! Each writer owns a few keys of one group, and writes 1, 2, 3 … to them in
//! turn; each reader reads such keys. So it is known per group when writes and
//! reads stopped, and at the end whether an acknowledged write is missing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::Client;

use crate::citus::Flavour;
use crate::cluster::Lab;
use crate::report::{Kind, Outcome, Report};
use crate::session::{Request, Session};
use crate::wait::wait_until;

/// Keys that one writer or reader goes through.
const KEYS: usize = 4;
/// Between two tries to connect.
const RECONNECT: Duration = Duration::from_millis(5);

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Writing sessions for each worker group.
    pub writers: usize,
    /// Reading sessions for each worker group.
    pub readers: usize,
    /// Between two statements of a session.
    pub pause: Duration,
    /// After this a statement counts as failed and its session is given up.
    pub patience: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            writers: 1,
            readers: 1,
            pause: Duration::from_millis(5),
            patience: Duration::from_secs(10),
        }
    }
}

/// Finds the port to connect to, anew for each connection.
type Door = Arc<dyn Fn() -> Result<u16> + Send + Sync>;

/// Running traffic. Dropping it stops it.
pub struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    began: Instant,
}

struct Shared {
    door: Door,
    database: String,
    flavour: Flavour,
    load: Load,
    stop: AtomicBool,
    outcomes: Mutex<Vec<Outcome>>,
    /// Key to the last number that was acknowledged.
    acknowledged: Mutex<BTreeMap<i64, u64>>,
}

impl Traffic {
    /// Traffic for every worker group through the coordinator's leader, who is
    /// looked up in etcd for each new connection.
    pub fn start(lab: &Lab, database: &str, load: Load) -> Result<Self> {
        let etcd = lab.etcd().kv().clone();
        let scope = lab.coordinator();
        let path = scope.path("leader");
        let ports: BTreeMap<String, u16> = scope
            .members()
            .iter()
            .map(|member| (member.name().to_owned(), member.port()))
            .collect();
        let door = move || {
            let leader = etcd
                .get(&path)?
                .context("the coordinator has no leader now")?
                .value;
            ports
                .get(&leader)
                .copied()
                .with_context(|| format!("unknown leader {leader}"))
        };
        Self::through(lab, Arc::new(door), database, load)
    }

    /// Traffic for every worker group through one node's port.
    pub fn start_at(lab: &Lab, port: u16, database: &str, load: Load) -> Result<Self> {
        Self::through(lab, Arc::new(move || Ok(port)), database, load)
    }

    fn through(lab: &Lab, door: Door, database: &str, load: Load) -> Result<Self> {
        let shared = Arc::new(Shared {
            door,
            database: database.into(),
            flavour: lab.flavour().clone(),
            load,
            stop: AtomicBool::new(false),
            outcomes: Mutex::default(),
            acknowledged: Mutex::default(),
        });
        let mut client = lab.coordinator().connect(database)?;
        let mut threads = Vec::new();
        for worker in lab.workers() {
            let per_group = load.writers + load.readers;
            let keys = keys_of(&mut client, worker.group(), KEYS * per_group)?;
            for (number, keys) in keys.chunks(KEYS).enumerate() {
                let kind = if number < load.writers {
                    Kind::Write
                } else {
                    Kind::Read
                };
                let (shared, keys, group) = (Arc::clone(&shared), keys.to_vec(), worker.group());
                threads.push(thread::spawn(move || work(&shared, kind, group, &keys)));
            }
        }
        let traffic = Self {
            shared,
            threads,
            began: Instant::now(),
        };
        traffic.wait_flowing()?;
        Ok(traffic)
    }

    /// The record up to now.
    pub fn report(&self) -> Report {
        Report::new(
            self.began,
            Instant::now(),
            locked(&self.shared.outcomes).clone(),
        )
    }

    /// Stops and returns the whole record.
    pub fn finish(mut self) -> Report {
        self.halt();
        self.report()
    }

    /// Waits until every group is written and read again from now on.
    pub fn wait_flowing(&self) -> Result<()> {
        let since = Instant::now();
        wait_until(
            "every group to be written and read",
            Duration::from_secs(60),
            || {
                let report = self.report();
                let all = report.groups().into_iter().all(|group| {
                    report.recovered(Kind::Write, group, since)
                        && report.recovered(Kind::Read, group, since)
                });
                let expected = self.threads.len()
                    / (self.shared.load.writers + self.shared.load.readers).max(1);
                Ok((all && report.groups().len() == expected).then_some(()))
            },
        )
    }

    /// Stops, and checks that every write that was acknowledged is there.
    /// Returns how many keys were checked.
    pub fn verify(&mut self, lab: &Lab) -> Result<usize> {
        self.halt();
        let mut found = BTreeMap::new();
        // The stand-in's tables are on the workers only.
        let sources = if self.shared.flavour.is_citus() {
            std::slice::from_ref(lab.coordinator())
        } else {
            lab.workers()
        };
        for scope in sources {
            let mut client = scope.connect(&self.shared.database)?;
            for row in client.query("SELECT id, note FROM ledger", &[])? {
                found.insert(row.get::<_, i64>(0), row.get::<_, String>(1));
            }
        }
        let acknowledged = locked(&self.shared.acknowledged);
        for (key, last) in acknowledged.iter() {
            let there: u64 = found
                .get(key)
                .and_then(|note| note.parse().ok())
                .unwrap_or(0);
            ensure!(
                there >= *last,
                "write {last} of key {key} was acknowledged, and the table has {there}: it is lost"
            );
        }
        Ok(acknowledged.len())
    }

    fn halt(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Keys whose shard lies on `group`.
fn keys_of(client: &mut Client, group: u32, count: usize) -> Result<Vec<i64>> {
    let rows = client.query(
        "SELECT key FROM generate_series(1::bigint, 2000) key \
         JOIN pg_dist_placement ON shardid = get_shard_id_for_distribution_column('ledger', key) \
         WHERE groupid = $1 LIMIT $2",
        &[&i32::try_from(group)?, &i64::try_from(count)?],
    )?;
    ensure!(
        rows.len() == count,
        "group {group} has no {count} keys of 2000"
    );
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn work(shared: &Shared, kind: Kind, group: u32, keys: &[i64]) {
    let mut session: Option<Session> = None;
    let mut number = 0;
    for key in keys.iter().cycle() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        number += 1;
        let began = Instant::now();
        let done = step(shared, kind, &mut session, *key, number);
        let error = done.err().map(|error| format!("{error:#}"));
        let pause = if session.is_none() {
            RECONNECT
        } else {
            shared.load.pause
        };
        locked(&shared.outcomes).push(Outcome {
            kind,
            group,
            began,
            ended: Instant::now(),
            error,
        });
        thread::sleep(pause); // the application's own pace, nothing is awaited
    }
}

/// One statement, on a new session if there is none. As in an application, an
/// error costs the session only if the server ended it.
fn step(
    shared: &Shared,
    kind: Kind,
    session: &mut Option<Session>,
    key: i64,
    number: u64,
) -> Result<()> {
    let open = match session.take() {
        Some(open) => open,
        None => Session::open((shared.door)()?, &shared.database)?,
    };
    let note = (kind == Kind::Write).then(|| number.to_string());
    let sql = statement(kind, shared.flavour.is_citus());
    let answer = open.run(Request { sql, key, note }, shared.load.patience);
    if open.is_usable() {
        *session = Some(open);
    }
    answer?;
    if kind == Kind::Write {
        locked(&shared.acknowledged).insert(key, number);
    }
    Ok(())
}

/// The stand-in has no planner: it offers a function for each.
fn statement(kind: Kind, citus: bool) -> &'static str {
    match (kind, citus) {
        (Kind::Write, true) => {
            "INSERT INTO ledger (id, note) VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET note = excluded.note"
        }
        (Kind::Read, true) => "SELECT note FROM ledger WHERE id = $1",
        (Kind::Write, false) => "SELECT citus_stand_in_write('ledger', $1, $2)::text",
        (Kind::Read, false) => "SELECT citus_stand_in_read('ledger', $1)",
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
