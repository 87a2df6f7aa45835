//! Moves, registrations and repairs by Citus's own functions, which tell the workers themselves.

use std::time::Duration;

use dcs_watch::HostPort;

use super::{Dialect, quote};
use crate::plan::{COORDINATOR_GROUP, Exchange, MakeWay, Move, Register, Repair};

/// How long the helper of a forced lock waits before it terminates the sessions in the way. The
/// cooldown has already been waited out without force by then. Not 0: when Citus finds no free
/// worker slot it uses this number as `lock_timeout`, and 0 means for ever there (citus#4102).
const FORCED_COOLDOWN: Duration = Duration::from_millis(100);

/// The locks of an update of `pg_dist_node`, in the order that does not deadlock. Alone,
/// `citus_update_node` takes `RowExclusiveLock` first and `ExclusiveLock` later, so that three
/// moves at once, or one move and Citus's own metadata sync, deadlock (`docs/citus.md`).
const IN_ORDER: &str = "LOCK TABLE pg_catalog.pg_dist_node IN EXCLUSIVE MODE";
const PLAIN_IN_ORDER: &str = "LOCK TABLE pg_catalog.pg_dist_node IN SHARE ROW EXCLUSIVE MODE";

impl Dialect {
    /// Takes every lock on shards that the update will want; with `force`, Citus terminates what
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

    /// The lock that orders plain updates of `pg_dist_node`: what their row trigger takes anyway. It
    /// keeps out the metadata sync and every other move, but does not wait for a transaction that
    /// wrote to a reference table, which keeps `RowShareLock` there until its end.
    pub fn order_plain(&self) -> Option<&'static str> {
        self.orders.then_some(PLAIN_IN_ORDER)
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

    /// The updates of an exchange: every row to its temporary name, then each to its own address.
    pub fn exchange(&self, step: &Exchange) -> Vec<String> {
        let away = (step.parts.iter()).map(|part| self.update(part.nodeid, &part.temporary, false));
        let home = (step.parts.iter()).map(|part| self.update(part.nodeid, &part.to, false));
        away.chain(home).collect()
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
}
