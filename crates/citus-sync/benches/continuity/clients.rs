//! The clients: for each group that may be disturbed, each database and each entry node, a writer
//! and a reader; simple queries through one entry node of a database and prepared statements
//! through the other. With Citus one more writer and one more reader of all shards at once for each
//! database and entry node. Or few: a writer and a reader for each group, prepared, in one
//! database, through the coordinator.

use std::time::Duration;

use anyhow::Result;
use lab::{Load, Protocol, Traffic};

use super::arguments::GROUPS;
use super::fixture::Fixture;

/// A held write waits for a leader, not for its client's patience.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts them, and waits until all were served.
pub(crate) fn start(fixture: &Fixture, pause: Duration, few: bool) -> Result<Traffic> {
    let load = Load {
        pause,
        patience: PATIENCE,
        ..Load::default()
    };
    let mut builder = Traffic::builder(&fixture.lab)
        .load(load)
        .groups(1..=u32::try_from(GROUPS)?);
    if few {
        let first = fixture.lab.databases().iter().take(1);
        return builder.databases(first).start();
    }
    builder = builder
        .protocols([Protocol::Simple, Protocol::Prepared])
        .in_turn();
    if fixture.lab.flavour().is_citus() {
        builder = builder.multi_shard(1);
    }
    if let Some(entry_node) = fixture.entry_node {
        builder = builder.also_through(entry_node)?;
    }
    builder.start()
}
