//! Sessions that keep `pg_dist_node` locked for longer than a moment. Citus's own metadata sync at
//! a silent worker is cancelled; any other session is named in the error.

use citus_core::sql::{CANCEL_METADATA_SYNC, HOLDERS};
use dcs_watch::text::{NAME_BYTES, excerpt};
use tracing::info;

use super::error::StepError;
use crate::session::{Connection, SqlError};

/// Cancels Citus's metadata sync where it keeps `pg_dist_node` locked; how many there were.
pub(super) async fn cancel_metadata_sync(
    session: &mut Connection,
    database: &str,
    group: i32,
) -> Result<usize, SqlError> {
    let cancelled = session.rows(CANCEL_METADATA_SYNC).await?.len();
    if cancelled > 0 {
        info!(
            database,
            group,
            "cancelled Citus's metadata sync, which kept pg_dist_node locked: some worker does not \
             answer it (citus.node_connection_timeout bounds its wait)"
        );
    }
    Ok(cancelled)
}

/// The error, with the sessions that keep `pg_dist_node` locked.
pub(super) async fn name_holders(session: &mut Connection, error: StepError) -> StepError {
    let StepError::Sql(error) = error else {
        return error;
    };
    let rows = session.rows(HOLDERS).await.unwrap_or_default();
    let holders: Vec<_> = rows
        .iter()
        .filter_map(|row| Some(excerpt(row.get(0)?, NAME_BYTES)))
        .collect();
    if holders.is_empty() {
        return error.into();
    }
    let named = format!("pg_dist_node is locked by {}", holders.join(", "));
    error.saying(&named).into()
}
