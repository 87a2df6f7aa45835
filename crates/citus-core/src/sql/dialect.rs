//! Which Citus a coordinator's database has, and what our role may do there: the catalogue's
//! answers go in, a [`Dialect`] comes out.

use std::collections::BTreeSet;

use thiserror::Error;

/// Which functions and columns one database of the coordinator has.
// Each bool is one thing that a Citus has or has not; they vary independently.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What `citus_version()` or the extension says, for people.
    pub version: String,
    /// `citus_update_node` (10 and later) or `master_update_node`.
    pub(super) update: &'static str,
    /// The update takes `force` and `lock_cooldown` (8.3 and later).
    pub(super) forces: bool,
    /// `citus_pause_node_within_txn` (12.1 and later).
    pub(super) pauses: bool,
    /// `lock_shard_metadata` (8.0 and later).
    pub(super) locks_shards: bool,
    /// The role may lock `pg_dist_node` ahead of an update (UPDATE on it).
    pub(super) orders: bool,
    /// The role may change `pg_dist_node` itself (INSERT, UPDATE and DELETE on it).
    pub(super) edits: bool,
    /// `citus_add_node` or `master_add_node`.
    pub(super) add: Option<&'static str>,
    /// `citus_set_coordinator_host` (10 and later).
    pub(super) sets_coordinator_host: bool,
    /// `citus_check_connection_to_node` (10.2 and later).
    pub checks_connections: bool,
    /// `master_run_on_worker` (8.0 and later): runs a query on any host, through the coordinator.
    pub(super) runs_on_workers: bool,
    /// `recover_prepared_transactions`.
    pub(super) recovers: bool,
    /// The columns of `pg_dist_node`.
    pub(super) columns: BTreeSet<String>,
}

/// A database in which nothing of Citus that we need was found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoCitus {
    /// Not a database of a Citus coordinator.
    #[error(
        "there is no pg_dist_node: run CREATE EXTENSION citus in this database, or take it out of `databases`"
    )]
    NoTable,
    /// Older than anything supported.
    #[error(
        "neither citus_update_node nor master_update_node exists: Citus 8.0 or later is needed"
    )]
    NoUpdate,
}

/// One function of `pg_catalog` that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// `proname`.
    pub name: String,
    /// `pronargs`.
    pub arguments: i16,
}

/// Reads which functions [`Dialect::detect`] wants to know of: `proname`, `pronargs`.
pub const FUNCTIONS: &str = "SELECT proname::text, pronargs FROM pg_catalog.pg_proc \
     WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN ('citus_update_node', \
     'master_update_node', 'citus_pause_node_within_txn', 'lock_shard_metadata', 'citus_add_node', \
     'master_add_node', 'citus_set_coordinator_host', 'citus_check_connection_to_node', \
     'recover_prepared_transactions', 'citus_version', 'master_run_on_worker')";

/// Reads the columns of `pg_dist_node`: one text column, no row where there is no such table.
pub const COLUMNS: &str = "SELECT attname::text FROM pg_catalog.pg_attribute \
     WHERE attrelid = to_regclass('pg_catalog.pg_dist_node') AND attnum > 0 AND NOT attisdropped";

/// Reads the version for people; asked only where the function exists.
pub const VERSION: &str = "SELECT pg_catalog.citus_version()";

/// What this role may do to `pg_dist_node` itself: lock it ahead of an update, which `EXECUTE` on a
/// function does not allow; change its rows. No row, and so neither, where there is no such table.
pub const RIGHTS: &str = "SELECT pg_catalog.has_table_privilege(oid, 'UPDATE'), \
     pg_catalog.has_table_privilege(oid, 'INSERT') \
     AND pg_catalog.has_table_privilege(oid, 'UPDATE') \
     AND pg_catalog.has_table_privilege(oid, 'DELETE') \
     FROM pg_catalog.pg_class WHERE oid = to_regclass('pg_catalog.pg_dist_node')";

/// What the answer to [`RIGHTS`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// UPDATE, which allows to lock it.
    pub update: bool,
    /// INSERT, UPDATE and DELETE.
    pub edit: bool,
}

/// The versions that crash PostgreSQL with `SET LOCAL application_name` in a transaction that changes
/// `pg_dist_node`: the first, and the first in which it is fixed. Seen on 11.3.1 and 12.1.6.
const CRASHES_ON_RENAMED_SESSIONS: ([u32; 3], [u32; 3]) = ([11, 2, 0], [12, 1, 7]);

/// What ends a [known fault](Dialect::known_fault).
pub const FAULT_FIXED_BY: &str = "install Citus 12.1.7, 13.0.0 or later";

/// The three numbers in `Citus 12.1.6`, whatever follows; none for what is no release.
fn number_in(version: &str) -> Option<[u32; 3]> {
    let version = version.strip_prefix("Citus ")?;
    let end = version.find(|c: char| c != '.' && !c.is_ascii_digit());
    let mut numbers = version[..end.unwrap_or(version.len())].split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

impl Dialect {
    /// From the catalogue's answers.
    ///
    /// # Errors
    ///
    /// [`NoCitus`] where the database is none of a Citus coordinator.
    pub fn detect(
        functions: &[Function],
        columns: BTreeSet<String>,
        version: Option<String>,
        rights: Rights,
    ) -> Result<Self, NoCitus> {
        if columns.is_empty() {
            return Err(NoCitus::NoTable);
        }
        let has = |name: &str| functions.iter().any(|function| function.name == name);
        let first_of = |names: [&'static str; 2]| names.into_iter().find(|name| has(name));
        let update =
            first_of(["citus_update_node", "master_update_node"]).ok_or(NoCitus::NoUpdate)?;
        let forces = functions
            .iter()
            .any(|f| f.name == update && f.arguments >= 5);
        Ok(Self {
            version: version.unwrap_or_else(|| "unknown version".to_owned()),
            update,
            forces,
            pauses: has("citus_pause_node_within_txn"),
            locks_shards: has("lock_shard_metadata"),
            orders: rights.update,
            edits: rights.edit,
            add: first_of(["citus_add_node", "master_add_node"]),
            sets_coordinator_host: has("citus_set_coordinator_host"),
            checks_connections: has("citus_check_connection_to_node"),
            runs_on_workers: has("master_run_on_worker"),
            recovers: has("recover_prepared_transactions"),
            columns,
        })
    }

    /// Whether `citus_version()` can be asked.
    pub fn has_version(functions: &[Function]) -> bool {
        functions
            .iter()
            .any(|function| function.name == "citus_version")
    }

    /// Whether rows can be moved by a plain UPDATE, and workers' metadata be synced again after it.
    /// Without that a hold can be taken all the same, but reads cannot be moved.
    pub fn moves_plainly(&self) -> bool {
        self.edits && self.locks_shards
    }

    /// What this very version is known to do wrong, for the person on call. What helps is
    /// [`FAULT_FIXED_BY`].
    pub fn known_fault(&self) -> Option<String> {
        let (first, fixed) = CRASHES_ON_RENAMED_SESSIONS;
        let version = number_in(&self.version)?;
        (first..fixed).contains(&version).then(|| {
            format!(
                "{} crashes PostgreSQL when a transaction that changed pg_dist_node takes an \
                 application_name back (citus#7791); citus-sync sends no such transaction, other \
                 clients may",
                self.version
            )
        })
    }

    /// Whether workers may have metadata, and so become entry nodes (Citus 11 and later; by hand
    /// before).
    pub fn has_metadata(&self) -> bool {
        self.columns.contains("hasmetadata") && self.columns.contains("metadatasynced")
    }
}
