//! The SQL of every Citus from 8 to 14: what a coordinator offers goes in, text comes out.
//!
//! One simple-protocol batch a step keeps a move at two round trips. Names and addresses are
//! quoted here, in the only place that builds SQL from values.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use dcs_watch::HostPort;
use thiserror::Error;

use crate::plan::{COORDINATOR_GROUP, MakeWay, Move, Register, Repair};

/// `ExclusiveLock` in PostgreSQL's lock table: the strongest that `lock_shard_metadata` takes, and
/// enough to make writers (`ShareLock`) wait.
const EXCLUSIVE: i32 = 7;

/// How long the helper of a forced lock waits before it terminates who is in the way. The
/// cooldown has already been waited out without force by then. Not 0: when Citus finds no free
/// worker slot it uses this number as `lock_timeout`, and 0 means for ever there (citus#4102).
const FORCED_COOLDOWN: Duration = Duration::from_millis(100);

/// The locks of an update of `pg_dist_node`, in the order that does not deadlock. Alone,
/// `citus_update_node` takes `RowExclusiveLock` first and `ExclusiveLock` later, so that three
/// moves at once, or one move and Citus's own metadata sync, deadlock (`docs/citus.md`).
const IN_ORDER: &str = "LOCK TABLE pg_catalog.pg_dist_node IN EXCLUSIVE MODE";

/// Which functions and columns one database of the coordinator has.
// Each bool is one thing that a Citus has or has not; they vary independently.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What `citus_version()` or the extension says, for people.
    pub version: String,
    /// `citus_update_node` (10 and later) or `master_update_node`.
    update: &'static str,
    /// The update takes `force` and `lock_cooldown` (8.3 and later).
    forces: bool,
    /// `citus_pause_node_within_txn` (12.1 and later).
    pauses: bool,
    /// `lock_shard_metadata` (8.0 and later).
    locks_shards: bool,
    /// The role may lock `pg_dist_node` ahead of an update.
    orders: bool,
    /// `citus_add_node` or `master_add_node`.
    add: Option<&'static str>,
    /// `citus_set_coordinator_host` (10 and later).
    sets_coordinator_host: bool,
    /// `citus_check_connection_to_node` (10.2 and later).
    pub checks_connections: bool,
    /// The columns of `pg_dist_node`.
    columns: BTreeSet<String>,
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
     'citus_version')";

/// Reads the columns of `pg_dist_node`: one text column, no row where there is no such table.
pub const COLUMNS: &str = "SELECT attname::text FROM pg_catalog.pg_attribute \
     WHERE attrelid = to_regclass('pg_catalog.pg_dist_node') AND attnum > 0 AND NOT attisdropped";

/// Reads the version for people; asked only where the function exists.
pub const VERSION: &str = "SELECT pg_catalog.citus_version()";

/// Whether this role may lock `pg_dist_node` ahead of an update; `EXECUTE` on the function alone
/// does not allow that. No row, and so no, where there is no such table.
pub const MAY_LOCK: &str = "SELECT pg_catalog.has_table_privilege(oid, 'UPDATE') \
     FROM pg_catalog.pg_class WHERE oid = to_regclass('pg_catalog.pg_dist_node')";

/// Cancels Citus's metadata sync where it sits on `pg_dist_node`. At a worker that accepts and
/// never answers it sits there for `citus.node_connection_timeout` (30 s), and every group's move
/// would wait with it; cancelled, it starts anew within seconds. One row a process.
pub const CANCEL_METADATA_SYNC: &str = "SELECT pg_catalog.pg_cancel_backend(a.pid) \
     FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_locks l USING (pid) \
     WHERE a.application_name = 'Citus Metadata Sync Daemon' \
     AND l.relation = 'pg_catalog.pg_dist_node'::regclass AND l.granted \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())";

/// Who holds `pg_dist_node` against an update, in words.
pub const BLOCKERS: &str = "SELECT format('pid %s (%s, %s)', a.pid, COALESCE(NULLIF( \
     a.application_name, ''), a.backend_type), COALESCE(a.state, 'no state')) \
     FROM pg_catalog.pg_stat_activity a WHERE a.pid <> pg_catalog.pg_backend_pid() AND EXISTS ( \
     SELECT FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.granted \
     AND l.relation = 'pg_catalog.pg_dist_node'::regclass \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
     AND l.mode NOT IN ('AccessShareLock', 'RowShareLock'))";

/// Where the session's server is: in recovery or not; how much of the log is on its disk; how much
/// of it is replayed; when it was started, in microseconds since 1970. Each function fails on the
/// other kind of server, so each is called on its own kind only.
pub const WHERE_IT_IS: &str = "SELECT r, CASE WHEN r THEN pg_catalog.pg_last_wal_receive_lsn() \
     ELSE pg_catalog.pg_current_wal_flush_lsn() END, \
     CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn() END, \
     (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::int8 \
     FROM (SELECT pg_catalog.pg_is_in_recovery() AS r OFFSET 0) AS server";

/// Whether the session's server takes writes.
pub const IN_RECOVERY: &str = "SELECT pg_catalog.pg_is_in_recovery()";

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
        may_lock: bool,
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
            orders: may_lock,
            add: first_of(["citus_add_node", "master_add_node"]),
            sets_coordinator_host: has("citus_set_coordinator_host"),
            checks_connections: has("citus_check_connection_to_node"),
            columns,
        })
    }

    /// Whether `citus_version()` can be asked.
    pub fn has_version(functions: &[Function]) -> bool {
        functions
            .iter()
            .any(|function| function.name == "citus_version")
    }

    /// All rows: `nodeid, groupid, nodename, nodeport, noderole, nodecluster, isactive,
    /// hasmetadata, metadatasynced`, whatever columns this Citus has.
    pub fn read_rows(&self) -> String {
        let column = |name: &str, otherwise: &str| {
            if self.columns.contains(name) {
                name.to_owned()
            } else {
                otherwise.to_owned()
            }
        };
        format!(
            "SELECT nodeid::int4, groupid::int4, nodename::text, nodeport::int4, noderole::text, \
             {}::text, {}, {}, {} FROM pg_catalog.pg_dist_node ORDER BY nodeid",
            column("nodecluster", "'default'"),
            column("isactive", "true"),
            column("hasmetadata", "false"),
            column("metadatasynced", "false"),
        )
    }

    /// Waits for the writers of this group's own shards, and keeps new ones waiting. Reference
    /// tables are left out: they have a shard in every group, and locking those would make
    /// every other group wait for this one's writers (rule 7).
    pub fn lock_own_shards(&self, group: i32) -> Option<String> {
        self.locks_shards.then(|| {
            format!(
                "SELECT pg_catalog.lock_shard_metadata({EXCLUSIVE}, \
                 array_agg(p.shardid ORDER BY p.shardid)) FROM pg_catalog.pg_dist_placement p \
                 JOIN pg_catalog.pg_dist_shard s USING (shardid) \
                 JOIN pg_catalog.pg_dist_partition t USING (logicalrelid) \
                 WHERE p.groupid = {group} AND NOT (t.partmethod = 'n' AND t.repmodel = 't') \
                 HAVING count(*) > 0"
            )
        })
    }

    /// Takes every lock on shards that the update will want; with `force`, Citus terminates who
    /// is in the way. `None` before Citus 12.1.
    pub fn pause(&self, nodeid: i32, force: bool) -> Option<String> {
        self.pauses.then(|| {
            format!(
                "SELECT pg_catalog.citus_pause_node_within_txn({nodeid}, {force}, {})",
                FORCED_COOLDOWN.as_millis()
            )
        })
    }

    /// The lock that orders updates of `pg_dist_node`, where this role may take it.
    pub fn order(&self) -> Option<&'static str> {
        self.orders.then_some(IN_ORDER)
    }

    /// Points a row elsewhere.
    fn update(&self, nodeid: i32, to: &HostPort, force: bool) -> String {
        let (update, host, port) = (self.update, quote(&to.host), to.port);
        if force && self.forces {
            format!(
                "SELECT pg_catalog.{update}({nodeid}, {host}, {port}, true, {})",
                FORCED_COOLDOWN.as_millis()
            )
        } else {
            format!("SELECT pg_catalog.{update}({nodeid}, {host}, {port})")
        }
    }

    /// The updates of a move, in the order that keeps every name unique at every moment.
    pub fn updates(&self, step: &Move, force: bool) -> Vec<String> {
        let primary = self.update(step.nodeid, &step.to, force);
        match &step.make_way {
            None => vec![primary],
            Some(MakeWay {
                nodeid,
                temporary,
                then,
            }) => vec![
                self.update(*nodeid, temporary, false),
                primary,
                self.update(*nodeid, then, false),
            ],
        }
    }

    /// The update of a repair.
    pub fn repair(&self, step: &Repair) -> String {
        self.update(step.nodeid, &step.to, false)
    }

    /// Adds a group; the coordinator's own row has a function of its own, so that Citus marks it
    /// as one that holds no shards.
    pub fn register(&self, step: &Register) -> Option<String> {
        let (host, port) = (quote(&step.address.host), step.address.port);
        if step.group == COORDINATOR_GROUP {
            return self
                .sets_coordinator_host
                .then(|| format!("SELECT pg_catalog.citus_set_coordinator_host({host}, {port})"));
        }
        self.add
            .map(|add| format!("SELECT pg_catalog.{add}({host}, {port}, {})", step.group))
    }

    /// Asks whether the coordinator itself can reach an address; `None` before Citus 10.2.
    pub fn check_connection(&self, to: &HostPort) -> Option<String> {
        self.checks_connections.then(|| {
            format!(
                "SELECT pg_catalog.citus_check_connection_to_node({}, {})",
                quote(&to.host),
                to.port
            )
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, arguments: i16) -> Function {
        Function {
            name: name.to_owned(),
            arguments,
        }
    }

    fn columns(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn citus_8_0() -> Dialect {
        Dialect::detect(
            &[
                function("master_update_node", 3),
                function("lock_shard_metadata", 2),
                function("master_add_node", 5),
            ],
            columns(&[
                "nodeid",
                "groupid",
                "nodename",
                "nodeport",
                "noderole",
                "nodecluster",
            ]),
            None,
            false,
        )
        .unwrap()
    }

    fn citus_9_5() -> Dialect {
        Dialect::detect(
            &[
                function("master_update_node", 5),
                function("lock_shard_metadata", 2),
                function("master_add_node", 5),
            ],
            columns(&[
                "nodeid",
                "nodecluster",
                "isactive",
                "hasmetadata",
                "metadatasynced",
            ]),
            Some("Citus 9.5.12".to_owned()),
            true,
        )
        .unwrap()
    }

    fn citus_13() -> Dialect {
        Dialect::detect(
            &[
                function("citus_update_node", 5),
                function("master_update_node", 5),
                function("citus_pause_node_within_txn", 3),
                function("lock_shard_metadata", 2),
                function("citus_add_node", 5),
                function("master_add_node", 5),
                function("citus_set_coordinator_host", 4),
                function("citus_check_connection_to_node", 2),
            ],
            columns(&[
                "nodeid",
                "nodecluster",
                "isactive",
                "hasmetadata",
                "metadatasynced",
            ]),
            Some("Citus 13.2.2".to_owned()),
            true,
        )
        .unwrap()
    }

    fn everything(dialect: &Dialect) -> String {
        let to = HostPort {
            host: "10.0.0.2".to_owned(),
            port: 5432,
        };
        let old = HostPort {
            host: "10.0.0.1".to_owned(),
            port: 5432,
        };
        let plain = Move {
            nodeid: 2,
            from: old.clone(),
            to: to.clone(),
            make_way: None,
        };
        let swap = Move {
            make_way: Some(MakeWay {
                nodeid: 7,
                temporary: HostPort {
                    host: "citus-sync-swap-7.invalid".to_owned(),
                    port: 5432,
                },
                then: old.clone(),
            }),
            ..plain.clone()
        };
        let mut text = format!("-- {}\n{}\n", dialect.version, dialect.read_rows());
        for (title, statements) in [
            (
                "wait for writers",
                dialect.lock_own_shards(1).into_iter().collect(),
            ),
            ("pause", dialect.pause(2, false).into_iter().collect()),
            (
                "pause by force",
                dialect.pause(2, true).into_iter().collect(),
            ),
            (
                "order",
                dialect.order().map(str::to_owned).into_iter().collect(),
            ),
            ("move", dialect.updates(&plain, false)),
            ("move by force", dialect.updates(&plain, true)),
            ("swap", dialect.updates(&swap, false)),
            (
                "repair",
                vec![dialect.repair(&Repair {
                    nodeid: 7,
                    from: old,
                    to: to.clone(),
                })],
            ),
            (
                "register",
                dialect
                    .register(&Register {
                        group: 1,
                        address: to.clone(),
                    })
                    .into_iter()
                    .collect(),
            ),
            (
                "register the coordinator",
                dialect
                    .register(&Register {
                        group: 0,
                        address: to.clone(),
                    })
                    .into_iter()
                    .collect(),
            ),
            ("check", dialect.check_connection(&to).into_iter().collect()),
        ] {
            let _ = writeln!(text, "-- {title}");
            for statement in statements {
                let _ = writeln!(text, "{statement}");
            }
        }
        text
    }

    #[test]
    fn each_citus_is_spoken_to_in_its_own_words() {
        insta::assert_snapshot!("citus-8.0", everything(&citus_8_0()));
        insta::assert_snapshot!("citus-9.5", everything(&citus_9_5()));
        insta::assert_snapshot!("citus-13", everything(&citus_13()));
    }

    #[test]
    fn a_database_without_citus_says_how_to_get_it() {
        let none = Dialect::detect(&[], BTreeSet::new(), None, false).unwrap_err();
        assert_eq!(none, NoCitus::NoTable);
        assert!(none.to_string().contains("CREATE EXTENSION citus"));
        let old = Dialect::detect(&[], columns(&["nodeid"]), None, true).unwrap_err();
        assert_eq!(old, NoCitus::NoUpdate);
    }

    #[test]
    fn quotes_are_closed_whatever_stands_inside() {
        assert_eq!(quote("plain"), "'plain'");
        assert_eq!(quote("o'brien"), "'o''brien'");
        assert_eq!(quote("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn a_batch_ends_every_statement() {
        assert_eq!(batch(["BEGIN", "COMMIT"]), "BEGIN;COMMIT;");
    }
}
