//! Who still reads at a leader from which reads were moved.

use std::time::Duration;

use dcs_watch::HostPort;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Database, EntryNodes, SqlError};
use citus_core::sql::CITUS_IS_QUIET;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Completes when the leader runs no statement of this database any more that Citus sent it. (One that was
/// planned before reads were moved may arrive yet: it has the time that Patroni takes to stop it.) The
/// session is opened at once; the first look is `moved`'s to begin, which is said when reads have been.
///
/// # Errors
///
/// It cannot be known: the leader does not answer. Where `moved` is gone nobody is waited for.
pub async fn readers_are_gone(
    database: &Database,
    entry_nodes: &EntryNodes,
    leader: &HostPort,
    mut moved: watch::Receiver<bool>,
) -> Result<(), SqlError> {
    let mut session = entry_nodes.session(leader, &database.name).await?;
    if moved.wait_for(|moved| *moved).await.is_ok() {
        // For as long as somebody wants to know.
        while moved.has_changed().is_ok() && !session.boolean(CITUS_IS_QUIET).await? {
            sleep(PAUSE).await;
        }
    }
    entry_nodes.put_back(&database.name, session);
    Ok(())
}
