//! Counts the shards of a group at a server, by what the coordinator says belongs there.

use citus_core::plan::ShardCount;
use citus_core::sql::{SEE_SHARDS, SERVES, STARTED, TableShards, count_shards as count, shards_of};

use super::connect::{AnswerRow, Connection};
use super::error::SqlError;

/// Counts them, with a few questions that are answered from catalogues, however many shards there are.
/// The server's session is of no use for anything else after that: it sees what Citus hides.
///
/// # Errors
///
/// One of the two servers refuses, does not answer in time, or answers something else.
pub async fn count_shards(
    coordinator: &mut Connection,
    server: &mut Connection,
    group: i32,
) -> Result<ShardCount, SqlError> {
    let here = coordinator.rows(STARTED).await?;
    let there = server.rows(STARTED).await?;
    let (mut tables, mut expected) = (Vec::new(), 0);
    for row in coordinator.rows(&shards_of(group)).await? {
        let text = |column| row.get(column).unwrap_or_default().to_owned();
        tables.push(TableShards {
            schema: text(0),
            table: text(1),
            shards: text(2),
        });
        expected += number(&row, 3)?.unwrap_or_default();
    }
    let (mut found, mut missing) = (0, None);
    if !tables.is_empty() {
        server.run(SEE_SHARDS).await?;
        let question = count(&tables);
        let rows = server.rows(&question).await?;
        let row = rows
            .first()
            .ok_or_else(|| SqlError::Answer("no count of shards".to_owned()))?;
        (found, missing) = (number(row, 0)?.unwrap_or_default(), number(row, 1)?);
    }
    // Without Citus there is no such table, and after pg_upgrade no such row yet.
    let group_there = server.rows(SERVES).await.unwrap_or_default();
    let group_there = group_there.first().and_then(|row| row.get(0)?.parse().ok());
    let started = |rows: &[AnswerRow]| rows.first().and_then(|row| row.get(0)).map(str::to_owned);
    Ok(ShardCount {
        expected,
        found,
        missing,
        serves: group_there,
        is_coordinator: started(&here).is_some() && started(&here) == started(&there),
    })
}

fn number(row: &AnswerRow, column: usize) -> Result<Option<u64>, SqlError> {
    let Some(text) = row.get(column) else {
        return Ok(None);
    };
    let number = text.parse().ok();
    let wrong = || SqlError::unexpected(Some(text), "how many shards there are");
    number.map(Some).ok_or_else(wrong)
}
