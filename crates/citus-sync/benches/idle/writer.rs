//! Patroni's heartbeats, without Patroni: each key is rewritten every ten
//! seconds, spread evenly, with a position that has moved on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use etcd_client::Client;
use serde_json::{Map, Value, json};

use super::support::keys;

/// `loop_wait`, in which Patroni writes all of its keys once.
const LOOP_WAIT: Duration = Duration::from_secs(10);

/// A key that is written again and again.
#[derive(Clone, Debug)]
pub(crate) enum Heartbeat {
    /// Of a member, by itself.
    Member {
        /// Its scope.
        scope: String,
        /// Its name.
        name: String,
        /// Where it is.
        host: String,
        /// As above.
        port: u16,
        /// The leader.
        primary: bool,
    },
    /// Of a scope, by its leader.
    Status {
        /// The scope.
        scope: String,
        /// Its members, each with a slot.
        members: Vec<String>,
    },
}

impl Heartbeat {
    /// The key, and a value that differs from that of any other moment.
    pub(crate) fn next(&self) -> (String, String) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let position = u64::try_from(now.as_millis()).unwrap_or(0);
        match self {
            Self::Member {
                scope,
                name,
                host,
                port,
                primary,
            } => (
                keys::member_key(scope, name),
                keys::member(host, *port, *primary, position),
            ),
            Self::Status { scope, members } => {
                let slots: Map<String, Value> = members
                    .iter()
                    .map(|name| (name.clone(), json!(position)))
                    .collect();
                let value = json!({"optime": position, "slots": slots, "retain_slots": members});
                (format!("/service/{scope}/status"), value.to_string())
            }
        }
    }
}

/// The thread that writes.
pub(crate) struct Writer {
    thread: JoinHandle<Result<()>>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Writer {
    /// Starts to write all `heartbeats` in turn, for ever.
    pub(crate) fn start(etcd: &str, heartbeats: Vec<Heartbeat>) -> Result<Self> {
        let (stop, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopping, written, etcd) = (stop.clone(), count.clone(), etcd.to_owned());
        let pause = LOOP_WAIT / u32::try_from(heartbeats.len())?;
        let thread = thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let mut client = runtime.block_on(Client::connect([etcd], None))?;
                let mut due = Instant::now();
                for heartbeat in heartbeats.iter().cycle() {
                    if stopping.load(Ordering::Relaxed) {
                        break;
                    }
                    let (key, value) = heartbeat.next();
                    runtime.block_on(client.put(key, value, None))?;
                    written.fetch_add(1, Ordering::Relaxed);
                    due += pause;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                Ok(())
            })?;
        Ok(Self {
            thread,
            stop,
            count,
        })
    }

    /// Keys written so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends it; or tells what ended it before.
    pub(crate) fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result.context("writing keys"),
            Err(_) => anyhow::bail!("the writer of keys panicked"),
        }
    }
}
