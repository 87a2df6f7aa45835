//! One configured database on the coordinator leader: finds the leader from the coordinator
//! scope's view, verifies it over SQL, keeps one warm session, learns which Citus it speaks to and
//! keeps the rows known.
//!
//! Databases share nothing, so one that is broken, hung or missing delays no other (rule 8).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use dcs_watch::client::Retry;
use dcs_watch::{Freshness, HostPort, ScopeView};
use futures_util::future::join;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use super::catalogue::{detect, read_rows};
use super::connect::Connection;
use super::error::SqlError;
use super::login::{Login, SharedLogin};
use super::pool::{Leased, Pool};
use super::reference_tables::ReferenceTables;
use super::server::{Server, leader_of};
use super::writer_lock::WriterLock;
use citus_core::plan::{Row, Rows};
use citus_core::policy::Policy;
use citus_core::sql::{Dialect, FAULT_FIXED_BY};

/// What is known of one database.
#[derive(Clone, Debug)]
pub struct DatabaseState {
    /// Its rows.
    pub rows: Rows,
    /// The Citus it has, once connected.
    pub dialect: Option<Arc<Dialect>>,
    /// The verified coordinator leader, while connected.
    pub server: Option<Server>,
    /// Another daemon is the writer there, in words.
    pub other_writer: Option<String>,
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
    pool: Pool,
    reference_tables: ReferenceTables,
    /// Reads and publishes are one, or an older read could be published after a newer one.
    reading: AsyncMutex<()>,
    recovering: AsyncMutex<()>,
    reread: Notify,
    changed: watch::Sender<()>,
}

impl Database {
    /// A database nothing is known of yet; [`Database::run`] finds out, and `changed` signals it.
    pub fn new(name: &str, login: SharedLogin, changed: watch::Sender<()>) -> Self {
        let why = "not connected to the coordinator yet".to_owned();
        let state = DatabaseState {
            rows: Rows::Unknown(why),
            dialect: None,
            server: None,
            other_writer: None,
        };
        let name: Arc<str> = name.into();
        Self {
            name: name.clone(),
            shared: Arc::new(Shared {
                login,
                state: watch::Sender::new(state),
                pool: Pool::new(&name),
                reference_tables: ReferenceTables::default(),
                reading: AsyncMutex::new(()),
                recovering: AsyncMutex::new(()),
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

    /// Whether our role may change `pg_dist_node` itself, which a read move does; true until it is
    /// known.
    pub fn may_update(&self) -> bool {
        let state = self.shared.state.borrow();
        state
            .dialect
            .as_ref()
            .is_none_or(|dialect| dialect.moves_plainly())
    }

    /// An answer was ambiguous: the rows are unknown until they are read again.
    pub(crate) fn doubt(&self, why: &str) {
        self.publish(|state| state.rows = Rows::Unknown(why.to_owned()));
        self.shared.reread.notify_one();
    }

    fn publish(&self, change: impl FnOnce(&mut DatabaseState)) {
        let news = self.shared.state.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            before.rows != state.rows
                || before.server != state.server
                || before.other_writer != state.other_writer
        });
        if news {
            self.shared.changed.send_replace(());
        }
    }

    /// Reads the rows on a session and publishes them.
    pub(crate) async fn refresh(
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

    /// How long a step waits for writers in its way before they are terminated.
    pub(crate) fn cooldown(&self) -> Duration {
        self.shared.login.lock_timeout
    }

    /// How long the server keeps a move's locks at the most.
    pub(crate) fn silence(&self) -> Duration {
        self.shared.login.silence
    }

    /// The Citus this database has.
    pub(crate) fn dialect(&self) -> Result<Arc<Dialect>, SqlError> {
        self.served().map(|(_, dialect)| dialect)
    }

    fn served(&self) -> Result<(Server, Arc<Dialect>), SqlError> {
        let state = self.shared.state.borrow();
        match (&state.server, &state.dialect) {
            (Some(server), Some(dialect)) => Ok((server.clone(), dialect.clone())),
            _ => Err(SqlError::Io(not_connected(&state.rows))),
        }
    }

    /// A session on the verified coordinator leader, warm if one is free; one of those that steps
    /// may take.
    pub(crate) async fn acquire(&self) -> Result<(Leased, Arc<Dialect>), SqlError> {
        let permit = self
            .shared
            .pool
            .step_permit(self.shared.login.statement_timeout)
            .await?;
        let (session, dialect) = self.session(true).await?;
        Ok((Leased::new(session, permit), dialect))
    }

    /// The same for a hold, which has it for long: out of another supply than that of the steps,
    /// and never waited for.
    pub(crate) async fn acquire_for_hold(&self) -> Result<(Leased, Arc<Dialect>), SqlError> {
        let permit = self.shared.pool.hold_permit()?;
        let (session, dialect) = self.session(false).await?;
        Ok((Leased::new(session, permit), dialect))
    }

    /// The same for a question, out of a supply of its own: a member that is silent keeps it for a
    /// second, and no step waits for that.
    pub(super) async fn acquire_for_question(&self) -> Result<(Leased, Arc<Dialect>), SqlError> {
        let permit = self
            .shared
            .pool
            .question_permit(self.shared.login.statement_timeout)
            .await?;
        let (session, dialect) = self.session(false).await?;
        Ok((Leased::new(session, permit), dialect))
    }

    /// A session out of no supply, for what is itself bounded in number, or brief.
    pub(crate) async fn aside(&self) -> Result<(Connection, Arc<Dialect>), SqlError> {
        self.session(false).await
    }

    async fn session(&self, for_a_step: bool) -> Result<(Connection, Arc<Dialect>), SqlError> {
        let (server, dialect) = self.served()?;
        if let Some(warm) = self.shared.pool.take(&server, for_a_step) {
            return Ok((warm, dialect));
        }
        let mut session = Connection::open(&self.shared.login, &server.address, &self.name).await?;
        if session.verify().await? {
            return Err(SqlError::Answer(format!(
                "{} takes no writes any more",
                server.address
            )));
        }
        Ok((session, dialect))
    }

    /// Gives a session back, and its place in the supply it was taken from.
    pub(crate) fn release(&self, session: Leased) {
        self.put_back(session.into_connection());
    }

    /// Keeps a session warm, if it is still good for something.
    pub(crate) fn put_back(&self, session: Connection) {
        self.shared.pool.put_back(session);
    }

    /// The session that holds the reference tables on the coordinator, for the holds of all groups.
    pub(crate) fn reference_tables(&self) -> &ReferenceTables {
        &self.shared.reference_tables
    }

    /// The turn to recover prepared transactions: one at a time is all that Citus does, too.
    pub(crate) async fn recovering(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.recovering.lock().await
    }

    /// Forgets what was known, and the sessions too unless the leader is still at this address.
    fn forget(&self, why: String, but_keep: Option<&HostPort>) {
        self.shared.pool.forget(but_keep);
        self.publish(|state| {
            state.rows = Rows::Unknown(why);
            state.server = None;
            state.other_writer = None;
        });
    }

    /// Another daemon is the writer: nothing is known here, so nothing is changed.
    fn observe(&self, other: String, lasts: bool) {
        self.publish(|state| {
            state.rows =
                Rows::Unknown(format!("{other}; this one observes until that one is gone"));
            state.server = None;
            state.other_writer = lasts.then_some(other);
        });
    }

    /// Keeps this database known until its future is dropped.
    pub async fn run(self, coordinator: watch::Receiver<Arc<ScopeView>>, policy: Policy) {
        self.run_with(coordinator, policy, &mut Writer::Any).await;
    }

    /// The same, and known only while no other daemon may write there.
    pub async fn run_as_the_writer(
        self,
        coordinator: watch::Receiver<Arc<ScopeView>>,
        policy: Policy,
    ) {
        self.run_with(coordinator, policy, &mut Writer::Only(None))
            .await;
    }

    async fn run_with(
        self,
        mut coordinator: watch::Receiver<Arc<ScopeView>>,
        policy: Policy,
        writer: &mut Writer,
    ) {
        let mut retry = Retry::new(Duration::from_millis(20), Duration::from_secs(5));
        // In a row, at this server.
        let mut failures = 0_u32;
        let mut failed_at = None;
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
            let result = tokio::select! {
                result = self.serve(&target, &policy, &mut retry, writer) => result,
                () = another_leader(&mut coordinator, &target) => continue,
            };
            let Err(error) = result;
            let (database, scope) = (&self.name, &view.scope);
            let pause = retry.pause();
            let was_there = matches!(self.rows(), Rows::Known(_));
            if was_there || failed_at.as_ref() != Some(&target.address) {
                failures = 0;
                failed_at = Some(target.address.clone());
            }
            failures += 1;
            // A coordinator that is away for the night stays readable.
            if failures.is_power_of_two() {
                warn!(
                    %database, %scope, member = target.member, address = %target.address, failures,
                    retry_in_ms = pause.as_millis(),
                    "no session on the coordinator leader: {error}"
                );
            }
            self.forget(
                format!("{} ({}): {error}", target.member, target.address),
                None,
            );
            tokio::select! {
                () = sleep(pause) => {}
                () = another_leader(&mut coordinator, &target) => {}
            }
        }
    }

    /// Connects, verifies, and keeps the rows known until something breaks.
    async fn serve(
        &self,
        target: &Server,
        policy: &Policy,
        retry: &mut Retry,
        writer: &mut Writer,
    ) -> Result<std::convert::Infallible, SqlError> {
        let (login, address) = (&self.shared.login, &target.address);
        let session = async {
            match self.shared.pool.take_at(address) {
                Some(session) => Ok(session),
                None => Connection::open(login, address, &self.name).await,
            }
        };
        let (session, prepared) = join(session, writer.prepare(login, address, &self.name)).await;
        let mut session = session?;
        prepared?;
        while session.verify().await? {
            let (member, address) = (&target.member, &target.address);
            let why = format!("coordinator leader {member} ({address}) is still in recovery");
            self.forget(why, None);
            sleep(policy.probe_interval).await;
        }
        let found = session.system().await?;
        if let (Some(found), Some(expected)) = (found, target.system)
            && found != expected
        {
            return Err(SqlError::Answer(format!(
                "it is of another database cluster: its system identifier is {found}, that of the \
                 scope {expected} (the initialize key); fix the member's connect_address, or find \
                 out what was given its address"
            )));
        }
        if let Writer::Only(Some(lock)) = writer {
            self.become_the_writer(target, lock).await?;
        }
        let dialect = Arc::new(detect(&mut session).await?);
        let rows = read_rows(&mut session, &dialect).await?;
        info!(
            database = %self.name, member = target.member, address = %target.address,
            citus = dialect.version, rows = rows.len(), "connected to the coordinator leader"
        );
        if let Some(fault) = dialect.known_fault() {
            warn!(database = %self.name, member = target.member, "{fault}: {FAULT_FIXED_BY}");
        }
        let closing = session.closing();
        self.shared.pool.serve(target.clone(), session);
        self.publish(|state| {
            let (rows, dialect) = (Rows::known(rows), Some(dialect.clone()));
            *state = DatabaseState {
                rows,
                dialect,
                server: Some(target.clone()),
                other_writer: None,
            };
        });
        retry.succeeded();
        tokio::select! {
            result = self.keep(closing, &dialect, policy) => result,
            error = writer.until_lost() => Err(error),
        }
    }

    /// Waits until this daemon is the only writer of the database.
    async fn become_the_writer(
        &self,
        target: &Server,
        lock: &mut WriterLock,
    ) -> Result<(), SqlError> {
        let address = &target.address;
        let mut told = None;
        while let Some(other) = lock.take().await? {
            let lasts = lock.is_worth_a_word();
            if lasts && told.as_ref() != Some(&other) {
                let (database, member) = (&self.name, &target.member);
                warn!(
                    %database, member, %address,
                    "{other}: this one only observes, until that one is gone; run one instance"
                );
                told = Some(other.clone());
            }
            self.observe(other, lasts);
            lock.pause().await;
        }
        if told.is_some() {
            info!(database = %self.name, "the other citus-sync is gone: this one writes from now on");
        }
        Ok(())
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
        closing: impl Future<Output = ()>,
        dialect: &Dialect,
        policy: &Policy,
    ) -> Result<std::convert::Infallible, SqlError> {
        let mut closing = pin!(closing);
        loop {
            tokio::select! {
                () = &mut closing => {
                    return Err(SqlError::Io("the coordinator closed the session".to_owned()));
                }
                () = self.shared.reread.notified() => {}
                () = sleep(self.until_next_look(policy)) => {}
            }
            // Beside the permits: that every session is busy with steps is no reason not to look.
            let (mut session, _) = self.session(true).await?;
            let refreshed = self.refresh(&mut session, dialect).await;
            self.put_back(session);
            refreshed?;
        }
    }
}

/// Waits until the coordinator has another leader than this one, or none.
async fn another_leader(coordinator: &mut watch::Receiver<Arc<ScopeView>>, target: &Server) {
    let still = |view: &Arc<ScopeView>| match leader_of(view) {
        Ok(server) => server == *target,
        // A stale view is no reason to drop a good session: nothing is decided on it.
        Err(_) => view.freshness != Freshness::Fresh,
    };
    // An error means that the watcher is gone: the daemon is stopping.
    let _ = coordinator.wait_for(|view| !still(view)).await;
}

/// Who may write to a database beside this daemon.
enum Writer {
    /// It is not asked, because this daemon does not write.
    Any,
    /// Nobody, while the lock is there.
    Only(Option<Box<WriterLock>>),
}

impl Writer {
    /// Opens the session for the lock, unless it stands at this address.
    async fn prepare(
        &mut self,
        login: &Login,
        address: &HostPort,
        database: &str,
    ) -> Result<(), SqlError> {
        let Self::Only(lock) = self else {
            return Ok(());
        };
        if !lock.as_ref().is_some_and(|lock| lock.stands_at(address)) {
            *lock = None;
            let opened = WriterLock::open(login, address, database).await?;
            *lock = Some(Box::new(opened));
        }
        Ok(())
    }

    /// Waits until this daemon is not the only writer any more.
    async fn until_lost(&mut self) -> SqlError {
        let Self::Only(Some(lock)) = self else {
            return std::future::pending().await;
        };
        let error = lock.until_lost().await;
        *self = Self::Only(None);
        error
    }
}

/// The pause between two reads of the rows while some worker is not synced yet: soon enough for
/// `status` to be true, and as often as its metadata sync tries again
/// (`citus.metadata_sync_retry_interval`).
const WHILE_UNSYNCED: Duration = Duration::from_secs(5);

fn not_connected(rows: &Rows) -> String {
    match rows {
        Rows::Unknown(why) => why.clone(),
        Rows::Known(_) => "not connected to the coordinator leader".to_owned(),
    }
}
