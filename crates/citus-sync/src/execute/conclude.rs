//! What there is to do after a step on the coordinator, well ended or not: no transaction stays
//! open, and the rows that are known are those that are there.

use citus_core::sql::Dialect;

use super::error::StepError;
use crate::session::{Database, Leased};

/// Ends what is open, has the rows read again, and gives the session back.
pub(super) async fn conclude<T>(
    database: &Database,
    mut session: Leased,
    dialect: &Dialect,
    result: &Result<T, StepError>,
) {
    if result.is_err() && session.is_usable() {
        // Give the locks back at once. If this fails the session is broken and dropped, which
        // gives them back as well.
        let _ = session.run("ROLLBACK").await;
    }
    match result {
        // Known after: the next decision sees what this step did.
        Ok(_) => {
            if let Err(error) = database.refresh(&mut session, dialect).await {
                database.doubt(&format!("read again after a move: {error}"));
            }
        }
        Err(StepError::Ambiguous(error)) => {
            database.doubt(&format!("read again after an unanswered COMMIT: {error}"));
        }
        // Citus refused: the rows may not be what the decision took them for (a name was given away
        // meanwhile by another session). If this fails as well, the retry meets the same error.
        Err(StepError::Sql(_)) if session.is_usable() => {
            let _ = database.refresh(&mut session, dialect).await;
        }
        Err(_) => {}
    }
    database.release(session);
}
