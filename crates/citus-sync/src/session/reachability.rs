//! Whether the coordinator itself can reach an address.

use std::time::Duration;

use dcs_watch::HostPort;

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
