//! Clients of the servers: their sessions, and statements that wait.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use lab::Postgres;
use lab::postgres::error::SqlState;
use lab::postgres::{Client, SimpleQueryMessage};

/// Nothing that a scenario waits for takes longer, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A client's session, with limits so that nothing hangs.
pub(crate) struct Session {
    client: Client,
    pub(crate) pid: i32,
}

/// Text of the rows of a statement, or the error with its `SQLSTATE`.
pub(crate) type Answer = Result<Vec<Vec<String>>, (String, String)>;

impl Session {
    /// `name` is its `application_name`, behind "scenario ".
    pub(crate) fn open(server: &Postgres, name: &str) -> Self {
        let mut client = server.connect("postgres").expect("a session");
        let name = if name.contains(':') || name == "ground" {
            name.to_owned()
        } else {
            format!("scenario {name}")
        };
        client
            .batch_execute(&format!(
                "SET application_name = '{name}'; SET statement_timeout = '60s'; \
                 SET idle_in_transaction_session_timeout = '120s'"
            ))
            .expect("settings");
        let pid = client.query_one("SELECT pg_backend_pid()", &[]);
        let pid = pid.expect("a pid").get(0);
        Self { client, pid }
    }

    pub(crate) fn try_rows(&mut self, sql: &str) -> Answer {
        match self.client.simple_query(sql) {
            Ok(messages) => Ok(messages
                .into_iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(
                        (0..row.len())
                            .map(|column| row.get(column).unwrap_or("NULL").to_owned())
                            .collect(),
                    ),
                    _ => None,
                })
                .collect()),
            Err(error) => Err((
                error.code().map_or("", SqlState::code).to_owned(),
                error
                    .as_db_error()
                    .map_or(error.to_string(), ToString::to_string),
            )),
        }
    }

    pub(crate) fn run(&mut self, sql: &str) {
        self.try_rows(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// The first value of the only row.
    pub(crate) fn one(&mut self, sql: &str) -> String {
        let mut rows = self
            .try_rows(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(rows.len(), 1, "{sql}");
        rows.remove(0).remove(0)
    }

    /// Carries on in a thread with one more statement.
    pub(crate) fn start(mut self, sql: &str) -> Pending {
        let (sender, answer) = mpsc::channel();
        let sql = sql.to_owned();
        thread::spawn(move || {
            let outcome = self.try_rows(&sql);
            let _ = sender.send((self, outcome));
        });
        Pending { answer }
    }
}

/// A statement that somebody else is running.
pub(crate) struct Pending {
    answer: Receiver<(Session, Answer)>,
}

impl Pending {
    pub(crate) fn outcome(self) -> Answer {
        self.answer.recv_timeout(SOON).expect("its end").1
    }

    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.answer.try_recv(), Err(mpsc::TryRecvError::Empty))
    }
}
