//! A small application. In: a lab, and the entry nodes to use. Out: the outcome of every
//! statement, which shows failures, gaps and lost writes.
//!
//! Each writer has a few keys of one group, writes 1, 2, 3 … to them in turn, and keeps a ledger of
//! the acknowledged writes. Each reader reads the keys of one writer, and must not find an older
//! value than the last acknowledged one. So the report shows for each group when writes and reads
//! stopped, and at the end whether an acknowledged write is missing or a write was executed twice.

mod builder;
mod client;
mod entry_node;
mod ledger;
mod shared;
mod statements;
mod stream;
mod verify;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

pub use self::builder::TrafficBuilder;
use self::client::{Client, Task};
pub use self::shared::Load;
use self::shared::Shared;
pub use self::stream::{Kind, Stream};
use crate::citus::Flavour;
use crate::cluster::Lab;
use crate::report::Report;
use crate::wait::wait_for;

/// How long clients may wait until all of them are served again.
const FLOWING: Duration = Duration::from_secs(60);

/// Running traffic. Dropping it stops it.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<Client>,
    threads: Vec<JoinHandle<()>>,
    /// Outcomes are kept from this moment on.
    since: Instant,
}

impl Traffic {
    fn run(flavour: Flavour, load: Load, clients: Vec<Client>) -> Result<Self> {
        let since = Instant::now();
        let shared = Arc::new(Shared {
            flavour,
            load,
            stop: AtomicBool::new(false),
            outcomes: Mutex::default(),
        });
        let threads = clients
            .iter()
            .map(|client| {
                let (client, shared) = (client.clone(), Arc::clone(&shared));
                thread::spawn(move || client.work(&shared))
            })
            .collect();
        let traffic = Self {
            shared,
            clients,
            threads,
            since,
        };
        traffic.wait_flowing()?;
        Ok(traffic)
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.clients.len()
    }

    /// All outcomes since the start or the last [`Traffic::take_report`].
    pub fn report(&self) -> Report {
        Report::new(self.since, Instant::now(), self.shared.outcomes().clone())
    }

    /// All outcomes since the start or the last call, which are then forgotten. The ledgers are kept.
    pub fn take_report(&mut self) -> Report {
        let outcomes = std::mem::take(&mut *self.shared.outcomes());
        let from = std::mem::replace(&mut self.since, Instant::now());
        Report::new(from, self.since, outcomes)
    }

    /// Stops the clients and returns all outcomes.
    pub fn finish(mut self) -> Report {
        self.halt();
        self.report()
    }

    /// Waits until every client has sent a statement after this call, and it succeeded.
    pub fn wait_flowing(&self) -> Result<()> {
        let since = Instant::now();
        let waits = || {
            self.clients
                .iter()
                .find(|client| !client.progress.flows(since))
        };
        let flowing = wait_for("every client to be served", FLOWING, || {
            Ok(waits().is_none())
        });
        flowing.map_err(|error| match waits() {
            None => error,
            Some(client) => {
                let outcomes = self.shared.outcomes();
                let mut own = outcomes.iter().rev();
                let last = own.find_map(|outcome| {
                    let error = outcome.error.as_deref();
                    error.filter(|_| outcome.stream == client.stream)
                });
                let last = last.unwrap_or("no error");
                error.context(format!("{}: {last}", client.stream))
            }
        })
    }

    /// Stops the clients, and checks that every acknowledged write is there and (with Citus) that
    /// no write is there twice. Returns the number of acknowledged writes checked; with the
    /// stand-in, which keeps the last write of each key only, the number of keys.
    pub fn verify(&mut self, lab: &Lab) -> Result<usize> {
        self.halt();
        let ledgers = self.clients.iter().filter_map(|client| match &client.task {
            Task::Write(ledger) => Some((&*client.stream, &**ledger)),
            _ => None,
        });
        verify::verify(lab, ledgers)
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
