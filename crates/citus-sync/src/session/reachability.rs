//! Whether the coordinator itself can reach an address.

use std::time::Duration;

use citus_core::plan::{Answerer, Reach, Unreached, UnreachedKind};
use citus_core::sql::{Dialect, answerer};
use dcs_watch::HostPort;

use super::connect::Connection;
use super::database::Database;
use super::error::SqlError;

/// How long the coordinator may try. A server that accepts and does not answer in this time is as
/// good as gone to a client.
const TRY: Duration = Duration::from_millis(700);

/// How long its answer may take.
const ANSWER: Duration = Duration::from_millis(1200);

/// Asks the coordinator; bounded to about a second once there is a session to ask on.
///
/// # Errors
///
/// The question could not be put, which says nothing about the address.
pub async fn can_reach(database: &Database, address: &HostPort) -> Result<bool, SqlError> {
    let (mut session, dialect) = database.acquire_for_question().await?;
    let Some(question) = dialect.check_connection_within(address, TRY) else {
        database.release(session);
        return Err(SqlError::Answer(format!(
            "{} cannot say whether it reaches a node (Citus 10.2 and later can)",
            dialect.version
        )));
    };
    let answer = session.rows_within(&question, ANSWER).await;
    if answer.is_err() && session.is_usable() {
        session.run_within("ROLLBACK", ANSWER).await?;
    }
    database.release(session);
    match answer?.last().and_then(|row| row.get(0)) {
        Some("t") => Ok(true),
        Some("f") => Ok(false),
        other => Err(SqlError::unexpected(other, &question)),
    }
}

/// Asks the coordinator ahead of time whether it reaches an address, why not, and which server answers
/// it there; bounded to a few seconds once there is a session to ask on.
///
/// # Errors
///
/// The question could not be put, which says nothing about the address.
pub async fn reach(database: &Database, address: &HostPort) -> Result<Reach, SqlError> {
    let (mut session, dialect) = database.aside().await?;
    let answer = reach_on(&mut session, &dialect, address).await;
    database.put_back(session);
    answer
}

/// The same on a session that is open.
///
/// # Errors
///
/// As [`reach`].
pub(crate) async fn reach_on(
    session: &mut Connection,
    dialect: &Dialect,
    address: &HostPort,
) -> Result<Reach, SqlError> {
    let Some(question) = dialect.try_to_reach(address, TRY) else {
        return Err(SqlError::Answer(format!(
            "{} cannot say whether it reaches a node (Citus 10.2 and later can)",
            dialect.version
        )));
    };
    // Earlier ones are not this question's.
    session.take_warnings();
    let answer = ask(session, dialect, &question, address).await;
    let end = if answer.is_ok() { "COMMIT" } else { "ROLLBACK" };
    if session.is_usable() {
        session.run_within(end, ANSWER).await?;
    }
    answer
}

async fn ask(
    session: &mut Connection,
    dialect: &Dialect,
    question: &str,
    address: &HostPort,
) -> Result<Reach, SqlError> {
    let rows = session.rows_within(question, ANSWER).await?;
    match rows.last().and_then(|row| row.get(0)) {
        Some("t") => who_answers(session, dialect, address).await.map(Reach::Yes),
        Some("f") => {
            let error = session.take_warnings().map_or_else(
                || "Citus did not say why".to_owned(),
                |warning| without_preamble(&warning).to_owned(),
            );
            let kind = UnreachedKind::from_error(&error);
            Ok(Reach::No(Unreached { kind, error }))
        }
        other => Err(SqlError::unexpected(other, question)),
    }
}

/// Who answers is worth knowing where it can be asked; where not, that the address is reached counts.
async fn who_answers(
    session: &mut Connection,
    dialect: &Dialect,
    address: &HostPort,
) -> Result<Option<Answerer>, SqlError> {
    let Some(question) = dialect.who_answers(address) else {
        return Ok(None);
    };
    let rows = session.rows_within(&question, ANSWER).await?;
    let row = rows.first().filter(|row| row.get(0) == Some("t"));
    Ok(row.and_then(|row| answerer(row.get(1)?)))
}

/// "connection to the remote node u@h:p failed with the following error: …" names what is known.
fn without_preamble(warning: &str) -> &str {
    const PREAMBLE: &str = "failed with the following error: ";
    let warning = warning
        .split_once(PREAMBLE)
        .map_or(warning, |(_, error)| error);
    // A timeout has no error of libpq: "could not establish connection after 700 ms; connection to
    // the remote node u@h:p failed".
    warning
        .split_once("; connection to the remote node")
        .map_or(warning, |(error, _)| error)
}
