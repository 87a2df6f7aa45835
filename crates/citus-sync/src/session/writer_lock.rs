//! One writer for each database: a lock on the coordinator, on a session of its own that is kept open.
//!
//! In: the verified coordinator leader. Out: the lock, or who has it. Until instances elect one among
//! themselves this keeps a second one from writing. It costs a move nothing, because the lock is there
//! before any move. It is gone with its session: when the daemon ends, when its host is silent for ten
//! seconds, and when the daemon itself is frozen, because the server ends a session that was idle.

use std::time::{Duration, Instant};

use citus_core::sql::{
    APPLICATION, TAKE_WRITER_LOCK, WRITER, batch, end_when_idle, writer_in_words,
};
use dcs_watch::HostPort;
use dcs_watch::text::{NAME_BYTES, excerpt};
use tokio::time::sleep;

use super::connect::Connection;
use super::error::SqlError;
use super::login::Login;

/// How often the session shows that the daemon is not frozen.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// When the server ends the session of a daemon that shows no sign of life. Longer, and a formation is
/// without a writer for longer; shorter, and a daemon on a busy host loses its lock.
const FROZEN_AFTER: Duration = Duration::from_secs(15);

/// How long another's lock may be no more than that of a daemon that just ended, as in a restart.
const RESTART: Duration = Duration::from_secs(1);

/// How often a lock that another has is tried again: at first, and later.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A session that has the lock, or wants it.
#[derive(Debug)]
pub(super) struct WriterLock {
    session: Connection,
    since: Instant,
    is_ours: bool,
}

impl WriterLock {
    /// Opens the session; it does not have the lock yet.
    pub(super) async fn open(
        login: &Login,
        address: &HostPort,
        database: &str,
    ) -> Result<Self, SqlError> {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let login = Login {
            application_name: format!("{APPLICATION} writer, pid {} on {host}", std::process::id()),
            ..login.clone()
        };
        Ok(Self {
            session: Connection::open(&login, address, database).await?,
            since: Instant::now(),
            is_ours: false,
        })
    }

    /// Whether the session still stands, at this address.
    pub(super) fn stands_at(&self, address: &HostPort) -> bool {
        self.session.is_usable() && self.session.address == *address
    }

    /// Takes the lock; the other who has it, in words, if there is one.
    pub(super) async fn take(&mut self) -> Result<Option<String>, SqlError> {
        if self.is_ours {
            return Ok(None);
        }
        // At once: a coordinator that failed over waits for it.
        let end_when_idle = end_when_idle(FROZEN_AFTER.as_millis());
        let both = batch([end_when_idle.as_str(), TAKE_WRITER_LOCK]);
        let rows = self.session.rows(&both).await?;
        self.is_ours = rows.last().and_then(|row| row.get(0)) == Some("t");
        if self.is_ours {
            return Ok(None);
        }
        let rows = self.session.rows(WRITER).await?;
        let text = |column| {
            let text = rows.first()?.get(column)?;
            Some(excerpt(text, NAME_BYTES))
        };
        let known = [text(0), text(1), text(2), text(3)];
        let known = known.each_ref().map(Option::as_deref);
        Ok(Some(writer_in_words(known)))
    }

    /// Whether the other has it for so long that it is no restart.
    pub(super) fn is_worth_a_word(&self) -> bool {
        self.since.elapsed() > RESTART
    }

    /// Waits until it is time to try again.
    pub(super) async fn pause(&self) {
        let (at_first, later) = TRY_AGAIN;
        sleep(if self.is_worth_a_word() {
            later
        } else {
            at_first
        })
        .await;
    }

    /// Shows signs of life until the session is lost.
    pub(super) async fn until_lost(&mut self) -> SqlError {
        loop {
            tokio::select! {
                () = self.session.closing() => return self.session.why_closed(),
                () = sleep(SIGN_OF_LIFE) => {}
            }
            if let Err(error) = self.session.rows("SELECT 1").await {
                return error;
            }
        }
    }
}
