//! Has a leader flush its WAL to its own disk, without waiting for standbys.

use std::sync::Arc;

use citus_core::sql::FLUSH;
use dcs_watch::HostPort;

use super::entry_nodes::EntryNodes;
use crate::session::SqlError;

/// Writes nothing but a message in the log, and waits for the leader's disk alone.
///
/// Before reads move, a standby has to replay all that is on the leader's disk. That may end in the
/// middle of a record, because whole pages are written ahead; and while no session commits, the
/// rest of the record follows only with the next turn of PostgreSQL's WAL writer, 200 ms later
/// (`wal_writer_delay`).
///
/// # Errors
///
/// The leader cannot be reached, or refuses.
pub async fn flush_log(
    entry_nodes: &EntryNodes,
    leader: &HostPort,
    database: &Arc<str>,
) -> Result<(), SqlError> {
    let sessions = entry_nodes.sessions();
    sessions.ask(leader, database, FLUSH).await.map(drop)
}
