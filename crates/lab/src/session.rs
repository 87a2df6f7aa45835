//! A database session with calls that never block for longer than their caller
//! allows. In: a port and statements, each with a limit. Out: answers, or errors. After a
//! missing answer the session is not usable any more.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use postgres::types::ToSql;
use postgres::{CancelToken, Client, NoTls, SimpleQueryMessage, Statement};

use crate::server::connect;

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A simple query: text that contains the values.
    Simple,
    /// Prepared once in each session, and executed with parameters.
    Prepared,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simple => "simple",
            Self::Prepared => "prepared",
        })
    }
}

/// One statement of [`crate::traffic`].
pub(crate) struct Request {
    /// The text, with `$1`, `$2`, … for the parameters.
    pub(crate) sql: &'static str,
    pub(crate) parameters: Vec<i64>,
}

/// The first column of the first row, if there is a row.
type Answer = Result<Option<String>>;

/// A connection with a thread of its own. A thread that hangs is left behind.
pub(crate) struct Session {
    requests: Sender<(Request, Protocol)>,
    answers: Receiver<Answer>,
    cancel: CancelToken,
    lost: Arc<AtomicBool>,
}

impl Session {
    /// Connects to 127.0.0.1:`port`.
    pub(crate) fn open(port: u16, database: &str) -> Result<Self> {
        let client = connect(port, database)?;
        let cancel = client.cancel_token();
        let (requests, received) = mpsc::channel();
        let (sent, answers) = mpsc::channel();
        let lost = Arc::new(AtomicBool::new(false));
        let set_lost = Arc::clone(&lost);
        thread::spawn(move || serve(client, &received, &sent, &set_lost));
        Ok(Self {
            requests,
            answers,
            cancel,
            lost,
        })
    }

    /// False when the server has ended the session, or did not answer in time.
    pub(crate) fn is_usable(&self) -> bool {
        !self.lost.load(Ordering::SeqCst)
    }

    /// Runs one statement.
    pub(crate) fn run(&self, request: Request, protocol: Protocol, limit: Duration) -> Answer {
        self.requests
            .send((request, protocol))
            .map_err(|_| anyhow!("the session is over"))?;
        match self.answers.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the session is over"),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.lost.store(true, Ordering::SeqCst);
                // The server would go on with the statement.
                let cancel = self.cancel.clone();
                thread::spawn(move || cancel.cancel_query(NoTls));
                bail!("no answer within {:.1} s", limit.as_secs_f64())
            }
        }
    }
}

fn serve(
    mut client: Client,
    requests: &Receiver<(Request, Protocol)>,
    answers: &Sender<Answer>,
    lost: &AtomicBool,
) {
    let mut prepared: Option<(&'static str, Statement)> = None;
    for (request, protocol) in requests {
        let answer = match protocol {
            Protocol::Simple => query(&mut client, &request),
            Protocol::Prepared => execute(&mut client, &mut prepared, &request),
        };
        if client.is_closed() {
            lost.store(true, Ordering::SeqCst);
        }
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// Sends one message, with the values in its text.
fn query(client: &mut Client, request: &Request) -> Answer {
    let mut text = request.sql.to_owned();
    for (number, value) in request.parameters.iter().enumerate().rev() {
        text = text.replace(&format!("${}", number + 1), &value.to_string());
    }
    let messages = client.simple_query(&text).map_err(|error| plain(&error))?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(row.and_then(|row| row.get(0)).map(str::to_owned))
}

/// Executes a statement, prepared at its first use in the session.
fn execute(
    client: &mut Client,
    prepared: &mut Option<(&'static str, Statement)>,
    request: &Request,
) -> Answer {
    let statement = match prepared {
        Some((sql, statement)) if *sql == request.sql => statement.clone(),
        _ => {
            let statement = client.prepare(request.sql).map_err(|error| plain(&error))?;
            *prepared = Some((request.sql, statement.clone()));
            statement
        }
    };
    let values = request.parameters.iter();
    let parameters: Vec<&(dyn ToSql + Sync)> = values.map(|value| value as _).collect();
    let row = client
        .query_opt(&statement, &parameters)
        .map_err(|error| plain(&error))?;
    row.filter(|row| !row.is_empty())
        .map(|row| {
            row.try_get::<_, Option<String>>(0)
                .context("the answer is no text")
        })
        .transpose()
        .map(Option::flatten)
}

/// The server's own message, without the prefix that all errors share.
fn plain(error: &postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(said) => anyhow!("{} ({})", said.message(), said.code().code()),
        None => anyhow!("{error}"),
    }
}
