//! Recovers what a dead session left prepared on the workers, by Citus's own function, in one
//! transaction with deadlines of its own.

use std::time::Duration;

use citus_core::sql::{UNCACHED, batch, set_local};

use crate::session::{Database, SqlError};

/// How long Citus may look for prepared transactions: it asks every worker, and waits for those
/// that accept and never answer.
const RECOVERY: Duration = Duration::from_secs(5);

/// How long it may try to connect to each of them.
const CONNECT: Duration = Duration::from_millis(700);

/// Recovers what a dead session left prepared on the workers; how many transactions it were. One at
/// a time in each database; bounded to a few seconds.
///
/// # Errors
///
/// The coordinator cannot be asked, or some worker did not answer in time.
pub async fn recover_prepared(database: &Database) -> Result<i64, SqlError> {
    let _turn = database.recovering().await;
    let (mut session, dialect) = database.aside().await?;
    let Some(recover) = dialect.recover_prepared() else {
        database.put_back(session);
        return Ok(0);
    };
    let bound = set_local("statement_timeout", RECOVERY);
    let connect = set_local("citus.node_connection_timeout", CONNECT);
    let text = batch(["BEGIN", &bound, &connect, UNCACHED, recover, "COMMIT"]);
    let answer = session
        .rows_within(&text, RECOVERY + Duration::from_secs(1))
        .await;
    if answer.is_err() && session.is_usable() {
        session.run("ROLLBACK").await?;
    }
    database.put_back(session);
    answer?
        .last()
        .and_then(|row| row.get(0)?.parse().ok())
        .ok_or_else(|| SqlError::Answer(format!("no number to {recover}")))
}
