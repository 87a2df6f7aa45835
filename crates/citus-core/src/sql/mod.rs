//! The SQL of every Citus from 8 to 14: what a coordinator offers goes in, text comes out.
//!
//! One simple-protocol batch a step keeps a move at two round trips. Names and addresses are
//! quoted here, in the only place that builds SQL from values.

mod dialect;
mod holds;
mod moves;
mod nodes;
mod plain;
mod questions;
mod shards;
mod writer;

use std::fmt::Write as _;
use std::time::Duration;

pub use dialect::{
    COLUMNS, Dialect, FAULT_FIXED_BY, FUNCTIONS, Function, NoCitus, RIGHTS, Rights, VERSION,
};
pub use holds::{
    HAS_REFERENCE_TABLES, ShardLocks, Shards, idle_until, terminate_blockers, untangle_blockers,
};
pub use nodes::{CANCEL_METADATA_SYNC, HOLDERS};
pub use questions::{
    CITUS_IS_QUIET, FLUSH, FLUSHED, IN_RECOVERY, UNCACHED, VERIFY, WHERE_IT_IS, WHERE_IT_IS_NOW,
    answerer, has_replayed, primary_of,
};
pub use shards::{SEE_SHARDS, SERVES, STARTED, SYSTEM, TableShards, count_shards, shards_of};

pub use writer::{TAKE_WRITER_LOCK, WRITER, end_when_idle, writer_in_words};

/// How sessions of ours begin their `application_name`. A session that bears it is never terminated
/// to make way: it is the hold of another group, or another instance of this program.
pub const APPLICATION: &str = "citus-sync";

/// Gives the session another name in `pg_stat_activity`. To be run as a transaction of its own: never
/// in one that changes `pg_dist_node`, nor by `SET LOCAL` (citus#7791).
pub fn rename(name: &str) -> String {
    format!("SET application_name = {}", quote(name))
}

/// Several statements as one simple-protocol batch.
pub fn batch<'a>(statements: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for statement in statements {
        // Writing to a String cannot fail.
        let _ = write!(text, "{statement};");
    }
    text
}

/// A string literal, whatever `standard_conforming_strings` says.
pub fn quote(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// Sets a timeout for the rest of the transaction. Never 0, which would be for ever.
pub fn set_local(setting: &str, duration: Duration) -> String {
    let milliseconds = duration.as_millis().max(1);
    format!("SET LOCAL {setting} = '{milliseconds}ms'")
}

#[cfg(test)]
mod tests;
