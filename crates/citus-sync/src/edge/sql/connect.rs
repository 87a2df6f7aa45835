//! A connection to one database of one server, with a deadline on everything.
//!
//! `connect_timeout` of the client library is per address and does not cover the handshake, and
//! dropping a query's future does not end it on the server: so every call here has one overall
//! deadline, and a connection that missed one is thrown away, its query cancelled.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dcs_watch::HostPort;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::SqlError;
use crate::config::{Password, passfile};
use crate::policy::Policy;
use crate::statements::{APPLICATION, VERIFY};

/// Who logs in, and the deadlines of its sessions.
#[derive(Clone, Debug)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password, or where to find it.
    pub password: Password,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// Overall deadline of one connect.
    pub connect_timeout: Duration,
    /// `statement_timeout` of the session, and our own deadline a little later.
    pub statement_timeout: Duration,
    /// `lock_timeout` of the session.
    pub lock_timeout: Duration,
    /// `idle_in_transaction_session_timeout` of the session: so long are locks kept if we fall silent,
    /// and by a move at all.
    pub silence: Duration,
    /// How soon a host that says nothing any more is dead to us.
    pub keepalive: Keepalive,
}

/// How TCP asks a silent host whether it is still there. Costs one small packet each `idle`, which
/// the kernel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence after which it asks, and between its questions.
    idle: Duration,
    /// How long data or questions may stay unanswered (`TCP_USER_TIMEOUT`).
    user_timeout: Duration,
}

impl Keepalive {
    /// Sessions that work: asked after 5 s, given up 10 s after the last sign.
    const PATIENT: Self = Self {
        idle: Duration::from_secs(5),
        user_timeout: Duration::from_secs(10),
    };

    /// Sessions that watch a leader: the least that Linux does, whole seconds. A host that is gone
    /// is noticed between one and two seconds after its last sign.
    const WATCHFUL: Self = Self {
        idle: Duration::from_secs(1),
        user_timeout: Duration::from_millis(900),
    };
}

/// How much longer than the server's own `statement_timeout` we wait: the server's error says
/// what it was doing, ours can only say that nothing came.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// The longest `idle_in_transaction_session_timeout` of a session: a frozen or vanished daemon must not
/// keep a group's locks. A healthy one is never idle in a transaction for more than a round trip
/// and the turn of a few others. Where a hold may last less, so may every lock (rule 2).
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// How long we may be silent before our sessions are dead to a server: keepalive after 5 s, then
/// every 2 s, three times.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

impl Login {
    /// From the configuration of a formation.
    pub fn new(user: &str, password: &Password, policy: &Policy) -> Self {
        Self {
            user: user.to_owned(),
            password: password.clone(),
            application_name: APPLICATION.to_owned(),
            connect_timeout: policy.connect_timeout,
            statement_timeout: policy.statement_timeout,
            lock_timeout: policy.lock_cooldown,
            silence: policy.hold_timeout.min(IDLE_IN_TRANSACTION),
            keepalive: Keepalive::PATIENT,
        }
    }

    /// The same for a session that only asks whether its server takes writes: an answer that takes
    /// longer than a connect is none.
    #[must_use]
    pub fn for_probes(&self) -> Self {
        Self {
            statement_timeout: self.connect_timeout,
            keepalive: Keepalive::WATCHFUL,
            ..self.clone()
        }
    }

    fn password_for(&self, address: &HostPort, database: &str) -> Result<Option<String>, SqlError> {
        match &self.password {
            Password::None => Ok(None),
            Password::Literal(secret) => Ok(Some(secret.expose().to_owned())),
            Password::Passfile(path) => look_up(path, address, database, &self.user),
        }
    }

    fn settings(&self) -> String {
        let user_timeout = TCP_USER_TIMEOUT.as_millis();
        [
            ("statement_timeout", self.statement_timeout.as_millis()),
            ("lock_timeout", self.lock_timeout.as_millis()),
            (
                "idle_in_transaction_session_timeout",
                self.silence.as_millis(),
            ),
            ("tcp_keepalives_idle", 5),
            ("tcp_keepalives_interval", 2),
            ("tcp_keepalives_count", 3),
            ("tcp_user_timeout", user_timeout),
        ]
        .map(|(name, value)| format!("-c {name}={value}"))
        .join(" ")
    }
}

fn look_up(
    path: &PathBuf,
    address: &HostPort,
    database: &str,
    user: &str,
) -> Result<Option<String>, SqlError> {
    // Read at every connect: a rotated password is picked up without a restart.
    let text = std::fs::read_to_string(path)
        .map_err(|e| SqlError::Password(format!("cannot read passfile {}: {e}", path.display())))?;
    Ok(passfile::look_up(
        &text,
        &address.host,
        address.port,
        database,
        user,
    ))
}

/// An open session.
#[derive(Debug)]
pub struct Connection {
    client: tokio_postgres::Client,
    /// Drives the socket; ends when it closes.
    driver: JoinHandle<()>,
    closed: watch::Receiver<bool>,
    deadline: Duration,
    broken: bool,
    /// A statement was begun whose answer has not been read. Stays when its future is dropped
    /// half-way: then the answer would come when nobody asked.
    under_way: bool,
    /// Its end means that the server is gone: it is lent with care ([`super::pool`]).
    pub(super) watched: bool,
    /// The process that serves it, once [`Connection::verify`] has asked.
    pub(super) pid: i32,
    /// Where this session is.
    pub address: HostPort,
}

impl Connection {
    /// Opens a session, handshake and authentication included, within the login's deadline.
    ///
    /// # Errors
    ///
    /// Whatever kept the session from opening; never hangs.
    pub async fn open(login: &Login, address: &HostPort, database: &str) -> Result<Self, SqlError> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&address.host)
            .port(address.port)
            .user(&login.user)
            .dbname(database)
            .application_name(&login.application_name)
            .options(login.settings())
            .connect_timeout(login.connect_timeout)
            .tcp_user_timeout(login.keepalive.user_timeout)
            .keepalives_idle(login.keepalive.idle)
            .keepalives_interval(login.keepalive.idle)
            .keepalives_retries(3);
        if let Some(password) = login.password_for(address, database)? {
            config.password(password);
        }
        // Boxed: the handshake's state is large, and would stay in every idle session's task.
        let handshake = Box::pin(config.connect(NoTls));
        let opened = timeout(login.connect_timeout, handshake).await;
        let (client, connection) = opened.map_err(|_| SqlError::Deadline {
            what: "connecting",
            after: login.connect_timeout,
        })??;
        let (tell_closed, closed) = watch::channel(false);
        let driver = tokio::spawn(async move {
            // What ended it is told by the statement that was under way, if one was.
            let _ = connection.await;
            tell_closed.send_replace(true);
        });
        let deadline = login.statement_timeout + GRACE;
        Ok(Self {
            client,
            driver,
            closed,
            deadline,
            broken: false,
            under_way: false,
            watched: false,
            pid: 0,
            address: address.clone(),
        })
    }

    /// Runs a batch of statements in one round trip.
    pub async fn run(&mut self, batch: &str) -> Result<(), SqlError> {
        self.run_within(batch, self.deadline).await
    }

    /// The same with a deadline of its own.
    pub(super) async fn run_within(
        &mut self,
        batch: &str,
        deadline: Duration,
    ) -> Result<(), SqlError> {
        self.under_way = true;
        let answer = timeout(deadline, self.client.batch_execute(batch)).await;
        self.settle(answer, deadline)
    }

    /// Runs a query, or a batch of statements, and gives its rows as text.
    pub async fn rows(&mut self, query: &str) -> Result<Vec<SimpleQueryRow>, SqlError> {
        self.rows_within(query, self.deadline).await
    }

    /// The same with a deadline of its own.
    pub(super) async fn rows_within(
        &mut self,
        query: &str,
        deadline: Duration,
    ) -> Result<Vec<SimpleQueryRow>, SqlError> {
        self.under_way = true;
        let answer = timeout(deadline, self.client.simple_query(query)).await;
        let messages = self.settle(answer, deadline)?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect())
    }

    /// Asks whether the server is in recovery, and notes which process serves this session.
    pub(super) async fn verify(&mut self) -> Result<bool, SqlError> {
        self.verify_within(self.deadline).await
    }

    /// The same with a deadline of its own.
    pub(super) async fn verify_within(&mut self, deadline: Duration) -> Result<bool, SqlError> {
        let rows = self.rows_within(VERIFY, deadline).await?;
        let answer = rows.first().and_then(|row| {
            let pid = row.get(1)?.parse().ok()?;
            Some((row.get(0)? == "t", pid))
        });
        let (in_recovery, pid) =
            answer.ok_or_else(|| SqlError::Answer(format!("nothing usable to {VERIFY}")))?;
        self.pid = pid;
        Ok(in_recovery)
    }

    /// Runs one query that answers one boolean.
    pub async fn boolean(&mut self, query: &str) -> Result<bool, SqlError> {
        let rows = self.rows(query).await?;
        match rows.first().and_then(|row| row.get(0)) {
            Some("t") => Ok(true),
            Some("f") => Ok(false),
            other => Err(SqlError::Answer(format!("{other:?} to {query}"))),
        }
    }

    /// Whether the session can be used again.
    pub fn is_usable(&self) -> bool {
        !self.broken && !self.under_way && !self.client.is_closed() && !*self.closed.borrow()
    }

    /// Completes when the other end closes the session, at once when it has.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closed = self.closed.clone();
        async move {
            // An error means that the driver is gone, which is as closed as it gets.
            let _ = closed.wait_for(|closed| *closed).await;
        }
    }

    fn settle<T>(
        &mut self,
        answer: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
        deadline: Duration,
    ) -> Result<T, SqlError> {
        self.under_way = false;
        let result = match answer {
            Ok(answer) => answer.map_err(SqlError::from),
            Err(_) => Err(SqlError::Deadline {
                what: "the statement",
                after: deadline,
            }),
        };
        if let Err(error) = &result
            && error.breaks_the_connection()
        {
            self.broken = true;
        }
        result
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without this the socket of a silent server would stay open until TCP gives up. A
        // statement that is still running over there is asked to end; whether that request
        // arrives decides nothing: the server's own statement_timeout ends it too.
        if (self.broken || self.under_way) && !self.client.is_closed() {
            let cancel = self.client.cancel_token();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(timeout(GRACE, async move {
                    let _ = cancel.cancel_query(NoTls).await;
                }));
            }
        }
        self.driver.abort();
    }
}

/// A login shared by the sessions of one formation.
pub(super) type SharedLogin = Arc<Login>;
