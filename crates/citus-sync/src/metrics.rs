//! The daemon's metrics: one struct, registered once; units in the names. "Last success" moves
//! only on success.

mod labels;
mod prometheus_text;
mod watch;

use std::fmt::Write as _;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use labels::{
    DatabaseLabels, EntryNodeLabels, GroupLabels, HoldEnd, HoldLabels, Operation, OperationLabels,
    Outcome, PhaseLabels, ReachLabels, RowLabels, StepLabels,
};
pub use watch::WatchNumbers;

/// Buckets from half a millisecond to half a minute: a move takes milliseconds, a promotion
/// seconds.
const SECONDS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// How the numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What Prometheus asks for since version 2.5.
    OpenMetrics,
    /// What everything that scrapes understands, `promtool check metrics` included.
    PrometheusText,
}

impl Format {
    /// The content type that tells a reader which it is.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PrometheusText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

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
    /// 1 while the coordinator reaches a member, or a row's address.
    pub reach: Family<ReachLabels, Gauge>,
    /// Attempts after a failure.
    pub retries: Family<RowLabels, Counter>,
    /// 1 while a group has a leader that answered writable.
    pub leader_writable: Family<GroupLabels, Gauge>,
    /// 1 while Patroni is paused.
    pub paused: Family<GroupLabels, Gauge>,
    /// 1 while a database's rows are known.
    pub database_up: Family<DatabaseLabels, Gauge>,
    /// Unix time at which a database's rows were last compared and found right.
    pub in_sync_at: Family<RowLabels, Gauge>,
    /// Holds, by how they ended.
    pub holds: Family<HoldLabels, Counter>,
    /// How long writes of a group were held.
    pub held: Histogram,
    /// 1 while a group is held.
    pub holding: Family<GroupLabels, Gauge>,
    /// Unix time at which the standing hold ends whatever happens; 0 when none stands.
    pub hold_deadline: Family<GroupLabels, Gauge>,
    /// Reads sent to a standby.
    pub read_moves: Family<RowLabels, Counter>,
    /// Entry nodes that a hold or a move was not made on.
    pub entry_nodes_skipped: Family<EntryNodeLabels, Counter>,
    /// Since the transition began.
    pub phases: Family<PhaseLabels, Histogram>,
    /// Sessions ended, or statements cancelled, because they were in the way of a hold or a move.
    pub terminated: Family<RowLabels, Counter>,
    /// Prepared transactions recovered after a move.
    pub recovered: Family<DatabaseLabels, Counter>,
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
            reach: Family::default(),
            retries: Family::default(),
            leader_writable: Family::default(),
            paused: Family::default(),
            database_up: Family::default(),
            in_sync_at: Family::default(),
            holds: Family::default(),
            held: Histogram::new(SECONDS),
            holding: Family::default(),
            hold_deadline: Family::default(),
            read_moves: Family::default(),
            entry_nodes_skipped: Family::default(),
            phases: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            terminated: Family::default(),
            recovered: Family::default(),
            violations: Counter::default(),
            restarts: Counter::default(),
        }
    }
}

impl Metrics {
    /// The exposition: every number as it is now.
    pub fn expose(&self, format: Format, numbers: &WatchNumbers, ready: bool) -> String {
        let registry = self.registry(numbers, ready);
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &registry) {
            // Only a label that cannot be written could do this; say so rather than lie.
            text.clear();
            let _ = writeln!(text, "# the exposition failed: {error}\n# EOF");
        }
        match format {
            Format::OpenMetrics => text,
            Format::PrometheusText => prometheus_text::of(&text),
        }
    }

    /// All that is registered.
    pub(crate) fn registry(&self, numbers: &WatchNumbers, ready: bool) -> Registry {
        let mut registry = Registry::with_prefix("citus_sync");
        self.register(&mut registry);
        watch::register(registry.sub_registry_with_prefix("etcd"), numbers);
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::from(ready));
        registry.register("ready", "1 while /readyz says 200", gauge);
        registry
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
            "coordinator_reaches",
            "1 while the coordinator reaches the member, or the address of the row",
            self.reach.clone(),
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
            "in_sync_timestamp_seconds",
            "When the row was last compared with the leader and found right",
            self.in_sync_at.clone(),
        );
        self.register_holds(registry);
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

    fn register_holds(&self, registry: &mut Registry) {
        registry.register("holds", "Holds, by how they ended", self.holds.clone());
        registry.register_with_unit(
            "held",
            "How long writes of a group were held",
            Unit::Seconds,
            self.held.clone(),
        );
        registry.register(
            "holding",
            "1 while writes of the group are held",
            self.holding.clone(),
        );
        registry.register(
            "hold_deadline_timestamp_seconds",
            "When the standing hold ends whatever happens; 0 when none stands",
            self.hold_deadline.clone(),
        );
        registry.register(
            "read_moves",
            "Reads of a group sent to a standby while its primary could not serve them",
            self.read_moves.clone(),
        );
        registry.register(
            "entry_nodes_skipped",
            "Worker leaders on which a hold or a move was not made",
            self.entry_nodes_skipped.clone(),
        );
        registry.register_with_unit(
            "phase",
            "From the first news of a transition to each thing that happened in it",
            Unit::Seconds,
            self.phases.clone(),
        );
        registry.register(
            "sessions_terminated",
            "Sessions ended, or statements cancelled, because they were in the way of a hold or a move",
            self.terminated.clone(),
        );
        registry.register(
            "prepared_transactions_recovered",
            "Prepared transactions finished by recover_prepared_transactions() after a move",
            self.recovered.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use citus_core::event::Whose;
    use citus_core::report::Phase;
    use dcs_watch::HostPort;

    #[test]
    fn the_exposition_is_openmetrics_and_ends_with_eof() {
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
        let text = metrics.expose(Format::OpenMetrics, &watch, true);
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

    /// Group 1 of the formation `cn`.
    fn group_1() -> Whose {
        Whose {
            formation: "cn".to_owned(),
            group: 1,
            scope: "wk1".to_owned(),
        }
    }

    /// Fails unless the exposition has each of these lines.
    fn assert_lines(metrics: &Metrics, lines: &[String]) {
        let text = metrics.expose(Format::OpenMetrics, &WatchNumbers::default(), true);
        for line in lines {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn metrics_of_a_row_are_exposed_by_their_names_and_labels() {
        let metrics = Metrics::default();
        let row = RowLabels::of(&group_1(), "app");
        metrics.read_moves.get_or_create(&row).inc();
        metrics.terminated.get_or_create(&row).inc();
        let node: HostPort = "10.0.2.1:5432".parse().unwrap();
        let node = EntryNodeLabels::of(&group_1(), "app", &node);
        metrics.entry_nodes_skipped.get_or_create(&node).inc();
        let database = DatabaseLabels::of(&group_1(), "app");
        metrics.recovered.get_or_create(&database).inc_by(2);

        let row = "{formation=\"cn\",group=\"1\",database=\"app\"} 1";
        let database = "formation=\"cn\",database=\"app\"";
        assert_lines(
            &metrics,
            &[
                format!("citus_sync_read_moves_total{row}"),
                format!("citus_sync_sessions_terminated_total{row}"),
                format!(
                    "citus_sync_entry_nodes_skipped_total{{{database},\
                     entry_node=\"10.0.2.1:5432\"}} 1"
                ),
                format!("citus_sync_prepared_transactions_recovered_total{{{database}}} 2"),
            ],
        );
    }

    #[test]
    fn metrics_of_holds_are_exposed_by_their_names_and_labels() {
        let metrics = Metrics::default();
        let group = GroupLabels::of(&group_1());
        metrics.held.observe(0.7);
        metrics.holding.get_or_create(&group).set(1);
        let deadline = 1_795_348_800;
        metrics.hold_deadline.get_or_create(&group).set(deadline);
        let ends = [
            (HoldEnd::Released, "released"),
            (HoldEnd::Followed, "followed"),
            (HoldEnd::Expired, "expired"),
            (HoldEnd::Failed, "failed"),
            (HoldEnd::Lost, "lost"),
        ];
        for (end, _) in ends {
            let labels = HoldLabels::of(&group_1(), end);
            metrics.holds.get_or_create(&labels).inc();
        }
        let phase = PhaseLabels::of(Phase::ReadsMoved);
        metrics.phases.get_or_create(&phase).observe(0.02);

        let group = "{formation=\"cn\",group=\"1\",scope=\"wk1\"}";
        let mut lines = vec![
            "citus_sync_held_seconds_count 1".to_owned(),
            "citus_sync_held_seconds_bucket{le=\"1.0\"} 1".to_owned(),
            format!("citus_sync_holding{group} 1"),
            format!("citus_sync_hold_deadline_timestamp_seconds{group} 1795348800"),
            "citus_sync_phase_seconds_count{phase=\"reads_moved\"} 1".to_owned(),
        ];
        lines.extend(ends.map(|(_, end)| {
            format!("citus_sync_holds_total{{formation=\"cn\",group=\"1\",outcome=\"{end}\"}} 1")
        }));
        assert_lines(&metrics, &lines);
    }
}
