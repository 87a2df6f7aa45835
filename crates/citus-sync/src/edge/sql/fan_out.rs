//! A move on the coordinator and on the entry nodes: the coordinator decides, the entry nodes follow, and those
//! that do not are skipped (rule 9).

use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use tokio::sync::watch;
use tracing::debug;

use super::entry_nodes::Part;
use super::pool::Leased;
use super::steps::{Skipped, StepError};
use super::update::{Change, Inside, UNSYNCED};
use super::{Connection, Database, EntryNodes, SqlError};
use citus_core::sql::{Dialect, batch};

/// The coordinator's word to the entry nodes: whether its row is moved.
#[derive(Clone, Debug)]
pub(super) struct Signal(watch::Receiver<Option<bool>>);

/// Whoever can give it.
pub(super) type Signaller = watch::Sender<Option<bool>>;

impl Signal {
    pub(super) fn new() -> (Signaller, Self) {
        let (signaller, signal) = watch::channel(None);
        (signaller, Self(signal))
    }

    /// Waits for the word. Whoever goes without giving it has moved nothing.
    pub(super) async fn moved(mut self) -> bool {
        let word = self.0.wait_for(Option::is_some).await;
        word.is_ok_and(|word| *word == Some(true))
    }
}

/// The coordinator's part in a move: changes the row, gives the entry nodes their word, and reads the rows
/// again. The answer is when the change was committed.
pub(super) async fn decide(
    database: &Database,
    mut session: Leased,
    change: Change<'_>,
    inside: Inside,
    signaller: Signaller,
    still_right: impl Fn() -> bool,
) -> Result<Instant, StepError> {
    let made = change.make(&mut session, inside, still_right).await;
    let result = made.map(|()| Instant::now());
    signaller.send_replace(Some(result.is_ok()));
    conclude(database, session, change.dialect, &result).await;
    result
}

/// The parts of several entry nodes in a move; see [`follow`].
pub(super) fn followers<'a>(
    entry_nodes: &'a EntryNodes,
    database: &'a Database,
    targets: impl IntoIterator<Item = &'a HostPort>,
    change: Change<'a>,
    signal: &Signal,
) -> Vec<(HostPort, Part<'a, ()>)> {
    let targets = targets.into_iter();
    targets
        .map(|entry_node| {
            let part = follow(entry_nodes, database, entry_node, change, signal.clone());
            (entry_node.clone(), part)
        })
        .collect()
}

/// An entry node's part in a move: its session is opened at once, the row is moved once the coordinator's
/// is. Not before: a metadata sync that began with the coordinator's old row would undo it.
pub(super) fn follow<'a>(
    entry_nodes: &'a EntryNodes,
    database: &'a Database,
    entry_node: &'a HostPort,
    change: Change<'a>,
    signal: Signal,
) -> Part<'a, ()> {
    Box::pin(async move {
        let mut session = entry_nodes.session(entry_node, &database.name).await?;
        if !signal.moved().await {
            return Err(StepError::Superseded);
        }
        change.make(&mut session, Inside::Own, || true).await?;
        entry_nodes.put_back(&database.name, session);
        Ok(())
    })
}

/// What there is to do after a step on the coordinator, well ended or not: no transaction stays open,
/// and the rows that are known are those that are there.
pub(super) async fn conclude<T>(
    database: &Database,
    mut session: Leased,
    dialect: &Dialect,
    result: &Result<T, StepError>,
) {
    if result.is_err() && session.is_usable() {
        // Give the locks back at once. If this fails the session is broken and dropped, which
        // gives them back as well.
        let _ = session.run("ROLLBACK").await;
    }
    match result {
        // Known after: whoever decides next sees what this step did.
        Ok(_) => {
            if let Err(error) = database.refresh(&mut session, dialect).await {
                database.doubt(&format!("read again after a move: {error}"));
            }
        }
        Err(StepError::Ambiguous(error)) => {
            database.doubt(&format!("read again after an unanswered COMMIT: {error}"));
        }
        // Citus refused: the rows may not be what the decision took them for (a name that somebody
        // else has given away meanwhile). If this fails as well, the retry meets the same error.
        Err(StepError::Sql(_)) if session.is_usable() => {
            let _ = database.refresh(&mut session, dialect).await;
        }
        Err(_) => {}
    }
    database.release(session);
}

/// How long the note for Citus may take that entry nodes were skipped.
const NOTE: Duration = Duration::from_secs(1);
const NOTE_LOCK: &str = "SET LOCAL lock_timeout = '50ms'";

/// Marks entry nodes that did not follow as out of sync, so that Citus itself tells them within its own
/// interval, whatever becomes of us before the resync that we owe. All others are told by us, and stay
/// unmarked: while any worker is marked, Citus refuses every DDL (`docs/citus.md`).
pub(super) async fn mark_skipped(database: &Database, dialect: &Dialect, skipped: &[Skipped]) {
    let entry_nodes: Vec<HostPort> = skipped.iter().map(|left| left.entry_node.clone()).collect();
    let Some(mark) = dialect.unsync(&entry_nodes) else {
        return;
    };
    let marked = async {
        let (mut session, _) = database.aside().await?;
        let result = note(&mut session, dialect, &mark).await;
        if result.is_ok() {
            database.refresh(&mut session, dialect).await?;
        }
        database.put_back(session);
        result
    };
    if let Err(error) = marked.await {
        debug!(
            database = %database.name,
            "entry nodes that were skipped could not be marked for Citus's own sync: {error}"
        );
    }
}

async fn note(session: &mut Connection, dialect: &Dialect, mark: &str) -> Result<(), SqlError> {
    let mut texts = vec!["BEGIN", UNSYNCED, NOTE_LOCK];
    texts.extend(dialect.order_plain());
    texts.extend([mark, "COMMIT"]);
    let result = session.run_within(&batch(texts), NOTE).await;
    if result.is_err() && session.is_usable() {
        session.run_within("ROLLBACK", NOTE).await?;
    }
    result
}
