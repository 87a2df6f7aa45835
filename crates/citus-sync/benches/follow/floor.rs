//! The floor: a bare watch of one key, and a bare `citus_update_node` on one
//! warm connection when it changes. No list, no resume, no probe, no locks
//! taken before, no check of anything: the least that it can take.
//!
//! Only `SELECT citus_update_node(id, host, port)` as text: a prepared
//! statement would save the parsing of one line.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context as _, Result};
use etcd_client::{Client, EventType};
use tokio_postgres::NoTls;

/// The key whose value is the port that the row should have. Outside of Patroni's namespace, so
/// that the daemon is not woken by it.
pub(crate) const KEY: &str = "/floor/port";

/// The thread that moves the floor's row.
pub(crate) struct Floor {
    thread: JoinHandle<Result<()>>,
    acknowledged: Receiver<Instant>,
}

impl Floor {
    /// Starts it and waits until it watches.
    pub(crate) fn start(etcd: String, coordinator: String, nodeid: i32) -> Result<Self> {
        let (tell, acknowledged) = channel();
        let (ready, watching) = channel();
        let thread = thread::Builder::new()
            .name("floor".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(follow(&etcd, &coordinator, nodeid, &ready, &tell))
            })?;
        let floor = Self {
            thread,
            acknowledged,
        };
        match watching.recv() {
            Ok(()) => Ok(floor),
            Err(gone) => Err(floor.finish().err().unwrap_or_else(|| gone.into())),
        }
    }

    /// When its latest commit was acknowledged.
    pub(crate) fn acknowledged(&self) -> Result<Instant> {
        self.acknowledged.recv().context("the floor has ended")
    }

    /// Its end, after the key was deleted; or what ended it before.
    pub(crate) fn finish(self) -> Result<()> {
        match self.thread.join() {
            Ok(result) => result.context("the floor"),
            Err(_) => anyhow::bail!("the floor panicked"),
        }
    }
}

async fn follow(
    etcd: &str,
    coordinator: &str,
    nodeid: i32,
    ready: &Sender<()>,
    tell: &Sender<Instant>,
) -> Result<()> {
    let (sql, driver) = tokio_postgres::connect(coordinator, NoTls).await?;
    let driver = tokio::spawn(driver);
    let mut client = Client::connect([etcd], None).await?;
    let mut watch = client.watch(KEY, None).await?;
    while let Some(answer) = watch.message().await? {
        if answer.created() {
            ready.send(())?;
        }
        for event in answer.events() {
            if event.event_type() == EventType::Delete {
                driver.abort();
                return Ok(());
            }
            let port: u16 = event
                .kv()
                .context("an event without a key")?
                .value_str()?
                .parse()?;
            let update = format!("SELECT citus_update_node({nodeid}, '127.0.0.1', {port})");
            sql.batch_execute(&update).await.context(update)?;
            tell.send(Instant::now())?;
        }
    }
    anyhow::bail!("etcd closed the watch")
}
