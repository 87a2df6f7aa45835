//! Queries that still run at a leader from which reads were moved.

use std::time::Duration;

use citus_core::sql::CITUS_IS_QUIET;
use dcs_watch::HostPort;
use tokio::sync::watch;
use tokio::time::sleep;

use super::entry_nodes::EntryNodes;
use crate::session::{Database, SqlError};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Completes when the leader runs no statement of this database any more that Citus sent it. (One
/// that was planned before reads were moved may arrive yet: it has the time that Patroni takes to
/// stop the leader.) The session is opened at once; the first look waits until `moved` says that
/// reads are.
///
/// # Errors
///
/// It cannot be known: the leader does not answer. Where the sender of `moved` is gone, nothing is
/// waited for.
pub async fn readers_are_gone(
    database: &Database,
    entry_nodes: &EntryNodes,
    leader: &HostPort,
    mut moved: watch::Receiver<bool>,
) -> Result<(), SqlError> {
    let sessions = entry_nodes.sessions();
    let mut session = sessions.session(leader, &database.name).await?;
    if moved.wait_for(|moved| *moved).await.is_ok() {
        // For as long as the sender is there.
        while moved.has_changed().is_ok() && !session.boolean(CITUS_IS_QUIET).await? {
            sleep(PAUSE).await;
        }
    }
    sessions.put_back(&database.name, session);
    Ok(())
}
