//! Whether servers have the group's shards: what of it a decision is told, and what it has counted.

use std::time::Instant;

use super::effect::Effect;
use super::state::Group;
use crate::plan::{Decision, Identity, ShardCounts};

impl Group {
    /// What was counted, as far as it still says something.
    pub(super) fn shard_counts(&mut self, now: Instant) -> ShardCounts {
        self.counting.ripen(now);
        let view = self.facts.view.clone();
        let leader = view.leader_address();
        let leader = leader.and_then(|address| self.facts.answers.get(address));
        let identity = leader.map_or_else(Identity::default, |probe| probe.identity);
        self.counting.look(&view, identity);
        self.counting.answers()
    }

    /// Has shards counted where a decision waits for it; when to count again.
    pub(super) fn count_shards(&mut self, decision: &Decision) -> Option<Instant> {
        let mut waits = false;
        for (database, wait) in decision.waits() {
            let Some(address) = wait.counts_at() else {
                continue;
            };
            waits = true;
            if let Some(number) = self.counting.begin(database, address) {
                self.want(Effect::CountShards {
                    database: database.to_owned(),
                    address: address.clone(),
                    number,
                });
            }
        }
        // Once nothing waits for it nothing is counted again.
        waits.then(|| self.counting.next_due()).flatten()
    }
}
