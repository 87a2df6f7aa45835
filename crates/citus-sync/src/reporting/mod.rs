//! The subscribers to what happens to a group: the log, the metrics, the history and the state store.
//! The group reconciler publishes each event once.

mod counts;
mod log;
#[cfg(test)]
mod tests;

use citus_core::event::{Event, Whose};
use citus_core::report::{GroupReport, ReachReport};

use crate::state::StateStore;

/// The subscribers to one group's events.
pub struct Reporting {
    store: StateStore,
    whose: Whose,
    /// What the coordinator was last said to reach.
    reach: Vec<ReachReport>,
}

impl Reporting {
    /// For the group `whose`.
    pub fn new(store: StateStore, whose: Whose) -> Self {
        Self {
            store,
            whose,
            reach: Vec::new(),
        }
    }

    /// Hands an event to each subscriber.
    pub fn publish(&self, event: Event) {
        log::write(&self.whose, &event);
        counts::count(self.store.metrics(), &self.whose, &event);
        if let Event::TransitionOver(transition) = event {
            self.store.record(transition);
        }
    }

    /// What the group is like now.
    pub fn report(&mut self, report: GroupReport) {
        counts::gauge(self.store.metrics(), &self.whose, &report);
        if self.reach != report.reach {
            counts::reach(
                self.store.metrics(),
                &self.whose,
                &self.reach,
                &report.reach,
            );
            self.reach.clone_from(&report.reach);
        }
        self.store.post(&self.whose.formation, report);
    }
}
