//! Whether the entry nodes know where a group is: what their own copies of `pg_dist_node` say of
//! it.

use citus_core::sql::primary_of;
use dcs_watch::HostPort;
use futures_util::future::join_all;

use super::entry_nodes::EntryNodes;
use crate::session::{Database, SqlError};

/// What an entry node's own copy says: where the group's primary is, if it has a row for it.
pub type MetadataAnswer = (HostPort, Result<Option<HostPort>, SqlError>);

/// Asks each of these entry nodes where it has the primary of `group`; side by side, and bounded.
pub async fn ask_entry_nodes(
    database: &Database,
    entry_nodes: &EntryNodes,
    targets: &[HostPort],
    group: i32,
) -> Vec<MetadataAnswer> {
    let asked = targets.iter().map(|entry_node| async {
        let answer = ask(database, entry_nodes, entry_node, group).await;
        (entry_node.clone(), answer)
    });
    join_all(asked).await
}

async fn ask(
    database: &Database,
    entry_nodes: &EntryNodes,
    entry_node: &HostPort,
    group: i32,
) -> Result<Option<HostPort>, SqlError> {
    let query = primary_of(group);
    let rows = entry_nodes
        .sessions()
        .ask(entry_node, &database.name, &query)
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    match (row.get(0), row.get(1).and_then(|port| port.parse().ok())) {
        (Some(host), Some(port)) => Ok(Some(HostPort {
            host: host.to_owned(),
            port,
        })),
        _ => Err(SqlError::Answer("a row without an address".to_owned())),
    }
}
