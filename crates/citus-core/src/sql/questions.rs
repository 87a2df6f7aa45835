//! Small questions to a server.

use std::time::Duration;

use dcs_watch::HostPort;

use super::{Dialect, batch, quote, set_local};
use crate::plan::Answerer;

/// What the session's server is: in recovery or not; up to which position its WAL is on disk; up to
/// which it is replayed; when it was started, in microseconds since 1970; whether it found no more WAL
/// anywhere; the timeline that it writes, in hexadecimal. Each function fails on the other kind of
/// server, so each is called on its own kind only. To be sent first on a session: to plan the question
/// takes longer than to answer it, so it is planned once and then [asked again](WHERE_IT_IS_NOW).
pub const WHERE_IT_IS: &str = "PREPARE where_it_is AS \
     SELECT r, CASE WHEN r THEN pg_catalog.pg_last_wal_receive_lsn() \
     ELSE pg_catalog.pg_current_wal_flush_lsn() END, \
     CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn() END, \
     (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::int8, \
     r AND EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE backend_type = 'startup' \
     AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalAll')), \
     CASE WHEN NOT r THEN pg_catalog.left(pg_catalog.pg_walfile_name( \
     pg_catalog.pg_current_wal_flush_lsn()), 8) END \
     FROM (SELECT pg_catalog.pg_is_in_recovery() AS r OFFSET 0) AS server; \
     EXECUTE where_it_is";

/// The same question, on a session where it was asked before.
pub const WHERE_IT_IS_NOW: &str = "EXECUTE where_it_is";

/// The position up to which a leader's WAL is on its disk.
pub const FLUSHED: &str = "SELECT pg_catalog.pg_current_wal_flush_lsn()";

/// Flushes WAL to local disk without waiting for standbys.
pub const FLUSH: &str = "BEGIN; SET LOCAL synchronous_commit = local; \
     SELECT pg_catalog.pg_logical_emit_message(true, 'citus-sync', ''); COMMIT";

/// Whether a standby has replayed up to a position.
pub fn has_replayed(lsn: &str) -> String {
    let lsn = quote(lsn);
    format!("SELECT pg_catalog.pg_last_wal_replay_lsn() >= {lsn}::pg_catalog.pg_lsn")
}

/// Whether a node runs no statement of this database that Citus sent it from another node. Their
/// sessions bear this name since Citus 11, and the other before.
pub const CITUS_IS_QUIET: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity \
     WHERE datname = pg_catalog.current_database() AND state = 'active' \
     AND (application_name LIKE 'citus_internal gpid=%' OR application_name = 'citus'))";

/// Whether the session's server takes writes.
pub const IN_RECOVERY: &str = "SELECT pg_catalog.pg_is_in_recovery()";

/// The same, and which process serves the session.
pub const VERIFY: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_backend_pid()";

/// Where a node's own copy of `pg_dist_node` has the primary of a group: name and port.
pub fn primary_of(group: i32) -> String {
    format!(
        "SELECT nodename, nodeport FROM pg_catalog.pg_dist_node \
         WHERE groupid = {group} AND noderole = 'primary'"
    )
}

impl Dialect {
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

    /// The same within a bound of the question's own, as one batch whose only row is the answer.
    pub fn check_connection_within(&self, to: &HostPort, bound: Duration) -> Option<String> {
        let question = self.check_connection(to)?;
        let bound = set_local("citus.node_connection_timeout", bound);
        Some(batch(["BEGIN", &bound, UNCACHED, &question, "COMMIT"]))
    }
}

/// What a server is asked through the coordinator: whether it is in recovery, and since when it runs.
/// The session there is Citus's own, with whatever `search_path` its role has, so nothing in it is
/// looked up: functions are qualified, and there is no operator and no cast.
const WHO_ANSWERS: &str = "SELECT pg_catalog.concat_ws(' ', pg_catalog.pg_is_in_recovery(), \
     pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()))";

impl Dialect {
    /// Begins a transaction in which the coordinator tries an address once: a batch whose only row
    /// is the answer, with a warning that says why it is no. `None` before Citus 10.2.
    pub fn try_to_reach(&self, to: &HostPort, bound: Duration) -> Option<String> {
        let question = self.check_connection(to)?;
        let bound = set_local("citus.node_connection_timeout", bound);
        let warn = "SET LOCAL client_min_messages = warning";
        Some(batch(["BEGIN", &bound, UNCACHED, warn, &question]))
    }

    /// Asks, in that transaction, which server answered the coordinator there: whether that could be
    /// asked, and the [answer](answerer), in a row of two. `None` where Citus has no such function.
    pub fn who_answers(&self, to: &HostPort) -> Option<String> {
        self.runs_on_workers.then(|| {
            format!(
                "SELECT success, result FROM pg_catalog.master_run_on_worker(ARRAY[{}], \
                 ARRAY[{}], ARRAY[{}], false)",
                quote(&to.host),
                to.port,
                quote(WHO_ANSWERS)
            )
        })
    }
}

/// Reads what a server said of itself through the coordinator.
pub fn answerer(text: &str) -> Option<Answerer> {
    let (recovery, started) = text.split_once(' ')?;
    let in_recovery = match recovery {
        "t" => true,
        "f" => false,
        _ => return None,
    };
    // Seconds with six digits behind the point, as the shortest text that reads back the same: a
    // double has room for one digit more.
    let started: f64 = started.parse().ok()?;
    let micros = (started * 1e6).round();
    #[expect(clippy::cast_possible_truncation, reason = "microseconds since 1970")]
    let started = (micros.is_finite() && micros.abs() < 9e18).then_some(micros as i64)?;
    Some(Answerer {
        in_recovery,
        started,
    })
}

/// Citus keeps a connection that it made for such a question, and puts the next one through it. If
/// that server has fallen silent meanwhile, nothing ends the wait: neither a timeout nor a
/// cancellation, because cancelling asks the silent server too (`docs/citus.md`). Without the
/// cache each question connects anew, which `citus.node_connection_timeout` bounds.
pub const UNCACHED: &str = "SET LOCAL citus.max_cached_conns_per_worker = 0";
