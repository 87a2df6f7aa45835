//! One client of the application. In: a stream and what it works on. Out: the
//! outcome of every statement, one after the other, until it is told to stop.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Shared;
use super::book::Book;
use super::door::Door;
use super::statements::request;
use super::stream::Stream;
use crate::report::Outcome;
use crate::session::Session;

/// Between two tries to connect.
const RECONNECT: Duration = Duration::from_millis(5);

/// The longest pause between a statement that failed and the next try: who waits for an answer does
/// not rest.
const RETRY: Duration = Duration::from_millis(50);

/// How much longer than others whoever works on all shards at once pauses: it concerns every node.
pub(crate) const ALL_SHARDS: u32 = 10;

/// What it works on.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// Writes in its own book.
    Write(Arc<Book>),
    /// Reads what another writes, and expects to find what was acknowledged to that one.
    Read(Arc<Book>),
    /// Expects this number of rows.
    Count(i64),
}

/// A client to be.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) stream: Arc<Stream>,
    pub(crate) door: Door,
    pub(crate) task: Task,
    /// Between two statements.
    pub(crate) pause: Duration,
    pub(crate) progress: Arc<Progress>,
}

/// How its latest statement went.
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

    /// One statement, on a new session if there is none. As in an application,
    /// an error costs the session only if the server ended it.
    fn step(&self, shared: &Shared, session: &mut Option<Session>, turn: usize) -> Result<()> {
        let open = match session.take() {
            Some(open) => open,
            None => Session::open(self.door.find()?, &self.stream.database)?,
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
            Task::Write(book) => {
                let entry = book.next();
                ask(entry.key, book.writer, entry.number)?;
                book.acknowledge(entry);
            }
            Task::Read(book) => {
                let key = book.keys[turn % book.keys.len()];
                let acknowledged = book.acknowledged(key);
                let found = ask(key, book.writer, 0)?;
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
