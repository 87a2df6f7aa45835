//! A move on the coordinator and on the entry nodes, side by side (rule 9).
//!
//! 1. Every entry node's session is opened while the coordinator's part is under way.
//! 2. The coordinator decides: its row is moved, or the whole move has failed.
//! 3. The entry nodes follow. Those that are not done 300 ms after the coordinator are skipped.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use citus_core::outcome::Skipped;
use dcs_watch::HostPort;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::sleep;

use super::conclude::conclude;
use super::error::StepError;
use super::order::{Change, Inside};
use crate::session::{Database, EntryNodeSessions, Leased};

/// How much longer than the coordinator the entry nodes may take for their part.
pub(super) const ENTRY_NODE_PATIENCE: Duration = Duration::from_millis(300);

/// An entry node's part in something.
pub(super) type Part<'a, T> = Pin<Box<dyn Future<Output = Result<T, StepError>> + Send + 'a>>;

/// Runs the coordinator's part and the entry nodes' side by side: what the coordinator's came to,
/// and the entry nodes that are skipped. Those have [`ENTRY_NODE_PATIENCE`] more than the
/// coordinator. One that is not done by then is skipped, and so is one that failed, unless it [is
/// no entry node](StepError::is_no_entry_node). If the coordinator fails, so does all of it.
pub(super) async fn side_by_side<C, E>(
    coordinator: impl Future<Output = Result<C, E>>,
    entry_nodes: Vec<(HostPort, Part<'_, ()>)>,
) -> Result<(C, Vec<Skipped>), E> {
    side_by_side_then(coordinator, entry_nodes, Vec::new).await
}

/// The same, with parts that begin only once the coordinator's has succeeded.
pub(super) async fn side_by_side_then<'a, C, E>(
    coordinator: impl Future<Output = Result<C, E>>,
    entry_nodes: Vec<(HostPort, Part<'a, ()>)>,
    then: impl FnOnce() -> Vec<(HostPort, Part<'a, ()>)>,
) -> Result<(C, Vec<Skipped>), E> {
    let name = |(node, part): (HostPort, Part<'a, ()>)| async move { (node, part.await) };
    let mut missing: Vec<HostPort> = entry_nodes.iter().map(|(node, _)| node.clone()).collect();
    let mut under_way: FuturesUnordered<_> = entry_nodes.into_iter().map(name).collect();
    let mut skipped = Vec::new();
    let mut coordinator = pin!(coordinator);
    let decided = loop {
        tokio::select! {
            decided = &mut coordinator => break decided?,
            Some((node, result)) = under_way.next(), if !under_way.is_empty() => {
                missing.retain(|other| *other != node);
                skipped.extend(why_skipped(node, result));
            }
        }
    };
    for part in then() {
        missing.push(part.0.clone());
        under_way.push(name(part));
    }
    let mut patience = pin!(sleep(ENTRY_NODE_PATIENCE));
    while !under_way.is_empty() {
        tokio::select! {
            Some((node, result)) = under_way.next() => {
                missing.retain(|other| *other != node);
                skipped.extend(why_skipped(node, result));
            }
            () = &mut patience => break,
        }
    }
    drop(under_way);
    skipped.extend(missing.into_iter().map(|node| Skipped {
        node,
        error: format!(
            "not done {} ms after the coordinator",
            ENTRY_NODE_PATIENCE.as_millis()
        ),
    }));
    Ok((decided, skipped))
}

/// Why an entry node is skipped whose part came to this, if it is.
fn why_skipped(node: HostPort, result: Result<(), StepError>) -> Option<Skipped> {
    let error = result.err().filter(|error| !error.is_no_entry_node())?;
    Some(Skipped {
        node,
        error: error.to_string(),
    })
}

/// What the coordinator's part tells the entry nodes' parts: whether its row is moved.
#[derive(Clone, Debug)]
pub(super) struct Signal(watch::Receiver<Option<bool>>);

/// The coordinator's end of it.
pub(super) type Signaller = watch::Sender<Option<bool>>;

impl Signal {
    pub(super) fn new() -> (Signaller, Self) {
        let (signaller, signal) = watch::channel(None);
        (signaller, Self(signal))
    }

    /// Waits for the signal. A dropped sender means that nothing was committed.
    pub(super) async fn moved(mut self) -> bool {
        let moved = self.0.wait_for(Option::is_some).await;
        moved.is_ok_and(|moved| *moved == Some(true))
    }
}

/// The coordinator's part in a move: changes the row, signals the entry nodes, and reads the rows
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
    sessions: &'a EntryNodeSessions,
    database: &'a Database,
    targets: impl IntoIterator<Item = &'a HostPort>,
    change: Change<'a>,
    signal: &Signal,
) -> Vec<(HostPort, Part<'a, ()>)> {
    let targets = targets.into_iter();
    targets
        .map(|entry_node| {
            let part = follow(sessions, database, entry_node, change, signal.clone());
            (entry_node.clone(), part)
        })
        .collect()
}

/// An entry node's part in a move: its session is opened at once, the row is moved once the
/// coordinator's is. Not before: a metadata sync that began with the coordinator's old row would
/// undo it.
pub(super) fn follow<'a>(
    sessions: &'a EntryNodeSessions,
    database: &'a Database,
    entry_node: &'a HostPort,
    change: Change<'a>,
    signal: Signal,
) -> Part<'a, ()> {
    Box::pin(async move {
        let mut session = sessions.session(entry_node, &database.name).await?;
        if !signal.moved().await {
            return Err(StepError::Superseded);
        }
        change.make(&mut session, Inside::Own, || true).await?;
        sessions.put_back(&database.name, session);
        Ok(())
    })
}
