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

/// `AccessExclusiveLock` in PostgreSQL's lock table: what `citus_update_node` takes on the
/// metadata of each shard of the group.
const ACCESS_EXCLUSIVE: i32 = 8;

/// How long the helper of a forced lock waits before it terminates who is in the way. The
/// cooldown has already been waited out without force by then. Not 0: when Citus finds no free
/// worker slot it uses this number as `lock_timeout`, and 0 means for ever there (citus#4102).
const FORCED_COOLDOWN: Duration = Duration::from_millis(100);

/// Which functions and columns one database of the coordinator has.
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
    #[error("there is no pg_dist_node: run CREATE EXTENSION citus in this database, or take it out of `databases`")]
    NoTable,
    /// Older than anything supported.
    #[error("neither citus_update_node nor master_update_node exists: Citus 8.0 or later is needed")]
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

/// Whether the session's server takes writes, on what timeline it is, and when it started.
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
    ) -> Result<Self, NoCitus> {
        if columns.is_empty() {
            return Err(NoCitus::NoTable);
        }
        let has = |name: &str| functions.iter().any(|function| function.name == name);
        let first_of = |names: [&'static str; 2]| names.into_iter().find(|name| has(name));
        let update = first_of(["citus_update_node", "master_update_node"]).ok_or(NoCitus::NoUpdate)?;
        let forces = functions.iter().any(|f| f.name == update && f.arguments >= 5);
        Ok(Self {
            version: version.unwrap_or_else(|| "unknown version".to_owned()),
            update,
            forces,
            pauses: has("citus_pause_node_within_txn"),
            locks_shards: has("lock_shard_metadata"),
            add: first_of(["citus_add_node", "master_add_node"]),
            sets_coordinator_host: has("citus_set_coordinator_host"),
            checks_connections: has("citus_check_connection_to_node"),
            columns,
        })
    }

    /// Whether `citus_version()` can be asked.
    pub fn has_version(functions: &[Function]) -> bool {
        functions.iter().any(|function| function.name == "citus_version")
    }

    /// All rows: `nodeid, groupid, nodename, nodeport, noderole, nodecluster, isactive,
    /// hasmetadata, metadatasynced`, whatever columns this Citus has.
    pub fn read_rows(&self) -> String {
        let column = |name: &str, otherwise: &str| {
            if self.columns.contains(name) { name.to_owned() } else { otherwise.to_owned() }
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

    /// Takes the locks that `citus_update_node` will want, before anything touches
    /// `pg_dist_node`: groups wait side by side for their own writers, never for each other
    /// (rule 7). `None` where this Citus has no function for it.
    pub fn lock_group(&self, nodeid: i32, group: i32, force: bool) -> Option<String> {
        if self.pauses {
            return Some(format!(
                "SELECT pg_catalog.citus_pause_node_within_txn({nodeid}, {force}, {})",
                FORCED_COOLDOWN.as_millis()
            ));
        }
        // lock_shard_metadata cannot force; update_node's own force is the second attempt there.
        (self.locks_shards && !force).then(|| {
            format!(
                "SELECT pg_catalog.lock_shard_metadata({ACCESS_EXCLUSIVE}, \
                 COALESCE(array_agg(shardid ORDER BY shardid), '{{}}')) \
                 FROM pg_catalog.pg_dist_placement WHERE groupid = {group}"
            )
        })
    }

    /// Whether [`Dialect::lock_group`] can terminate who is in the way.
    pub fn locks_by_force(&self) -> bool {
        self.pauses
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
            Some(MakeWay { nodeid, temporary, then }) => vec![
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
        self.add.map(|add| format!("SELECT pg_catalog.{add}({host}, {port}, {})", step.group))
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
        Function { name: name.to_owned(), arguments }
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
            columns(&["nodeid", "groupid", "nodename", "nodeport", "noderole", "nodecluster"]),
            None,
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
            columns(&["nodeid", "nodecluster", "isactive", "hasmetadata", "metadatasynced"]),
            Some("Citus 9.5.12".to_owned()),
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
            columns(&["nodeid", "nodecluster", "isactive", "hasmetadata", "metadatasynced"]),
            Some("Citus 13.2.2".to_owned()),
        )
        .unwrap()
    }

    fn everything(dialect: &Dialect) -> String {
        let to = HostPort { host: "10.0.0.2".to_owned(), port: 5432 };
        let old = HostPort { host: "10.0.0.1".to_owned(), port: 5432 };
        let plain = Move { nodeid: 2, from: old.clone(), to: to.clone(), make_way: None };
        let swap = Move {
            make_way: Some(MakeWay {
                nodeid: 7,
                temporary: HostPort { host: "citus-sync-swap-7.invalid".to_owned(), port: 5432 },
                then: old.clone(),
            }),
            ..plain.clone()
        };
        let mut text = format!("-- {}\n{}\n", dialect.version, dialect.read_rows());
        for (title, statements) in [
            ("lock", dialect.lock_group(2, 1, false).into_iter().collect()),
            ("lock by force", dialect.lock_group(2, 1, true).into_iter().collect()),
            ("move", dialect.updates(&plain, false)),
            ("move by force", dialect.updates(&plain, true)),
            ("swap", dialect.updates(&swap, false)),
            ("repair", vec![dialect.repair(&Repair { nodeid: 7, from: old, to: to.clone() })]),
            (
                "register",
                dialect.register(&Register { group: 1, address: to.clone() }).into_iter().collect(),
            ),
            (
                "register the coordinator",
                dialect.register(&Register { group: 0, address: to.clone() }).into_iter().collect(),
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
        let none = Dialect::detect(&[], BTreeSet::new(), None).unwrap_err();
        assert_eq!(none, NoCitus::NoTable);
        assert!(none.to_string().contains("CREATE EXTENSION citus"));
        let old = Dialect::detect(&[], columns(&["nodeid"]), None).unwrap_err();
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
