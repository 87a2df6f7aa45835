//! Writes a leader key and looks when the row follows.
//!
//! One thread: it writes, takes the time of etcd's acknowledgement, and then
//! asks for the row in a tight loop on a connection that does nothing else.
//! The time of a commit is that of the first answer that shows it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use citus_core::report::GroupReport;
use etcd_client::Client;
use tokio::runtime::Runtime;
use tokio_postgres::{NoTls, Statement};

use super::fixture::{DATABASE, Fixture, Group};
use super::floor::{self, Floor};
use super::support::keys;

/// Between two questions. A sleep of the thread, as a timer of the runtime counts in whole
/// milliseconds.
const POLL: Duration = Duration::from_micros(50);

/// A move that takes longer than this is no sample but an error.
const LOST: Duration = Duration::from_secs(20);

/// How long the coordinator may take to tell all nodes of a move.
const SYNCED: Duration = Duration::from_secs(5);

/// Who moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// citus-sync.
    Daemon,
    /// The floor.
    Floor,
}

/// One move.
#[derive(Debug)]
pub(crate) struct Sample {
    took: Duration,
    /// One turn of the polling loop, on average.
    poll: Duration,
    /// From the floor's own acknowledgement to the poll that showed the row.
    lag: Option<Duration>,
}

/// All moves that count.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// By the floor.
    pub(crate) floor: Vec<Duration>,
    /// By the daemon.
    pub(crate) daemon: Vec<Duration>,
    /// Turns of the polling loop.
    pub(crate) poll: Vec<Duration>,
    /// See [`Sample::lag`].
    pub(crate) lag: Vec<Duration>,
    /// By the daemon's clock, since its view changed.
    pub(crate) writable: Vec<Duration>,
    /// As above.
    pub(crate) locked: Vec<Duration>,
    /// As above.
    pub(crate) committed: Vec<Duration>,
    /// Moves after which metadata was not in sync in time.
    pub(crate) out_of_sync: usize,
}

impl Measured {
    /// Counts a move.
    pub(crate) fn add(&mut self, side: Side, sample: &Sample) {
        match side {
            Side::Daemon => self.daemon.push(sample.took),
            Side::Floor => self.floor.push(sample.took),
        }
        self.poll.push(sample.poll);
        self.lag.extend(sample.lag);
    }

    /// Notes what the daemon says of its latest move.
    pub(crate) fn phases(&mut self, groups: &[GroupReport]) {
        let group = groups.iter().find(|group| group.group == 1);
        if let Some(last) = group.and_then(|group| group.last_move.as_ref()) {
            self.writable.push(Duration::from_micros(last.writable_us));
            self.locked.push(Duration::from_micros(last.locked_us));
            self.committed
                .push(Duration::from_micros(last.committed_us));
        }
    }
}

/// The thread that writes and looks.
pub(crate) struct Mover {
    runtime: Runtime,
    etcd: Client,
    sql: tokio_postgres::Client,
    row: Statement,
    unsynced: Option<Statement>,
    floor: Floor,
    kept: Group,
    bare: Group,
    /// Where the rows are: an index into the places of each group.
    at: [usize; 2],
}

impl Mover {
    /// Connects, and starts the floor.
    pub(crate) fn new(fixture: &Fixture) -> Result<Self> {
        let endpoint = fixture.etcd.endpoint();
        let port = fixture.coordinator.port();
        let conninfo = |name: &str| {
            format!(
                "host=127.0.0.1 port={port} user=postgres dbname={DATABASE} application_name={name}"
            )
        };
        let floor = Floor::start(endpoint.clone(), conninfo("floor"), fixture.bare.nodeid)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (etcd, sql, row, unsynced) = runtime.block_on(async {
            let etcd = Client::connect([&endpoint], None).await?;
            let (sql, driver) = tokio_postgres::connect(&conninfo("poll"), NoTls).await?;
            tokio::spawn(driver);
            let row = sql
                .prepare("SELECT nodeport FROM pg_dist_node WHERE nodeid = $1")
                .await?;
            let unsynced =
                "SELECT count(*) FROM pg_dist_node WHERE hasmetadata AND NOT metadatasynced";
            let unsynced = if fixture.resynchronises() {
                Some(sql.prepare(unsynced).await?)
            } else {
                None
            };
            anyhow::Ok((etcd, sql, row, unsynced))
        })?;
        let (kept, bare) = (fixture.kept.clone(), fixture.bare.clone());
        Ok(Self {
            runtime,
            etcd,
            sql,
            row,
            unsynced,
            floor,
            kept,
            bare,
            at: [0, 0],
        })
    }

    /// One move there or back.
    pub(crate) fn run(&mut self, side: Side) -> Result<Sample> {
        let (index, group) = match side {
            Side::Daemon => (0, &self.kept),
            Side::Floor => (1, &self.bare),
        };
        let place = &group.places[1 - self.at[index]];
        let (key, value) = match side {
            Side::Daemon => (keys::leader_key("wk1"), place.name.clone()),
            Side::Floor => (floor::KEY.to_owned(), place.port.to_string()),
        };
        let (nodeid, port) = (group.nodeid, i32::from(place.port));
        let (etcd, sql, row) = (&mut self.etcd, &self.sql, &self.row);
        let sample = self.runtime.block_on(async {
            etcd.put(key, value, None).await?;
            let written = Instant::now();
            let mut turns = 0;
            loop {
                let now: i32 = sql.query_one(row, &[&nodeid]).await?.get(0);
                let took = written.elapsed();
                turns += 1;
                if now == port {
                    return Ok(Sample {
                        took,
                        poll: took / turns,
                        lag: None,
                    });
                }
                ensure!(
                    took < LOST,
                    "{side:?}: row {nodeid} did not follow to port {port}"
                );
                thread::sleep(POLL);
            }
        })?;
        self.at[index] = 1 - self.at[index];
        if side == Side::Daemon {
            return Ok(sample);
        }
        let seen = Instant::now();
        let acknowledged = self.floor.acknowledged()?;
        Ok(Sample {
            lag: Some(seen.saturating_duration_since(acknowledged)),
            ..sample
        })
    }

    /// Waits until the coordinator has told all nodes of the last move, so that the next one
    /// begins in the same quiet as this one did. False if it has not within a few seconds.
    pub(crate) fn wait_synced(&mut self) -> Result<bool> {
        let Some(unsynced) = &self.unsynced else {
            return Ok(true);
        };
        let asked = Instant::now();
        loop {
            let count: i64 = self
                .runtime
                .block_on(self.sql.query_one(unsynced, &[]))?
                .get(0);
            if count == 0 {
                return Ok(true);
            }
            if asked.elapsed() > SYNCED {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the floor.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.runtime
            .block_on(self.etcd.delete(floor::KEY, None))
            .context("ending the floor")?;
        self.floor.finish()
    }
}
