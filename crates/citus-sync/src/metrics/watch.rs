//! The numbers of the watch on etcd. The watch counts them itself; they are read when `/metrics` is.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

pub(super) fn register(registry: &mut Registry, watch: &WatchNumbers) {
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
