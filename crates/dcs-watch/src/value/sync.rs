//! The synchronous standbys, under `sync`.

use serde::Serialize;

use super::error::{ValueError, wrong};
use super::json::{get, integer, kind, name, object, text};

/// The synchronous standbys: members that have every committed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SyncState {
    /// The leader to which the standbys are synchronous.
    pub leader: Option<String>,
    /// Their names, in Patroni's order.
    pub standbys: Vec<String>,
    /// With quorum commit (Patroni 4.0 on): how many of the standbys a failover must reach. Then
    /// not every standby has every transaction.
    pub quorum: u32,
}

/// Reads the sync key. An empty one names no standby.
pub fn sync(value: &[u8]) -> Result<SyncState, ValueError> {
    let raw = text(value)?;
    if raw.trim().is_empty() {
        return Ok(SyncState::default());
    }
    let object = object(raw)?;
    let leader = name(&object, "leader")?;
    let standbys = name(&object, "sync_standby")?.map_or_else(Vec::new, |names| {
        names
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    });
    let quorum = match get(&object, "quorum") {
        None => 0,
        Some(number) => match integer(number).and_then(|number| u32::try_from(number).ok()) {
            Some(number) => number,
            // Not zero: that would promise that every standby has everything.
            None => return wrong(format!("quorum: expected a count, found {}", kind(number))),
        },
    };
    // As in Patroni: without a leader the rest means nothing.
    if leader.is_none() {
        return Ok(SyncState::default());
    }
    Ok(SyncState {
        leader,
        standbys,
        quorum,
    })
}
