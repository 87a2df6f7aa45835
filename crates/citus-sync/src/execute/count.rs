//! How many of a group's shards are at a server: the coordinator's metadata says which belong there, and
//! the server itself which tables it has.

use citus_core::plan::ShardCount;
use dcs_watch::HostPort;

use super::entry_nodes::EntryNodes;
use crate::session::{Database, SqlError, count_shards};

/// Counts them in one database, whether the server is in recovery or not.
///
/// # Errors
///
/// The coordinator or the server cannot be asked.
pub async fn count_at(
    database: &Database,
    entry_nodes: &EntryNodes,
    server: &HostPort,
    group: i32,
) -> Result<ShardCount, SqlError> {
    let (mut coordinator, _) = database.aside().await?;
    let opened = entry_nodes.sessions().open(server, &database.name).await;
    let count = match opened {
        Ok(mut session) => count_shards(&mut coordinator, &mut session, group).await,
        Err(error) => Err(error),
    };
    database.put_back(coordinator);
    count
}
