//! Locks on a group's shards, in a transaction that the server itself ends at a deadline, and the
//! end of the sessions in the way of them.

use std::time::Duration;

use super::{APPLICATION, Dialect, batch, set_local};

/// `ExclusiveLock` in PostgreSQL's lock table: the strongest that `lock_shard_metadata` takes, and
/// enough to make writers (`ShareLock`) wait.
const EXCLUSIVE: i32 = 7;

/// `RowExclusiveLock`: makes writers (`ShareLock`) wait as well, but stands beside another one of its
/// kind.
const ROW_EXCLUSIVE: i32 = 3;

/// Whether a shard is one of a reference table, which has a placement in every group. By `repmodel`:
/// a `partmethod` of n have single-shard and local tables, too.
const IS_REFERENCE: &str = "t.repmodel = 't'";

/// What a statement that takes locks may need beside waiting for them.
const STATEMENT: Duration = Duration::from_millis(100);

/// Whose shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// Those that only this group has. A move alone needs no others, and so does not wait for another
    /// group's hold of them.
    OfGroup(i32),
    /// Those of reference tables, which are every group's, in a mode in which several sessions can
    /// have them.
    OfReferenceTables,
}

/// The locks of one transaction.
#[derive(Clone, Copy, Debug)]
pub struct ShardLocks {
    /// Of which shards.
    pub shards: Shards,
    /// How long the locks may be waited for: each of them, and with little more all of them.
    pub wait: Duration,
    /// When the transaction ends at the latest, counted on the server from its beginning.
    pub left: Duration,
}

impl Dialect {
    /// Waits for the writers of this group's own shards, and keeps new ones waiting. Without
    /// reference tables: they have a shard in every group, and locking those would make every other
    /// group wait for this one's writers (rule 7).
    pub fn lock_own_shards(&self, group: i32) -> Option<String> {
        self.locks_shards.then(|| lock(Shards::OfGroup(group)))
    }

    /// Begins a transaction, takes the locks, and leaves the transaction open for what is left of
    /// its time. `None` before Citus 8.
    pub fn lock_shards(&self, locks: &ShardLocks) -> Option<String> {
        self.locks_shards.then(|| {
            let statement = locks.wait + STATEMENT;
            let mut texts = vec![
                "BEGIN".to_owned(),
                set_local("lock_timeout", locks.wait.min(locks.left)),
                set_local("statement_timeout", statement.min(locks.left)),
                lock(locks.shards),
            ];
            // The second one strikes although this program is dead by then (rule 2).
            for setting in ["statement_timeout", "idle_in_transaction_session_timeout"] {
                texts.push(set_to_what_is_left(setting, locks.left));
            }
            batch(texts.iter().map(String::as_str))
        })
    }
}

/// Whether the database has reference tables.
pub const HAS_REFERENCE_TABLES: &str =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition t WHERE t.repmodel = 't')";

/// By shard id, so that two holds that lock the same shards do not deadlock. Of no shard nothing is
/// locked: `lock_shard_metadata` refuses an empty array.
fn lock(shards: Shards) -> String {
    let (mode, placements, which) = match shards {
        Shards::OfGroup(group) => (
            EXCLUSIVE,
            "pg_catalog.pg_dist_placement p JOIN pg_catalog.pg_dist_shard s USING (shardid)",
            format!("p.groupid = {group} AND NOT {IS_REFERENCE}"),
        ),
        // Wherever they are placed: it is one shard, and one lock.
        Shards::OfReferenceTables => (
            ROW_EXCLUSIVE,
            "pg_catalog.pg_dist_shard s",
            IS_REFERENCE.to_owned(),
        ),
    };
    format!(
        "SELECT pg_catalog.lock_shard_metadata({mode}, array_agg(shardid ORDER BY shardid)) \
         FROM {placements} JOIN pg_catalog.pg_dist_partition t USING (logicalrelid) \
         WHERE {which} HAVING count(*) > 0"
    )
}

/// Sets a timeout to what is left of the transaction's time, to no more than all of it should the
/// server's clock be set back, and to a moment when nothing is left.
fn set_to_what_is_left(setting: &str, left: Duration) -> String {
    let left = left.as_millis();
    format!(
        "SELECT pg_catalog.set_config('{setting}', least({left}, greatest(1, {left} - (1000 * \
         extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp()))\
         ::int8))::text, true)"
    )
}

/// Sets when the server ends the transaction if nothing more comes of us, counted from now.
pub fn idle_until(left: Duration) -> String {
    set_local("idle_in_transaction_session_timeout", left)
}

/// Ends the sessions that the backend `pid` waits for, except those of this program, and those that
/// merely stand in the queue before it and wait only for sessions of this program. A row each:
/// its process id, the session in words, whether it was ended now.
pub fn terminate_blockers(pid: i32) -> String {
    let (ours, waits_for_us_alone, has_it) = (is_ours("a"), waits_for_us_alone(), has_it(pid));
    blockers(
        pid,
        &format!(
            "WHEN {ours} OR {waits_for_us_alone} AND NOT {has_it} THEN false \
             ELSE COALESCE(pg_catalog.pg_terminate_backend(a.pid), false)"
        ),
    )
}

/// Sees to the sessions that the backend `pid` would wait for in vain, and leaves the others alone:
///
/// - A session that waits for a lock that this very backend has already: its own wait is cancelled,
///   so that it gives everything back and both can try again.
/// - A session that has what the backend wants, and waits in another hold of this program, which
///   may last for seconds (a write of many shards takes their locks one by one): that statement is
///   cancelled. It has not done anything yet.
///
/// A row each: its process id, the session in words, whether its statement was cancelled now.
pub fn untangle_blockers(pid: i32) -> String {
    let (ours, waits_for_us_alone, has_it) = (is_ours("a"), waits_for_us_alone(), has_it(pid));
    blockers(
        pid,
        &format!(
            "WHEN {ours} THEN false \
             WHEN {pid} = ANY (pg_catalog.pg_blocking_pids(b.pid)) \
             THEN NULLIF(pg_catalog.pg_cancel_backend({pid}), true) \
             WHEN {waits_for_us_alone} AND {has_it} THEN pg_catalog.pg_cancel_backend(a.pid) \
             ELSE false"
        ),
    )
}

/// The sessions in the way of the backend `pid`, as `a` and `b`, and what `cases` make of each.
fn blockers(pid: i32, cases: &str) -> String {
    format!(
        "SELECT b.pid, CASE WHEN a.pid IS NULL THEN 'a prepared transaction' \
         ELSE format('pid %s (%s)', a.pid, concat_ws(', ', 'role ' || a.usename, \
         COALESCE(NULLIF(a.application_name, ''), a.backend_type), a.state || ' for ' \
         || extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change)::int || ' s')) END, \
         CASE {cases} END \
         FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids({pid})) b (pid) \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid"
    )
}

fn is_ours(session: &str) -> String {
    format!("COALESCE({session}.application_name, '') LIKE '{APPLICATION}%'")
}

/// Whether `b` waits, and only for sessions of this program.
fn waits_for_us_alone() -> String {
    let ours = is_ours("o");
    format!(
        "(pg_catalog.cardinality(pg_catalog.pg_blocking_pids(b.pid)) > 0 AND NOT EXISTS (SELECT \
         FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(b.pid)) c (pid) \
         LEFT JOIN pg_catalog.pg_stat_activity o ON o.pid = c.pid WHERE NOT {ours}))"
    )
}

/// Whether `b` has the lock that the backend `pid` waits for, and does not just wait for it as well.
fn has_it(pid: i32) -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_locks w JOIN pg_catalog.pg_locks h USING (locktype, \
         database) WHERE w.pid = {pid} AND NOT w.granted AND h.pid = b.pid AND h.granted AND \
         ROW(w.relation, w.classid, w.objid, w.objsubid) IS NOT DISTINCT FROM ROW(h.relation, \
         h.classid, h.objid, h.objsubid))"
    )
}
