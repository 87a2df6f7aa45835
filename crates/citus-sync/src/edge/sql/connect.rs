//! A connection to one database of one server, with a deadline on everything.
//!
//! `connect_timeout` of the client library is per address and does not cover the handshake, and
//! dropping a query's future does not end it on the server: so every call here has one overall
//! deadline, and a connection that missed one is thrown away, its query cancelled.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dcs_watch::HostPort;
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::SqlError;
use super::bounded::{Bounded, Bounds};
use super::socket::{self, Keepalive};
use citus_core::config::{Password, passfile};
use citus_core::policy::Policy;
use citus_core::sql::{APPLICATION, VERIFY, rename};

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
    /// How much a server may send.
    pub bounds: Bounds,
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
            bounds: Bounds::CATALOGUE,
        }
    }

    /// The same for a session that only asks whether its server takes writes: an answer that takes
    /// longer than a connect is none.
    #[must_use]
    pub fn for_probes(&self) -> Self {
        Self {
            statement_timeout: self.connect_timeout,
            keepalive: Keepalive::WATCHFUL,
            bounds: Bounds::SMALL,
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

    /// What each session sets in its first packet, which no setting of a role or a database
    /// overrides.
    fn settings(&self) -> String {
        let user_timeout = TCP_USER_TIMEOUT.as_millis();
        let deadlines = [
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
        ];
        let deadlines = deadlines.map(|(name, value)| (name, value.to_string()));
        let relied_on = RELIED_ON.map(|(name, value)| (name, value.to_owned()));
        let all = relied_on.into_iter().chain(deadlines);
        all.map(|(name, value)| format!("-c {name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What our statements rely on, whatever `ALTER ROLE … SET` or `ALTER DATABASE … SET` say.
///
/// - Our statements qualify functions, but operators and casts are looked up in `search_path`. With
///   any other schema in it, an ordinary role that may create an operator there would have its own
///   function called with our rights.
/// - A standby refuses a serializable transaction (0A000), and nobody moves a row in one that is
///   read-only.
/// - Row security that is off turns a policy into an error.
const RELIED_ON: [(&str, &str); 5] = [
    ("search_path", "pg_catalog,pg_temp"),
    ("default_transaction_isolation", r"read\ committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("row_security", "on"),
];

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

/// A session is over: by an error, or because the server closed it.
#[derive(Clone, Debug)]
struct Ended(Option<Arc<str>>);

/// An open session.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says one thing, and they vary independently"
)]
pub struct Connection {
    client: tokio_postgres::Client,
    /// Drives the socket; ends when it closes.
    driver: JoinHandle<()>,
    /// Why it is closed, once it is.
    closed: watch::Receiver<Option<Ended>>,
    deadline: Duration,
    broken: bool,
    /// A statement was begun whose answer has not been read. Stays when its future is dropped
    /// half-way: then the answer would come when nobody asked.
    under_way: bool,
    /// Its end means that the server is gone: it is lent with care ([`super::pool`]).
    pub(super) watched: bool,
    /// The process that serves it, once [`Connection::verify`] has asked.
    pub(super) pid: i32,
    /// It bears another name than at its beginning.
    renamed: bool,
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
            .user(&login.user)
            .dbname(database)
            .application_name(&login.application_name)
            .options(login.settings());
        if let Some(password) = login.password_for(address, database)? {
            config.password(password);
        }
        // Boxed: the handshake's state is large, and would stay in every idle session's task.
        let handshake = Box::pin(async {
            let stream = socket::connect(address, login.keepalive).await?;
            let bounded = Bounded::new(stream, login.bounds);
            Ok::<_, SqlError>(config.connect_raw(bounded, NoTls).await?)
        });
        let opened = timeout(login.connect_timeout, handshake).await;
        let (client, connection) = opened.map_err(|_| SqlError::Deadline {
            what: "connecting",
            after: login.connect_timeout,
        })??;
        let (tell_closed, closed) = watch::channel(None);
        let driver = tokio::spawn(async move {
            let ended = connection.await.err().map(|error| {
                let error: Arc<str> = SqlError::from(error).to_string().into();
                error
            });
            tell_closed.send_replace(Some(Ended(ended)));
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
            renamed: false,
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

    /// The same on a session that bears `name` in `pg_stat_activity` from now on, until it is
    /// [given back](Connection::unname). Both are sent at once.
    ///
    /// The name is set outside of the batch's transaction, never by `SET LOCAL` in it: Citus 11.2.0
    /// to 12.1.6 reads its catalogue when a transaction's end takes a name back, and PostgreSQL
    /// crashes (citus#7791).
    pub(super) async fn run_named_within(
        &mut self,
        name: &str,
        batch: &str,
        deadline: Duration,
    ) -> Result<(), SqlError> {
        self.under_way = true;
        self.renamed = true;
        let rename = rename(name);
        let named = self.client.batch_execute(&rename);
        let both = async { tokio::try_join!(named, self.client.batch_execute(batch)) };
        let answer = timeout(deadline, both).await;
        let answer = answer.map(|both| both.map(|_| ()));
        self.settle(answer, deadline)
    }

    /// [`Connection::run_named_within`] the deadline of a statement.
    pub async fn run_named(&mut self, name: &str, batch: &str) -> Result<(), SqlError> {
        self.run_named_within(name, batch, self.deadline).await
    }

    /// Has the session bear its first name again, without waiting for the answer.
    pub fn unname(&mut self) {
        if std::mem::take(&mut self.renamed) {
            let rename = rename(APPLICATION);
            // Sent with its first poll; what is asked next is answered after it.
            let _ = self.client.batch_execute(&rename).now_or_never();
        }
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
            other => Err(SqlError::unexpected(other, query)),
        }
    }

    /// Whether the session can be used again.
    pub fn is_usable(&self) -> bool {
        !self.broken
            && !self.under_way
            && !self.client.is_closed()
            && self.closed.borrow().is_none()
    }

    /// Completes when the other end closes the session, at once when it has.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closed = self.closed.clone();
        async move {
            // An error means that the driver is gone, which is as closed as it gets.
            let _ = closed.wait_for(Option::is_some).await;
        }
    }

    /// What ended the session, in words.
    pub(super) fn why_closed(&self) -> SqlError {
        let why = match &*self.closed.borrow() {
            Some(Ended(Some(error))) => error.to_string(),
            _ => "the server closed the session".to_owned(),
        };
        SqlError::Io(why)
    }

    fn settle<T>(
        &mut self,
        answer: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
        deadline: Duration,
    ) -> Result<T, SqlError> {
        self.under_way = false;
        let result = match answer {
            // "connection closed" says nothing; what closed it says it all.
            Ok(Err(error)) if error.is_closed() => Err(self.why_closed()),
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
            let address = self.address.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(timeout(GRACE, async move {
                    if let Ok(stream) = socket::connect(&address, Keepalive::PATIENT).await {
                        let _ = cancel.cancel_query_raw(stream, NoTls).await;
                    }
                }));
            }
        }
        self.driver.abort();
    }
}

/// A login shared by the sessions of one formation.
pub(super) type SharedLogin = Arc<Login>;
