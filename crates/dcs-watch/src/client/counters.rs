//! Counts since the start, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::machine::{Moment, Reason};

/// The views were never complete yet.
const NEVER: u64 = u64::MAX;

/// Counts since the start. Each only rises; read it with [`AtomicU64::load`], in any ordering.
#[derive(Debug)]
pub struct Counters {
    /// Puts and deletes that a watch delivered.
    pub events: AtomicU64,
    /// Times that the subscribers of a scope were woken.
    pub published: AtomicU64,
    /// Watches that went on where an earlier one broke.
    pub resumes: AtomicU64,
    /// Connections after a failure of the one before.
    pub reconnects: AtomicU64,
    /// Times that the views went stale.
    pub stale: AtomicU64,
    /// Keys that could not be read, each put counted.
    pub malformed_keys: AtomicU64,
    /// Values that could not be read, each put counted.
    pub malformed_values: AtomicU64,
    /// Requests for a page of a list.
    pub list_requests: AtomicU64,
    /// Requests to open a watch.
    pub watch_requests: AtomicU64,
    /// Requests for progress, a sign of life.
    pub progress_requests: AtomicU64,
    relists: [AtomicU64; Reason::ALL.len()],
    started: Instant,
    heard: AtomicU64,
}

impl Counters {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            events: AtomicU64::default(),
            published: AtomicU64::default(),
            resumes: AtomicU64::default(),
            reconnects: AtomicU64::default(),
            stale: AtomicU64::default(),
            malformed_keys: AtomicU64::default(),
            malformed_values: AtomicU64::default(),
            list_requests: AtomicU64::default(),
            watch_requests: AtomicU64::default(),
            progress_requests: AtomicU64::default(),
            relists: Default::default(),
            started,
            heard: AtomicU64::new(NEVER),
        }
    }

    /// Lists so far for each reason (the label of a metric), in a fixed order.
    pub fn relists(&self) -> Vec<(&'static str, u64)> {
        Reason::ALL
            .iter()
            .zip(&self.relists)
            .map(|(reason, count)| (reason.label(), count.load(Ordering::Relaxed)))
            .collect()
    }

    /// The time since the views were last known to be what etcd says, to the millisecond; none
    /// before the first list.
    pub fn view_age(&self) -> Option<Duration> {
        let heard = self.heard.load(Ordering::Relaxed);
        (heard != NEVER).then(|| {
            self.started
                .elapsed()
                .saturating_sub(Duration::from_millis(heard))
        })
    }

    pub(super) fn relist(&self, reason: Reason) {
        if let Some(at) = Reason::ALL.iter().position(|known| *known == reason) {
            bump(&self.relists[at]);
        }
    }

    pub(super) fn heard(&self, moment: Moment) {
        let millis = u64::try_from(moment.as_millis()).unwrap_or(NEVER - 1);
        self.heard.store(millis, Ordering::Relaxed);
    }
}

pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
