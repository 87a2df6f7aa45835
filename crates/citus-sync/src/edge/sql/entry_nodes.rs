//! Sessions on entry nodes: the worker leaders through which clients send queries, too. They are kept warm
//! or opened on demand, live on for a while, and an entry node that cannot be reached costs little (rule 9).

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dcs_watch::HostPort;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::SimpleQueryRow;

use super::held_entry_nodes::HeldEntryNodes;
use super::references::References;
use super::steps::{Skipped, StepError};
use super::{Connection, Login, SqlError};
use citus_core::plan::COORDINATOR_GROUP;
use citus_core::sql::primary_of;

/// How long a connect to an entry node may take, and its first answer. An entry node is skipped sooner than it is
/// waited for.
const CONNECT: Duration = Duration::from_millis(300);

/// How much longer than the coordinator the entry nodes may take for their part.
pub(super) const ENTRY_NODE_PATIENCE: Duration = Duration::from_millis(300);

/// How long a session that nobody uses is kept: a hold is followed by a read move and its end on the
/// same entry nodes, and one switchover by the next. Who [keeps them warm](EntryNodes::keep_warm) comes in time.
const LINGER: Duration = Duration::from_secs(120);

/// An entry node, and a database there.
type Key = (HostPort, Arc<str>);

/// Whose entry nodes: of which group, in which database.
pub(super) type Whose = (i32, Arc<str>);

/// Sessions on the entry nodes of one formation; cheap to clone.
#[derive(Clone, Debug)]
pub struct EntryNodes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    login: Login,
    warm: Mutex<BTreeMap<Key, Vec<Warm>>>,
    references: Mutex<BTreeMap<Key, References>>,
    /// Entry nodes that are still held, of holds that were lost with the coordinator.
    kept: Mutex<BTreeMap<Whose, HeldEntryNodes>>,
}

/// Sessions for one hold on an entry node, in one database: one holds, one moves the row.
pub const SPARE: usize = 2;

/// One session that waits to be used again; its task drops it when nobody does.
#[derive(Debug)]
struct Warm {
    session: Option<Connection>,
    expiry: JoinHandle<()>,
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.expiry.abort();
    }
}

impl EntryNodes {
    /// No session is open yet.
    pub fn new(login: &Login) -> Self {
        Self {
            shared: Arc::new(Shared {
                login: Login {
                    connect_timeout: login.connect_timeout.min(CONNECT),
                    ..login.clone()
                },
                warm: Mutex::default(),
                references: Mutex::default(),
                kept: Mutex::default(),
            }),
        }
    }

    fn warm(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<Warm>>> {
        self.shared
            .warm
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A session on an entry node, warm if there is one.
    ///
    /// # Errors
    ///
    /// The entry node cannot be reached in time; or it is in recovery, and so none for the moment.
    pub(super) async fn session(
        &self,
        entry_node: &HostPort,
        database: &Arc<str>,
    ) -> Result<Connection, SqlError> {
        let key = (entry_node.clone(), database.clone());
        if let Some(warm) = self.warm().get_mut(&key) {
            while let Some(session) = warm.pop().and_then(|mut warm| warm.session.take()) {
                if session.is_usable() {
                    return Ok(session);
                }
            }
        }
        let mut session = self.open(entry_node, database).await?;
        if session.verify_within(CONNECT).await? {
            return Err(SqlError::InRecovery);
        }
        Ok(session)
    }

    /// Sees to it that an entry node is held, and its row moved, without connecting to it first: keeps as many
    /// sessions warm as that takes, for as long as this is called again in time.
    ///
    /// # Errors
    ///
    /// The entry node cannot be reached, or is none for the moment.
    pub async fn keep_warm(
        &self,
        entry_node: &HostPort,
        database: &Arc<str>,
    ) -> Result<(), SqlError> {
        let mut sessions = Vec::new();
        while sessions.len() < SPARE {
            let mut session = self.session(entry_node, database).await?;
            // Whether it is alive; and Citus reads on first use what it would have to read later.
            session.rows(&primary_of(COORDINATOR_GROUP)).await?;
            sessions.push(session);
        }
        for session in sessions {
            self.put_back(database, session);
        }
        Ok(())
    }

    /// Runs one query on a session of an entry node, for its rows.
    ///
    /// # Errors
    ///
    /// The entry node cannot be reached, is none for the moment, or refuses.
    pub(super) async fn ask(
        &self,
        entry_node: &HostPort,
        database: &Arc<str>,
        query: &str,
    ) -> Result<Vec<SimpleQueryRow>, SqlError> {
        let mut session = self.session(entry_node, database).await?;
        let rows = session.rows(query).await?;
        self.put_back(database, session);
        Ok(rows)
    }

    fn all_kept(&self) -> MutexGuard<'_, BTreeMap<Whose, HeldEntryNodes>> {
        let kept = &self.shared.kept;
        kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the entry nodes of a hold that was lost, until it is taken again or its group is let go.
    pub(super) fn keep(&self, whose: Whose, held: HeldEntryNodes) {
        let before = self.all_kept().insert(whose, held);
        drop(before);
    }

    /// The entry nodes that were kept.
    pub(super) fn take_kept(&self, whose: &Whose) -> Option<HeldEntryNodes> {
        self.all_kept().remove(whose)
    }

    /// Lets go of entry nodes that were kept: nothing of this group is to be held.
    pub fn let_go(&self, group: i32) {
        self.all_kept().retain(|whose, _| whose.0 != group);
    }

    /// A new session on any member.
    pub(super) async fn open(
        &self,
        member: &HostPort,
        database: &Arc<str>,
    ) -> Result<Connection, SqlError> {
        Connection::open(&self.shared.login, member, database).await
    }

    /// What holds of all groups have together on an entry node.
    pub(super) fn references(&self, entry_node: &HostPort, database: &Arc<str>) -> References {
        let references = &self.shared.references;
        let mut references = references.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (entry_node.clone(), database.clone());
        references.entry(key).or_default().clone()
    }

    /// Keeps a session for a while, if it is still good for something.
    pub(super) fn put_back(&self, database: &Arc<str>, mut session: Connection) {
        if !session.is_usable() {
            return;
        }
        session.unname();
        let key = (session.address.clone(), database.clone());
        let shared = Arc::downgrade(&self.shared);
        let expiring = key.clone();
        let expiry = tokio::spawn(async move {
            sleep(LINGER).await;
            if let Some(shared) = shared.upgrade() {
                let entry_nodes = Self { shared };
                let mut warm = entry_nodes.warm();
                if let Some(sessions) = warm.get_mut(&expiring) {
                    let own = tokio::task::id();
                    sessions.retain(|session| session.expiry.id() != own);
                    if sessions.is_empty() {
                        warm.remove(&expiring);
                    }
                }
            }
        });
        let warm = Warm {
            session: Some(session),
            expiry,
        };
        self.warm().entry(key).or_default().push(warm);
    }
}

/// An entry node's part in something.
pub(super) type Part<'a, T> = Pin<Box<dyn Future<Output = Result<T, StepError>> + Send + 'a>>;

/// What became of the parts: the coordinator's, those of the entry nodes that came to their end, and the
/// entry nodes that did not.
pub(super) type Parts<C, D> = (C, Vec<(HostPort, D)>, Vec<Skipped>);

/// Runs the coordinator's part and the entry nodes' side by side. The entry nodes have [`ENTRY_NODE_PATIENCE`] more
/// than the coordinator; who has not come to an end by then is skipped, and so is who failed, unless
/// it [is no entry node](StepError::is_no_entry_node). If the coordinator fails, so does all of it.
pub(super) async fn side_by_side<C, D>(
    coordinator: impl Future<Output = Result<C, StepError>>,
    entry_nodes: Vec<(HostPort, Part<'_, D>)>,
) -> Result<Parts<C, D>, StepError> {
    let mut missing: Vec<HostPort> = entry_nodes
        .iter()
        .map(|(entry_node, _)| entry_node.clone())
        .collect();
    let mut under_way: FuturesUnordered<_> = entry_nodes
        .into_iter()
        .map(|(entry_node, part)| async move { (entry_node, part.await) })
        .collect();
    let mut done = Vec::new();
    let mut skipped = Vec::new();
    let mut note = |entry_node: HostPort, result: Result<D, StepError>| {
        missing.retain(|other| *other != entry_node);
        match result {
            Ok(part) => done.push((entry_node, part)),
            Err(error) if error.is_no_entry_node() => {}
            Err(error) => skipped.push(Skipped {
                entry_node,
                error: error.to_string(),
            }),
        }
    };
    let mut coordinator = pin!(coordinator);
    let decided = loop {
        tokio::select! {
            decided = &mut coordinator => break decided?,
            Some((entry_node, result)) = under_way.next(), if !under_way.is_empty() => note(entry_node, result),
        }
    };
    let mut patience = pin!(sleep(ENTRY_NODE_PATIENCE));
    while !under_way.is_empty() {
        tokio::select! {
            Some((entry_node, result)) = under_way.next() => note(entry_node, result),
            () = &mut patience => break,
        }
    }
    drop(under_way);
    skipped.extend(missing.into_iter().map(|entry_node| Skipped {
        entry_node,
        error: format!(
            "not done {} ms after the coordinator",
            ENTRY_NODE_PATIENCE.as_millis()
        ),
    }));
    Ok((decided, done, skipped))
}
