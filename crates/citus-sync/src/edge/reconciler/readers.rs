//! Reads that still run at a leader which is about to stop. Reads were sent to a standby, but those
//! that had begun before run on, and would fail with the server. So whoever waits for us before it
//! stops one, Patroni's hook above all, waits for them as well: a little, because writers wait, too.

use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use tokio::sync::watch;

use super::Reconciler;
use super::carry::Aside;
use crate::execute::readers_are_gone;

/// How long those that run may take, once reads are moved. Who reads for longer is no reason to keep
/// everybody's writes waiting.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of them.
#[derive(Default)]
pub(super) struct Readers {
    asked: Option<PendingHold>,
    number: u64,
}

struct PendingHold {
    number: u64,
    /// Said once reads are moved, and when that was.
    moved: watch::Sender<bool>,
    since: Option<Instant>,
    /// Databases in which it is not known yet.
    under_way: usize,
}

impl Readers {
    /// Reads are moved. Whether nobody reads at the leader any more, or has for too long.
    pub(super) fn are_done(&mut self, now: Instant) -> bool {
        let Some(asked) = &mut self.asked else {
            return true;
        };
        asked.moved.send_replace(true);
        let since = *asked.since.get_or_insert(now);
        asked.under_way == 0 || now >= since + PATIENCE
    }

    /// Whether somebody was found to read there until our patience ended.
    pub(super) fn are_left(&self) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.since.is_some() && asked.under_way > 0)
    }

    /// When our patience ends.
    pub(super) fn until(&self) -> Option<Instant> {
        Some(self.asked.as_ref()?.since? + PATIENCE)
    }

    /// Nobody waits any more.
    pub(super) fn forget(&mut self) {
        self.asked = None;
    }

    /// It is known in one more database, or will never be.
    pub(super) fn known(&mut self, number: u64) {
        if let Some(asked) = &mut self.asked
            && asked.number == number
        {
            asked.under_way = asked.under_way.saturating_sub(1);
        }
    }
}

impl Reconciler {
    /// Gets ready to ask the leader, in each database.
    pub(super) fn look_for_readers(&mut self, leader: &HostPort) {
        if self.readers.asked.is_some() {
            return;
        }
        self.readers.number += 1;
        let number = self.readers.number;
        let (moved, listens) = watch::channel(false);
        self.readers.asked = Some(PendingHold {
            number,
            moved,
            since: None,
            under_way: self.context.databases.len(),
        });
        for database in &self.context.databases {
            let (database, entry_nodes) = (database.clone(), self.context.entry_nodes.clone());
            let (leader, listens) = (leader.clone(), listens.clone());
            self.aside.push(Box::pin(async move {
                // Who cannot be asked is not waited for.
                let _ = readers_are_gone(&database, &entry_nodes, &leader, listens).await;
                Aside::Readers { number }
            }));
        }
    }
}
