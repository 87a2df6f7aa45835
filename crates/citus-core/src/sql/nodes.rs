//! `pg_dist_node` as a whole: its rows, which sessions lock them, and how its copies on the workers
//! are synced.

use dcs_watch::HostPort;

use super::{Dialect, quote};

/// Cancels Citus's metadata sync where it sits on `pg_dist_node`. At a worker that accepts and
/// never answers it sits there for `citus.node_connection_timeout` (30 s), and every group's move
/// would wait with it; cancelled, it starts anew within seconds. One row a process.
pub const CANCEL_METADATA_SYNC: &str = "SELECT pg_catalog.pg_cancel_backend(a.pid) \
     FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_locks l USING (pid) \
     WHERE a.application_name = 'Citus Metadata Sync Daemon' \
     AND l.relation = 'pg_catalog.pg_dist_node'::regclass AND l.granted \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())";

/// The sessions that lock `pg_dist_node` against an update, in words.
pub const HOLDERS: &str = "SELECT format('pid %s (%s, %s)', a.pid, COALESCE(NULLIF( \
     a.application_name, ''), a.backend_type), COALESCE(a.state, 'no state')) \
     FROM pg_catalog.pg_stat_activity a WHERE a.pid <> pg_catalog.pg_backend_pid() AND EXISTS ( \
     SELECT FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.granted \
     AND l.relation = 'pg_catalog.pg_dist_node'::regclass \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
     AND l.mode NOT IN ('AccessShareLock', 'RowShareLock'))";

impl Dialect {
    /// All rows: `nodeid, groupid, nodename, nodeport, noderole, nodecluster, isactive,
    /// hasmetadata, metadatasynced`, whatever columns this Citus has. A clone (Citus 13.2 and later)
    /// has the role `clone` here; Citus itself calls it unavailable.
    pub fn read_rows(&self) -> String {
        let column = |name: &str, otherwise: &str| {
            if self.columns.contains(name) {
                name.to_owned()
            } else {
                otherwise.to_owned()
            }
        };
        format!(
            "SELECT nodeid::int4, groupid::int4, nodename::text, nodeport::int4, {}, \
             {}::text, {}, {}, {} FROM pg_catalog.pg_dist_node ORDER BY nodeid",
            if self.columns.contains("nodeisclone") {
                "CASE WHEN nodeisclone THEN 'clone' ELSE noderole::text END"
            } else {
                "noderole::text"
            },
            column("nodecluster", "'default'"),
            column("isactive", "true"),
            column("hasmetadata", "false"),
            column("metadatasynced", "false"),
        )
    }

    /// Makes Citus send the workers' metadata again, by its own `citus_update_node`, which does so
    /// for any row: here one that is there inside this transaction only, and is no primary, so that
    /// no shard lock is wanted, and neither writes nor holds are in the way. `None` where no worker
    /// can have metadata.
    ///
    /// Citus starts the sync only if it finds a worker to mark that was not marked before: hence
    /// the first update.
    pub fn resync(&self, group: i32) -> Option<Vec<String>> {
        let wanted = self.has_metadata() && self.edits;
        wanted.then(|| {
            vec![
                "UPDATE pg_catalog.pg_dist_node SET metadatasynced = true \
                 WHERE hasmetadata AND NOT metadatasynced AND groupid <> 0"
                    .to_owned(),
                format!(
                    "INSERT INTO pg_catalog.pg_dist_node (nodeid, groupid, nodename, nodeport, \
                     noderole) VALUES ({MESSENGER}, {group}, {}, 1, 'unavailable')",
                    quote(MESSENGER_NAMES[0])
                ),
                format!(
                    "SELECT pg_catalog.{}({MESSENGER}, {}, 1)",
                    self.update,
                    quote(MESSENGER_NAMES[1])
                ),
                format!("DELETE FROM pg_catalog.pg_dist_node WHERE nodeid = {MESSENGER}"),
            ]
        })
    }

    /// Marks workers as out of sync, so that Citus itself tells them of a change in its own time.
    /// `None` where there is no worker to mark.
    pub fn unsync(&self, workers: &[HostPort]) -> Option<String> {
        let wanted = self.has_metadata() && self.edits && !workers.is_empty();
        wanted.then(|| {
            let addresses: Vec<String> = workers
                .iter()
                .map(|worker| format!("({}, {})", quote(&worker.host), worker.port))
                .collect();
            format!(
                "UPDATE pg_catalog.pg_dist_node SET metadatasynced = false \
                 WHERE hasmetadata AND metadatasynced AND groupid <> 0 \
                 AND (nodename, nodeport) IN ({})",
                addresses.join(", ")
            )
        })
    }

    /// Recovers what dead sessions left prepared on the workers; answers with a number.
    pub fn recover_prepared(&self) -> Option<&'static str> {
        self.recovers
            .then_some("SELECT pg_catalog.recover_prepared_transactions()")
    }
}

/// The `nodeid` and the names of the row that only a resync sees. `.invalid` never resolves.
const MESSENGER: i32 = -1;
const MESSENGER_NAMES: [&str; 2] = ["citus-sync-swap-1.invalid", "citus-sync-swap-2.invalid"];
