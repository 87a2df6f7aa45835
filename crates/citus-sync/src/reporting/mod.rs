//! The subscribers to what happens to a group: the log, the metrics, the history and the state store.
//! The group reconciler publishes each event once.

mod counts;
mod log;
#[cfg(test)]
mod tests;

use citus_core::event::{Event, Whose};
use citus_core::report::GroupReport;

use crate::state::StateStore;

/// The subscribers to one group's events.
pub struct Reporting {
    store: StateStore,
    whose: Whose,
}

impl Reporting {
    /// For the group `whose`.
    pub fn new(store: StateStore, whose: Whose) -> Self {
        Self { store, whose }
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
    pub fn report(&self, report: GroupReport) {
        counts::gauge(self.store.metrics(), &self.whose, &report);
        self.store.post(&self.whose.formation, report);
    }
}
