//! A connection to one database of one server, with a deadline on everything.
//!
//! `connect_timeout` of the client library is per address and does not cover the handshake, and
//! dropping a query's future does not end it on the server: so every call here has one overall
//! deadline, and a connection that missed one is thrown away, its query cancelled.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use citus_core::sql::{APPLICATION, SYSTEM, VERIFY, rename};
use dcs_watch::text::excerpt;
use dcs_watch::{HostPort, SystemId};
use futures_util::FutureExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::bounded::Bounded;
use super::error::SqlError;
use super::login::Login;
use super::socket::{self, Keepalive};

/// How much longer than the server's own `statement_timeout` we wait: the server's error says
/// what it was doing, ours can only say that nothing came.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How much of the warnings is kept.
const WARNINGS_BYTES: usize = 500;

/// A session is over: by an error, or because the server closed it.
#[derive(Clone, Debug)]
struct Ended(Option<Arc<str>>);

/// A row of an answer: its columns as text.
pub(crate) type AnswerRow = SimpleQueryRow;

/// An open session.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says one thing, and they vary independently"
)]
pub struct Connection {
    client: Client,
    /// Drives the socket; ends when it closes.
    driver: JoinHandle<()>,
    /// Why it is closed, once it is.
    closed: watch::Receiver<Option<Ended>>,
    deadline: Duration,
    broken: bool,
    /// A statement was begun whose answer has not been read. Stays when its future is dropped
    /// half-way: the next statement would get the answer to that one.
    under_way: bool,
    /// Its end means that the server is gone: it is lent with care ([`super::pool`]).
    pub(super) watched: bool,
    /// The process that serves it, once [`Connection::verify`] has asked.
    pub(crate) pid: i32,
    /// Which of its host's addresses it is at.
    peer: SocketAddr,
    /// It bears another name than at its beginning.
    renamed: bool,
    /// The warnings of the server, up to a bound.
    warnings: Arc<Mutex<Option<Box<str>>>>,
    /// Where this session is.
    pub address: HostPort,
}

/// What drives a session's socket.
type Driver = tokio_postgres::Connection<Bounded<TcpStream>, NoTlsStream>;

/// Drives a session until it ends. Of what the server says unasked its warnings are kept.
async fn drive(
    mut connection: Driver,
    heard: &Mutex<Option<Box<str>>>,
) -> Result<(), tokio_postgres::Error> {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message?
            && notice.severity() == "WARNING"
        {
            let mut warnings = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = warnings.take().map(|before| format!("{before}; "));
            let all = before.unwrap_or_default() + notice.message();
            *warnings = Some(excerpt(&all, WARNINGS_BYTES).into_owned().into());
        }
    }
    Ok(())
}

/// Opens a session at the first of the host's addresses that lets us in, or says what the last one
/// said.
async fn open_at_one(
    config: &Config,
    login: &Login,
    address: &HostPort,
) -> Result<(SocketAddr, Client, Driver), SqlError> {
    let mut refused = None;
    for peer in socket::resolve(address).await? {
        match open_at(config, login, peer).await {
            Ok((client, driver)) => return Ok((peer, client, driver)),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| SqlError::Io("the name has no address".to_owned())))
}

async fn open_at(
    config: &Config,
    login: &Login,
    peer: SocketAddr,
) -> Result<(Client, Driver), SqlError> {
    let stream = socket::connect(peer, login.keepalive).await?;
    let bounded = Bounded::new(stream, login.bounds);
    Ok(config.connect_raw(bounded, NoTls).await?)
}

impl Connection {
    /// Opens a session, handshake and authentication included, within the login's deadline.
    ///
    /// # Errors
    ///
    /// Whatever kept the session from opening; never hangs.
    pub async fn open(login: &Login, address: &HostPort, database: &str) -> Result<Self, SqlError> {
        let advertised = login.addresses.advertised(address);
        let mut config = Config::new();
        config
            .user(&login.user)
            .dbname(database)
            .application_name(&login.application_name)
            .options(login.settings());
        let password = &login.password;
        if let Some(password) = password.for_login(&advertised, database, &login.user)? {
            config.password(password);
        }
        // Boxed: the handshake's state is large, and would stay in every idle session's task.
        let handshake = Box::pin(open_at_one(&config, login, &advertised));
        let opened = timeout(login.connect_timeout, handshake).await;
        let (peer, client, connection) = opened.map_err(|_| SqlError::Deadline {
            what: "connecting",
            after: login.connect_timeout,
        })??;
        let (tell_closed, closed) = watch::channel(None);
        let warnings = Arc::default();
        let heard = Arc::clone(&warnings);
        let driver = tokio::spawn(async move {
            let ended = drive(connection, &heard).await.err().map(|error| {
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
            peer,
            renamed: false,
            warnings,
            address: address.clone(),
        })
    }

    /// Runs a batch of statements in one round trip.
    pub async fn run(&mut self, batch: &str) -> Result<(), SqlError> {
        self.run_within(batch, self.deadline).await
    }

    /// The same with a deadline of its own.
    pub(crate) async fn run_within(
        &mut self,
        batch: &str,
        deadline: Duration,
    ) -> Result<(), SqlError> {
        self.under_way = true;
        let answer = timeout(deadline, self.client.batch_execute(batch)).await;
        self.finish(answer, deadline)
    }

    /// The same on a session that bears `name` in `pg_stat_activity` from now on, until it is
    /// [given back](Connection::unname). Both are sent at once.
    ///
    /// The name is set outside of the batch's transaction, never by `SET LOCAL` in it: Citus 11.2.0
    /// to 12.1.6 reads its catalogue when a transaction's end takes a name back, and PostgreSQL
    /// crashes (citus#7791).
    pub(crate) async fn run_named_within(
        &mut self,
        name: &str,
        batch: &str,
        deadline: Duration,
    ) -> Result<(), SqlError> {
        self.under_way = true;
        self.renamed = true;
        let rename = rename(name);
        let named = self.client.batch_execute(&rename);
        // Both answers are waited for, whatever the first one is: the batch was sent already.
        let both = async { tokio::join!(named, self.client.batch_execute(batch)) };
        let answer = timeout(deadline, both).await;
        let answer = answer.map(|(named, ran)| named.and(ran));
        self.finish(answer, deadline)
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
    pub async fn rows(&mut self, query: &str) -> Result<Vec<AnswerRow>, SqlError> {
        self.rows_within(query, self.deadline).await
    }

    /// The same with a deadline of its own.
    pub(crate) async fn rows_within(
        &mut self,
        query: &str,
        deadline: Duration,
    ) -> Result<Vec<AnswerRow>, SqlError> {
        self.under_way = true;
        let answer = timeout(deadline, self.client.simple_query(query)).await;
        let messages = self.finish(answer, deadline)?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect())
    }

    /// The warnings that the server sent since they were last taken.
    pub(super) fn take_warnings(&self) -> Option<Box<str>> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.take()
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

    /// Asks for the server's system identifier; `None` where our role may not ask.
    ///
    /// # Errors
    ///
    /// Anything else that keeps it from answering.
    pub async fn system(&mut self) -> Result<Option<SystemId>, SqlError> {
        match self.rows(SYSTEM).await {
            Ok(rows) => system_of(rows.first()).map(Some),
            Err(error) if error.is_about_a_function() => Ok(None),
            Err(error) => Err(error),
        }
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

    /// What came of a statement: its answer, or why there is none. A connection that cannot be used
    /// again is marked.
    fn finish<T>(
        &mut self,
        answer: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
        deadline: Duration,
    ) -> Result<T, SqlError> {
        self.under_way = false;
        let result = match answer {
            // "connection closed" says nothing; what closed it says more.
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

/// The system identifier in the answer to [`SYSTEM`].
pub(super) fn system_of(row: Option<&AnswerRow>) -> Result<SystemId, SqlError> {
    let text = row.and_then(|row| row.get(0));
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| SqlError::unexpected(text, SYSTEM))
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without this the socket of a silent server would stay open until TCP gives up. A
        // statement that is still running over there is asked to end; whether that request
        // arrives decides nothing: the server's own statement_timeout ends it too.
        if (self.broken || self.under_way) && !self.client.is_closed() {
            let cancel = self.client.cancel_token();
            let peer = self.peer;
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(timeout(GRACE, async move {
                    if let Ok(stream) = socket::connect(peer, Keepalive::PATIENT).await {
                        let _ = cancel.cancel_query_raw(stream, NoTls).await;
                    }
                }));
            }
        }
        self.driver.abort();
    }
}
