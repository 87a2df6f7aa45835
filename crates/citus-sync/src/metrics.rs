//! The daemon's metrics: one struct, registered once; units in the names. "Last success" moves
//! only on success.

use std::fmt::Write as _;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// What was done to a row; labels latency and outcome alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operation {
    Move,
    Register,
    Repair,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Committed.
    Committed,
    /// Committed, after terminating sessions that were in the way.
    Forced,
    /// News came first; nothing was changed.
    Superseded,
    /// Nothing was changed.
    Failed,
    /// The answer to the commit did not arrive.
    Ambiguous,
}

impl EncodeLabelValue for Operation {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Move => "move",
            Self::Register => "register",
            Self::Repair => "repair",
        })
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Committed => "committed",
            Self::Forced => "forced",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Ambiguous => "ambiguous",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct StepLabels {
    pub formation: String,
    pub group: i32,
    pub database: String,
    pub operation: Operation,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct RowLabels {
    pub formation: String,
    pub group: i32,
    pub database: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct GroupLabels {
    pub formation: String,
    pub group: i32,
    pub scope: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct DatabaseLabels {
    pub formation: String,
    pub database: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct OperationLabels {
    pub operation: Operation,
}

/// Buckets from half a millisecond to half a minute: a move takes milliseconds, a promotion
/// seconds.
const SECONDS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Every metric the daemon keeps. Cheap to clone: clones share the numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Steps by outcome.
    pub steps: Family<StepLabels, Counter>,
    /// From the leader found writable to the commit acknowledged.
    pub follow: Family<OperationLabels, Histogram>,
    /// From the leader key seen to the leader found writable: Patroni's promotion, not ours.
    pub promotion: Histogram,
    /// 1 while a group's primary row is not its leader's.
    pub disagree: Family<RowLabels, Gauge>,
    /// Attempts after a failure.
    pub retries: Family<RowLabels, Counter>,
    /// 1 while a group has a leader that answered writable.
    pub leader_writable: Family<GroupLabels, Gauge>,
    /// 1 while Patroni is paused.
    pub paused: Family<GroupLabels, Gauge>,
    /// 1 while a database's rows are known.
    pub database_up: Family<DatabaseLabels, Gauge>,
    /// Unix time at which a database's rows were last compared and found right.
    pub settled_at: Family<RowLabels, Gauge>,
    /// Decisions that the rules stopped: a bug here.
    pub violations: Counter,
    /// Group tasks that had to be started anew: a bug here.
    pub restarts: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            steps: Family::default(),
            follow: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            promotion: Histogram::new(SECONDS),
            disagree: Family::default(),
            retries: Family::default(),
            leader_writable: Family::default(),
            paused: Family::default(),
            database_up: Family::default(),
            settled_at: Family::default(),
            violations: Counter::default(),
            restarts: Counter::default(),
        }
    }
}

/// What the watch on etcd has counted, as read at the moment of a scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchNumbers {
    /// Seconds since the views were last known to be what etcd says.
    pub view_age_seconds: Option<f64>,
    /// Whether the views are fresh.
    pub fresh: bool,
    /// Puts and deletes.
    pub events: u64,
    /// Lists by reason.
    pub relists: Vec<(&'static str, u64)>,
    /// Watches that went on where an earlier one broke off.
    pub resumes: u64,
    /// Connections made anew after a failure.
    pub reconnects: u64,
    /// Keys that could not be read.
    pub malformed_keys: u64,
    /// Values that could not be read.
    pub malformed_values: u64,
    /// Requests by kind.
    pub requests: Vec<(&'static str, u64)>,
}

impl Metrics {
    /// The exposition in the OpenMetrics text format.
    pub fn expose(&self, watch: &WatchNumbers, ready: bool) -> String {
        let mut registry = Registry::with_prefix("citus_sync");
        self.register(&mut registry);
        register_watch(registry.sub_registry_with_prefix("etcd"), watch);
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::from(ready));
        registry.register("ready", "1 while /readyz says 200", gauge);
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &registry) {
            // Only a label that cannot be written could do this; say so rather than lie.
            text.clear();
            let _ = writeln!(text, "# the exposition failed: {error}\n# EOF");
        }
        text
    }

    fn register(&self, registry: &mut Registry) {
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "This program", build);
        registry.register(
            "steps",
            "Changes to pg_dist_node, by outcome",
            self.steps.clone(),
        );
        registry.register_with_unit(
            "follow",
            "From the leader found writable to the commit of its row",
            Unit::Seconds,
            self.follow.clone(),
        );
        registry.register_with_unit(
            "promotion",
            "From the leader key seen to the leader found writable",
            Unit::Seconds,
            self.promotion.clone(),
        );
        registry.register(
            "row_disagrees",
            "1 while the primary row is not the leader's",
            self.disagree.clone(),
        );
        registry.register(
            "retries",
            "Attempts after a failed step",
            self.retries.clone(),
        );
        registry.register(
            "leader_writable",
            "1 while the group's leader answered that it takes writes",
            self.leader_writable.clone(),
        );
        registry.register("paused", "1 while Patroni is paused", self.paused.clone());
        registry.register(
            "database_up",
            "1 while the rows of the database are known",
            self.database_up.clone(),
        );
        registry.register(
            "settled_timestamp_seconds",
            "When the row was last compared with the leader and found right",
            self.settled_at.clone(),
        );
        registry.register(
            "rule_violations",
            "Decisions stopped by the invariant checker: a bug",
            self.violations.clone(),
        );
        registry.register(
            "task_restarts",
            "Group tasks started anew: a bug",
            self.restarts.clone(),
        );
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

fn register_watch(registry: &mut Registry, watch: &WatchNumbers) {
    let age = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
    age.set(watch.view_age_seconds.unwrap_or(f64::INFINITY));
    registry.register_with_unit(
        "view_age",
        "Since the views were last known to be what etcd says",
        Unit::Seconds,
        age,
    );
    let fresh = Gauge::<i64>::default();
    fresh.set(i64::from(watch.fresh));
    registry.register(
        "view_fresh",
        "1 while decisions may be made on the views",
        fresh,
    );
    let counted = |value: u64| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        counter
    };
    for (name, help, value) in [
        ("events", "Puts and deletes that arrived", watch.events),
        (
            "resumes",
            "Watches that went on where an earlier one broke off",
            watch.resumes,
        ),
        (
            "reconnects",
            "Connections made anew after a failure",
            watch.reconnects,
        ),
        (
            "malformed_keys",
            "Keys that could not be read",
            watch.malformed_keys,
        ),
        (
            "malformed_values",
            "Values that could not be read",
            watch.malformed_values,
        ),
    ] {
        registry.register(name, help, counted(value));
    }
    let relists = Family::<ReasonLabels, Counter>::default();
    for (reason, value) in &watch.relists {
        relists
            .get_or_create(&ReasonLabels { reason })
            .inc_by(*value);
    }
    registry.register("relists", "Lists of everything, by reason", relists);
    let requests = Family::<KindLabels, Counter>::default();
    for (kind, value) in &watch.requests {
        requests.get_or_create(&KindLabels { kind }).inc_by(*value);
    }
    registry.register("requests", "Requests to etcd, by kind", requests);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_is_openmetrics_and_ends_so() {
        let metrics = Metrics::default();
        let labels = OperationLabels {
            operation: Operation::Move,
        };
        metrics.follow.get_or_create(&labels).observe(0.004);
        let watch = WatchNumbers {
            view_age_seconds: Some(0.5),
            fresh: true,
            relists: vec![("start", 1)],
            requests: vec![("list", 1), ("watch", 2)],
            ..WatchNumbers::default()
        };
        let text = metrics.expose(&watch, true);
        assert!(text.ends_with("# EOF\n"), "{text}");
        for line in [
            "citus_sync_etcd_view_age_seconds 0.5",
            "citus_sync_etcd_relists_total{reason=\"start\"} 1",
            "citus_sync_etcd_requests_total{kind=\"watch\"} 2",
            "citus_sync_follow_seconds_count{operation=\"move\"} 1",
            "citus_sync_ready 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
