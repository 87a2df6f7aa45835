//! One configured database on the coordinator leader: finds the leader from the coordinator
//! scope's view, verifies it over SQL, keeps one warm session, learns which Citus it speaks to and
//! keeps the rows known.
//!
//! Databases share nothing, so one that is broken, hung or missing delays no other (rule 8).

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dcs_watch::edge::retry::Retry;
use dcs_watch::{Freshness, HostPort, ScopeView};
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_postgres::SimpleQueryRow;
use tracing::{info, warn};

use super::connect::SharedLogin;
use super::{Connection, SqlError};
use crate::plan::{NodeRole, Row, Rows};
use crate::policy::Policy;
use crate::statements::{COLUMNS, Dialect, FUNCTIONS, Function, IN_RECOVERY, MAY_LOCK, VERSION};

/// Sessions kept open between steps: one for the usual single move, one more for a second group
/// that moves at the same moment.
const KEPT_WARM: usize = 2;

/// Steps of different groups that may be under way in one database at once. Each takes one
/// connection of the coordinator's `max_connections`.
const AT_ONCE: usize = 16;

/// The coordinator leader as this database's sessions know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The member's name.
    pub member: String,
    /// Where it is.
    pub address: HostPort,
    /// `mod_revision` of the leader key it was verified for.
    pub leader_revision: i64,
}

/// What is known of one database.
#[derive(Clone, Debug)]
pub struct DatabaseState {
    /// Its rows.
    pub rows: Rows,
    /// The Citus it has, once connected.
    pub dialect: Option<Arc<Dialect>>,
    /// The verified coordinator leader, while connected.
    pub server: Option<Server>,
}

/// A handle to one database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    /// The database's name.
    pub name: Arc<str>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    login: SharedLogin,
    state: watch::Sender<DatabaseState>,
    pool: Mutex<Pool>,
    sessions: Semaphore,
    /// Reads and publishes are one, or an older read could be published after a newer one.
    reading: AsyncMutex<()>,
    reread: Notify,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Sessions from before the latest verification are not taken back.
    server: Option<Server>,
    idle: Vec<Connection>,
}

impl Database {
    /// A database nothing is known of yet; [`Database::run`] finds out, and `changed` tells.
    pub fn new(name: &str, login: SharedLogin, changed: watch::Sender<()>) -> Self {
        let why = "not connected to the coordinator yet".to_owned();
        let state = DatabaseState {
            rows: Rows::Unknown(why),
            dialect: None,
            server: None,
        };
        Self {
            name: name.into(),
            shared: Arc::new(Shared {
                login,
                state: watch::Sender::new(state),
                pool: Mutex::default(),
                sessions: Semaphore::new(AT_ONCE),
                reading: AsyncMutex::new(()),
                reread: Notify::new(),
                changed,
            }),
        }
    }

    /// What is known now.
    pub fn state(&self) -> DatabaseState {
        self.shared.state.borrow().clone()
    }

    /// The rows known now.
    pub fn rows(&self) -> Rows {
        self.shared.state.borrow().rows.clone()
    }

    /// Whether our role may update `pg_dist_node`; true until it is known.
    pub fn may_update(&self) -> bool {
        let state = self.shared.state.borrow();
        state
            .dialect
            .as_ref()
            .is_none_or(|dialect| dialect.order().is_some())
    }

    /// An answer was ambiguous: the rows are unknown until they are read again.
    pub(super) fn doubt(&self, why: &str) {
        self.publish(|state| state.rows = Rows::Unknown(why.to_owned()));
        self.shared.reread.notify_one();
    }

    fn publish(&self, change: impl FnOnce(&mut DatabaseState)) {
        let news = self.shared.state.send_if_modified(|state| {
            let before = (state.rows.clone(), state.server.clone());
            change(state);
            before != (state.rows.clone(), state.server.clone())
        });
        if news {
            self.shared.changed.send_replace(());
        }
    }

    /// Reads the rows on a session and publishes them.
    pub(super) async fn refresh(
        &self,
        session: &mut Connection,
        dialect: &Dialect,
    ) -> Result<(), SqlError> {
        let _one_at_a_time = self.shared.reading.lock().await;
        let rows = Rows::known(read_rows(session, dialect).await?);
        self.publish(|state| {
            // A session that outlived its coordinator leader has nothing to say any more.
            if state
                .server
                .as_ref()
                .is_some_and(|server| server.address == session.address)
            {
                state.rows = rows;
            }
        });
        Ok(())
    }

    /// A session on the verified coordinator leader, warm if one is free.
    pub(super) async fn acquire(&self) -> Result<(Connection, Arc<Dialect>), SqlError> {
        let wait = self.shared.login.statement_timeout;
        let all_busy = SqlError::Deadline {
            what: "waiting for a free session",
            after: wait,
        };
        // The permit is counted back in `release`; a session that is dropped instead (its task
        // was aborted at shutdown) takes its permit with it, and nobody is left to miss it.
        match timeout(wait, self.shared.sessions.acquire()).await {
            Ok(Ok(permit)) => permit.forget(),
            _ => return Err(all_busy),
        }
        let session = self.acquire_permitted().await;
        if session.is_err() {
            self.shared.sessions.add_permits(1);
        }
        session
    }

    async fn acquire_permitted(&self) -> Result<(Connection, Arc<Dialect>), SqlError> {
        let (server, dialect) = {
            let state = self.shared.state.borrow();
            match (&state.server, &state.dialect) {
                (Some(server), Some(dialect)) => (server.clone(), dialect.clone()),
                _ => return Err(SqlError::Io(not_connected(&state.rows))),
            }
        };
        let warm = {
            let mut pool = self.pool();
            pool.idle.retain(Connection::is_usable);
            (pool.server.as_ref() == Some(&server))
                .then(|| pool.idle.pop())
                .flatten()
        };
        if let Some(session) = warm {
            return Ok((session, dialect));
        }
        let mut session = Connection::open(&self.shared.login, &server.address, &self.name).await?;
        if session.boolean(IN_RECOVERY).await? {
            return Err(SqlError::Answer(format!(
                "{} takes no writes any more",
                server.address
            )));
        }
        Ok((session, dialect))
    }

    /// Gives a session back.
    pub(super) fn release(&self, session: Connection) {
        self.shared.sessions.add_permits(1);
        self.put_back(session);
    }

    fn put_back(&self, session: Connection) {
        let mut pool = self.pool();
        let current = pool
            .server
            .as_ref()
            .is_some_and(|server| server.address == session.address);
        if current && session.is_usable() && pool.idle.len() < KEPT_WARM {
            pool.idle.push(session);
        }
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.shared
            .pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was known, and the sessions too unless the leader is still at this address.
    fn forget(&self, why: String, but_keep: Option<&HostPort>) {
        {
            let mut pool = self.pool();
            pool.server = None;
            pool.idle
                .retain(|session| Some(&session.address) == but_keep);
        }
        self.publish(|state| {
            state.rows = Rows::Unknown(why);
            state.server = None;
        });
    }

    /// Keeps this database known until its future is dropped.
    pub async fn run(self, mut coordinator: watch::Receiver<Arc<ScopeView>>, policy: Policy) {
        let mut retry = Retry::new(Duration::from_millis(20), Duration::from_secs(5));
        loop {
            let view = coordinator.borrow_and_update().clone();
            let target = match leader_of(&view) {
                Ok(server) => server,
                Err(why) => {
                    self.forget(why, None);
                    if coordinator.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let verifying = format!("verifying coordinator leader {}", target.member);
            self.forget(verifying, Some(&target.address));
            let other = async |coordinator: &mut watch::Receiver<Arc<ScopeView>>| {
                let still = |view: &Arc<ScopeView>| match leader_of(view) {
                    Ok(server) => server == target,
                    // A stale view is no reason to drop a good session: nothing is decided on it.
                    Err(_) => view.freshness != Freshness::Fresh,
                };
                // An error means that the watcher is gone: the daemon is stopping.
                let _ = coordinator.wait_for(|view| !still(view)).await;
            };
            let result = tokio::select! {
                result = self.serve(&target, &policy, &mut retry) => result,
                () = other(&mut coordinator) => continue,
            };
            let Err(error) = result;
            let (database, scope) = (&self.name, &view.scope);
            let pause = retry.pause();
            warn!(
                %database, %scope, member = target.member, address = %target.address,
                retry_in_ms = pause.as_millis(),
                "no session on the coordinator leader: {error}"
            );
            self.forget(
                format!("{} ({}): {error}", target.member, target.address),
                None,
            );
            tokio::select! {
                () = sleep(pause) => {}
                () = other(&mut coordinator) => {}
            }
        }
    }

    /// Connects, verifies, and keeps the rows known until something breaks.
    async fn serve(
        &self,
        target: &Server,
        policy: &Policy,
        retry: &mut Retry,
    ) -> Result<std::convert::Infallible, SqlError> {
        let reusable = {
            let mut pool = self.pool();
            pool.idle
                .retain(|session| session.is_usable() && session.address == target.address);
            pool.idle.pop()
        };
        let mut session = match reusable {
            Some(session) => session,
            None => Connection::open(&self.shared.login, &target.address, &self.name).await?,
        };
        while session.boolean(IN_RECOVERY).await? {
            let (member, address) = (&target.member, &target.address);
            let why = format!("coordinator leader {member} ({address}) is still in recovery");
            self.forget(why, None);
            sleep(policy.probe_interval).await;
        }
        let dialect = Arc::new(detect(&mut session).await?);
        let rows = read_rows(&mut session, &dialect).await?;
        info!(
            database = %self.name, member = target.member, address = %target.address,
            citus = dialect.version, rows = rows.len(), "connected to the coordinator leader"
        );
        self.pool().server = Some(target.clone());
        self.publish(|state| {
            let (rows, dialect) = (Rows::known(rows), Some(dialect.clone()));
            *state = DatabaseState {
                rows,
                dialect,
                server: Some(target.clone()),
            };
        });
        retry.succeeded();
        self.keep(session, &dialect, policy).await
    }

    fn until_next_look(&self, policy: &Policy) -> Duration {
        let unsynced = match &self.shared.state.borrow().rows {
            Rows::Known(rows) => rows.iter().any(Row::is_unsynced),
            Rows::Unknown(_) => false,
        };
        let every = policy.reconcile_every;
        if unsynced {
            every.min(WHILE_UNSYNCED)
        } else {
            every
        }
    }

    async fn keep(
        &self,
        session: Connection,
        dialect: &Dialect,
        policy: &Policy,
    ) -> Result<std::convert::Infallible, SqlError> {
        // The first session stays in the pool, where a step may borrow it; what closes it is
        // noticed here all the same.
        let mut closing = pin!(session.closing());
        self.pool().idle.push(session);
        loop {
            tokio::select! {
                () = &mut closing => {
                    return Err(SqlError::Io("the coordinator closed the session".to_owned()));
                }
                () = self.shared.reread.notified() => {}
                () = sleep(self.until_next_look(policy)) => {}
            }
            // Beside the permits: that every session is busy with steps is no reason not to look.
            let (mut session, _) = self.acquire_permitted().await?;
            let refreshed = self.refresh(&mut session, dialect).await;
            self.put_back(session);
            refreshed?;
        }
    }
}

/// While Citus has not told every worker of a move yet: soon enough for `status` to be true, and as
/// often as its metadata sync tries again (`citus.metadata_sync_retry_interval`).
const WHILE_UNSYNCED: Duration = Duration::from_secs(5);

fn not_connected(rows: &Rows) -> String {
    match rows {
        Rows::Unknown(why) => why.clone(),
        Rows::Known(_) => "not connected to the coordinator leader".to_owned(),
    }
}

/// The member that holds the coordinator's leader key, or why there is none to speak to.
fn leader_of(view: &ScopeView) -> Result<Server, String> {
    let scope = &view.scope;
    match &view.freshness {
        Freshness::Fresh => {}
        Freshness::Unknown => return Err("nothing was read from etcd yet".to_owned()),
        Freshness::Stale { reason } => return Err(format!("etcd's view is stale ({reason})")),
    }
    if !view.exists() {
        return Err(format!("etcd knows no scope {scope}"));
    }
    let leader = view
        .leader
        .as_ref()
        .ok_or(format!("coordinator scope {scope} has no leader"))?;
    let address = view.leader_address().ok_or(format!(
        "member {} leads {scope}, but its member key has no usable conn_url",
        leader.value
    ))?;
    Ok(Server {
        member: leader.value.clone(),
        address: address.clone(),
        leader_revision: leader.mod_revision,
    })
}

/// Learns which Citus this database has.
pub(super) async fn detect(session: &mut Connection) -> Result<Dialect, SqlError> {
    let functions: Vec<Function> = session
        .rows(FUNCTIONS)
        .await?
        .iter()
        .map(|row| {
            Ok(Function {
                name: text(row, 0)?,
                arguments: number(row, 1)?,
            })
        })
        .collect::<Result<_, SqlError>>()?;
    let columns = session.rows(COLUMNS).await?;
    let columns: BTreeSet<String> = columns
        .iter()
        .map(|row| text(row, 0))
        .collect::<Result<_, _>>()?;
    let version = if Dialect::has_version(&functions) {
        session
            .rows(VERSION)
            .await?
            .first()
            .map(|row| text(row, 0))
            .transpose()?
    } else {
        None
    };
    // "Citus 13.2.2 on x86_64-pc-linux-gnu, compiled by …": the first two words are for people.
    let version = version.map(|full| match full.split_once(" on ") {
        Some((short, _)) => short.to_owned(),
        None => full,
    });
    let may_lock = session
        .rows(MAY_LOCK)
        .await?
        .first()
        .is_some_and(|row| row.get(0) == Some("t"));
    Dialect::detect(&functions, columns, version, may_lock)
        .map_err(|none| SqlError::Answer(none.to_string()))
}

/// Reads all rows of `pg_dist_node`.
pub(super) async fn read_rows(
    session: &mut Connection,
    dialect: &Dialect,
) -> Result<Vec<Row>, SqlError> {
    let rows = session.rows(&dialect.read_rows()).await?;
    rows.iter().map(parse_row).collect()
}

fn parse_row(row: &SimpleQueryRow) -> Result<Row, SqlError> {
    Ok(Row {
        nodeid: number(row, 0)?,
        groupid: number(row, 1)?,
        address: HostPort {
            host: text(row, 2)?,
            port: number(row, 3)?,
        },
        role: NodeRole::from_text(&text(row, 4)?),
        cluster: text(row, 5)?,
        active: row.get(6) == Some("t"),
        has_metadata: row.get(7) == Some("t"),
        metadata_synced: row.get(8) == Some("t"),
    })
}

fn text(row: &SimpleQueryRow, column: usize) -> Result<String, SqlError> {
    row.try_get(column)
        .ok()
        .flatten()
        .map(str::to_owned)
        .ok_or_else(|| SqlError::Answer(format!("column {column} of a catalogue is empty")))
}

fn number<T: std::str::FromStr>(row: &SimpleQueryRow, column: usize) -> Result<T, SqlError> {
    let text = text(row, column)?;
    text.parse().map_err(|_| {
        SqlError::Answer(format!(
            "column {column} of a catalogue is {text:?}, no number that fits"
        ))
    })
}
