//! The clients: for each group that may be disturbed, each database and each door, a writer and a
//! reader; simple queries through one door of a database and prepared statements through the other.
//! With Citus one more writer and one more reader of all shards at once for each database and door.
//! Or few: a writer and a reader for each group, prepared, in one database, through the coordinator.

use std::time::Duration;

use anyhow::Result;
use lab::{Load, Protocol, Traffic};

use super::GROUPS;
use super::ground::Ground;

/// A held write waits for a leader, not for its client's patience.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts them, and waits until all were served.
pub(crate) fn start(ground: &Ground, pause: Duration, few: bool) -> Result<Traffic> {
    let load = Load {
        pause,
        patience: PATIENCE,
        ..Load::default()
    };
    let mut builder = Traffic::builder(&ground.lab)
        .load(load)
        .groups(1..=u32::try_from(GROUPS)?);
    if few {
        let first = ground.lab.databases().iter().take(1);
        return builder.databases(first).start();
    }
    builder = builder
        .protocols([Protocol::Simple, Protocol::Prepared])
        .in_turn();
    if ground.lab.flavour().is_citus() {
        builder = builder.multi_shard(1);
    }
    if let Some(door) = ground.door {
        builder = builder.also_through(door)?;
    }
    builder.start()
}
