//! What can go wrong between us and a PostgreSQL server, in words for the person on call.

use std::borrow::Cow;
use std::time::Duration;

use dcs_watch::text::excerpt;
use thiserror::Error;
use tokio_postgres::error::SqlState;

/// How much of a server's own words is shown, in bytes: they may be anything, of any length.
const SHOWN: usize = 1 << 10;

/// How much of an answer that makes no sense is shown, in bytes.
const ANSWER: usize = 120;

/// The length of a `SQLSTATE`, in bytes.
const CODE: usize = 5;

/// A failed connection or statement.
#[derive(Debug, Error)]
pub enum SqlError {
    /// Nothing came back in time. The connection is not used again.
    #[error("{what} gave no answer within {} ms", after.as_millis())]
    Deadline {
        /// What we were doing.
        what: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The server refused.
    #[error("{message} (SQLSTATE {code})")]
    Server {
        /// `SQLSTATE`.
        code: String,
        /// The message, its detail and hint.
        message: String,
    },
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Io(String),
    /// The password could not be had.
    #[error("{0}")]
    Password(String),
    /// There are as many as there may be.
    #[error("{limit} {what} already, no more are allowed")]
    TooMany {
        /// What there is so much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The server at an entry node's address takes no writes at the moment.
    #[error("the entry node is in recovery")]
    InRecovery,
    /// The answer was not what this statement answers.
    #[error("unexpected answer: {0}")]
    Answer(String),
}

impl SqlError {
    /// A server answered `question` with what it does not answer.
    pub(super) fn unexpected(answer: Option<&str>, question: &str) -> Self {
        let answer = answer.map_or(Cow::Borrowed("nothing"), |text| excerpt(text, ANSWER));
        Self::Answer(format!("{answer:?} to {question}"))
    }

    /// Whether a lock was not to be had in time (`lock_timeout`).
    pub fn is_lock_timeout(&self) -> bool {
        self.has_code(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether the statement was cancelled, by `statement_timeout` or on request.
    pub fn is_cancelled(&self) -> bool {
        self.has_code(&SqlState::QUERY_CANCELED)
    }

    /// Whether PostgreSQL broke a deadlock by ending our statement.
    pub fn is_deadlock(&self) -> bool {
        self.has_code(&SqlState::T_R_DEADLOCK_DETECTED)
    }

    /// Whether our role may not do it.
    pub fn is_about_rights(&self) -> bool {
        self.has_code(&SqlState::INSUFFICIENT_PRIVILEGE)
    }

    /// The same with more said.
    #[must_use]
    pub(crate) fn saying(self, more: &str) -> Self {
        match self {
            Self::Server { code, message } => Self::Server {
                code,
                message: format!("{message}; {more}"),
            },
            other => other,
        }
    }

    /// Whether the server answered, and only this database is at fault: it does not exist, or
    /// takes no connections.
    pub fn is_about_the_database(&self) -> bool {
        self.has_code(&SqlState::INVALID_CATALOG_NAME)
            || self.has_code(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
            || self.has_code(&SqlState::INSUFFICIENT_PRIVILEGE)
    }

    /// Whether a server that is well said no: it is full, does not know us, or has no such
    /// database. Class 57P is a server that is on its way up or down.
    pub fn is_a_refusal(&self) -> bool {
        matches!(self, Self::Server { code, .. } if !code.starts_with("57P"))
            || matches!(self, Self::Password(_))
    }

    /// Whether our role may not call a function, or the server has no such function.
    pub(super) fn is_about_a_function(&self) -> bool {
        self.has_code(&SqlState::INSUFFICIENT_PRIVILEGE)
            || self.has_code(&SqlState::UNDEFINED_FUNCTION)
    }

    /// Whether the connection is of no use any more.
    pub fn breaks_the_connection(&self) -> bool {
        !matches!(self, Self::Server { code, .. } if !code.starts_with("57P"))
    }

    fn has_code(&self, state: &SqlState) -> bool {
        matches!(self, Self::Server { code, .. } if code == state.code())
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        use std::error::Error as _;

        if let Some(db) = error.as_db_error() {
            let mut message = db.message().to_owned();
            for more in [db.detail(), db.hint()].into_iter().flatten() {
                message.push_str("; ");
                message.push_str(more);
            }
            return Self::Server {
                code: excerpt(db.code().code(), CODE).into_owned(),
                message: excerpt(&message, SHOWN).into_owned(),
            };
        }
        // "error communicating with the server" says nothing; its source says it all.
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::Io(excerpt(&text, SHOWN).into_owned())
    }
}
