//! Requests to etcd: as the daemon counts them, and as etcd itself does.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use lab::Etcd;
use serde::Serialize;

use super::support::daemon::Daemon;

/// Counts up to now, or between two moments.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Requests {
    /// Pages of lists, by the daemon's count.
    pub(crate) lists: u64,
    /// Watches opened.
    pub(crate) watches: u64,
    /// Signs of life asked for in an open watch: messages, not calls.
    pub(crate) progress: u64,
    /// Events that came in the watch.
    #[serde(skip)]
    pub(crate) events: u64,
    /// Calls begun, by etcd's count and method; without the puts, which are the bench's.
    pub(crate) by_etcd: BTreeMap<String, u64>,
}

impl Requests {
    /// Asks both.
    pub(crate) fn read(daemon: &Daemon, etcd: &Etcd) -> Result<Self> {
        let (status, ours) = daemon.get("/metrics")?;
        ensure!(status == 200, "/metrics of citus-sync answered {status}");
        let kind = |kind: &str| {
            sample(
                &ours,
                &format!("citus_sync_etcd_requests_total{{kind=\"{kind}\"}}"),
            )
        };
        let url = format!("{}/metrics", etcd.endpoint());
        let theirs = ureq::get(&url)
            .call()
            .with_context(|| format!("GET {url}"))?;
        let theirs = theirs.into_body().read_to_string()?;
        let calls = theirs.lines().filter_map(|line| {
            let labels = line.strip_prefix("grpc_server_started_total{")?;
            let method = labels.split("grpc_method=\"").nth(1)?.split('"').next()?;
            let count = labels.rsplit(' ').next()?.parse::<f64>().ok()?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a counter
            Some((method.to_owned(), count as u64))
        });
        Ok(Self {
            lists: kind("list")?,
            watches: kind("watch")?,
            progress: kind("progress")?,
            events: sample(&ours, "citus_sync_etcd_events_total")?,
            by_etcd: calls.filter(|(method, _)| method != "Put").collect(),
        })
    }

    /// What was added since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |method: &String| earlier.by_etcd.get(method).copied().unwrap_or(0);
        let calls = self
            .by_etcd
            .iter()
            .map(|(method, now)| (method.clone(), now - before(method)));
        Self {
            lists: self.lists - earlier.lists,
            watches: self.watches - earlier.watches,
            progress: self.progress - earlier.progress,
            events: self.events - earlier.events,
            by_etcd: calls.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Calls of all methods, by etcd's count.
    pub(crate) fn calls(&self) -> u64 {
        self.by_etcd.values().sum()
    }
}

fn sample(metrics: &str, name: &str) -> Result<u64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.with_context(|| format!("no {name} in /metrics of citus-sync"))?;
    value.parse().with_context(|| format!("{name} {value}"))
}
