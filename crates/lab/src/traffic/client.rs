//! One client of the application. In: a stream and a task. Out: the outcome of every
//! statement, one after the other, until the traffic stops.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::entry_node::EntryNode;
use super::ledger::Ledger;
use super::shared::Shared;
use super::statements::request;
use super::stream::Stream;
use crate::report::Outcome;
use crate::session::Session;

/// The pause between two tries to connect.
const RECONNECT: Duration = Duration::from_millis(5);

/// The longest pause between a failed statement and the next try: a user who waits for an answer
/// tries again soon.
const RETRY: Duration = Duration::from_millis(50);

/// Clients of all shards pause this many times as long as others: each statement reaches every node.
pub(crate) const ALL_SHARDS: u32 = 10;

/// What the client does.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// Writes, and keeps this ledger.
    Write(Arc<Ledger>),
    /// Reads the keys of another client's ledger, and expects its acknowledged writes.
    Read(Arc<Ledger>),
    /// Counts rows, and expects this number.
    Count(i64),
}

/// A client, running or not.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) stream: Arc<Stream>,
    pub(crate) entry_node: EntryNode,
    pub(crate) task: Task,
    /// The pause between two statements.
    pub(crate) pause: Duration,
    pub(crate) progress: Arc<Progress>,
}

/// When the latest statement of a client was sent, and whether it succeeded.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<(Instant, bool)>>);

impl Progress {
    /// True when the latest statement was sent after `since` and succeeded.
    pub(crate) fn flows(&self, since: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|(began, succeeded)| succeeded && began >= since)
    }

    fn set(&self, began: Instant, succeeded: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, succeeded));
    }
}

impl Client {
    pub(crate) fn work(&self, shared: &Shared) {
        let mut session = None;
        let mut turn = 0;
        while !shared.is_stopped() {
            turn += 1;
            let began = Instant::now();
            let done = self.step(shared, &mut session, turn);
            let error = done.err().map(|error| format!("{error:#}"));
            self.progress.set(began, error.is_none());
            let pause = match error {
                _ if session.is_none() => RECONNECT,
                Some(_) if self.stream.kind.is_single() => self.pause.min(RETRY),
                Some(_) => self.pause.min(RETRY * ALL_SHARDS),
                None => self.pause,
            };
            shared.note(Outcome {
                stream: Arc::clone(&self.stream),
                began,
                ended: Instant::now(),
                error,
            });
            thread::sleep(pause); // the application's own pace, nothing is awaited
        }
    }

    /// Runs one statement, on a new session if there is none. As in an application,
    /// the session is kept after an error unless the server ended it.
    fn step(&self, shared: &Shared, session: &mut Option<Session>, turn: usize) -> Result<()> {
        let open = match session.take() {
            Some(open) => open,
            None => Session::open(self.entry_node.find()?, &self.stream.database)?,
        };
        let outcome = self.run(shared, &open, turn);
        if open.is_usable() {
            *session = Some(open);
        }
        outcome
    }

    fn run(&self, shared: &Shared, session: &Session, turn: usize) -> Result<()> {
        let Stream { kind, protocol, .. } = *self.stream;
        let citus = shared.flavour.is_citus();
        let ask = |key, writer, number| {
            let request = request(kind, citus, key, writer, number);
            session.run(request, protocol, shared.load.patience)
        };
        match &self.task {
            Task::Write(ledger) => {
                let entry = ledger.next();
                ask(entry.key, ledger.writer, entry.number)?;
                ledger.acknowledge(entry);
            }
            Task::Read(ledger) => {
                let key = ledger.keys[turn % ledger.keys.len()];
                let acknowledged = ledger.acknowledged(key);
                let found = ask(key, ledger.writer, 0)?;
                let found = found.map(|text| text.parse::<i64>()).transpose()?;
                ensure!(
                    found >= acknowledged,
                    "a stale answer: key {key} has {found:?}, and {acknowledged:?} was acknowledged"
                );
            }
            Task::Count(expected) => {
                let found = ask(0, 0, 0)?.context("no count")?;
                ensure!(
                    found == expected.to_string(),
                    "{found} of {expected} rows were counted"
                );
            }
        }
        Ok(())
    }
}
