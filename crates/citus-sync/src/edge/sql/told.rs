//! Whether the doors have been told: what their own copies of `pg_dist_node` say of one group.

use dcs_watch::HostPort;
use futures_util::future::join_all;

use super::{Database, Doors, SqlError};
use citus_core::sql::primary_of;

/// What a door's own copy says: where the group's primary is, if it has a row for it.
pub type Told = (HostPort, Result<Option<HostPort>, SqlError>);

/// Asks each of these doors where it has the primary of `group`; side by side, and bounded.
pub async fn ask_doors(
    database: &Database,
    doors: &Doors,
    targets: &[HostPort],
    group: i32,
) -> Vec<Told> {
    let asked = targets.iter().map(|door| async {
        let answer = ask(database, doors, door, group).await;
        (door.clone(), answer)
    });
    join_all(asked).await
}

async fn ask(
    database: &Database,
    doors: &Doors,
    door: &HostPort,
    group: i32,
) -> Result<Option<HostPort>, SqlError> {
    let query = primary_of(group);
    let rows = doors.ask(door, &database.name, &query).await?;
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
