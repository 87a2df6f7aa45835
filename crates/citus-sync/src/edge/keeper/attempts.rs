//! Which databases have a step under way, which failed, and when each may be tried again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dcs_watch::edge::retry::Retry;

use crate::edge::sql::{Phases, StepError};
use crate::report::RetryReport;

/// The first pause after a failed step.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: what is mended is found within this time, although no event tells of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Attempts {
    databases: BTreeMap<String, Attempt>,
}

struct Attempt {
    running: bool,
    failed: Option<Failed>,
}

struct Failed {
    retry: Retry,
    failures: u32,
    error: String,
    due: Instant,
}

impl Attempts {
    /// Whether nothing is under way in this database, and no pause is.
    pub(super) fn may_start(&self, database: &str) -> bool {
        self.databases.get(database).is_none_or(|attempt| {
            !attempt.running
                && attempt
                    .failed
                    .as_ref()
                    .is_none_or(|failed| failed.due <= Instant::now())
        })
    }

    /// Notes a start; whether it is a retry.
    pub(super) fn start(&mut self, database: &str) -> bool {
        let attempt = self
            .databases
            .entry(database.to_owned())
            .or_insert(Attempt {
                running: false,
                failed: None,
            });
        attempt.running = true;
        attempt.failed.is_some()
    }

    /// Notes an end.
    pub(super) fn end(&mut self, database: &str, result: &Result<Phases, StepError>) {
        let Some(attempt) = self.databases.get_mut(database) else {
            return;
        };
        attempt.running = false;
        match result {
            // A superseded step failed at nothing: what is right now may start at once.
            Ok(_) | Err(StepError::Superseded) => attempt.failed = None,
            Err(error) => {
                let failed = attempt.failed.get_or_insert_with(|| Failed {
                    retry: Retry::new(FIRST_PAUSE, LONGEST_PAUSE),
                    failures: 0,
                    error: String::new(),
                    due: Instant::now(),
                });
                failed.failures += 1;
                failed.error = error.to_string();
                failed.due = Instant::now() + failed.retry.pause();
            }
        }
    }

    /// Forgets all pauses: the leader changed, so what failed is not what will be tried.
    pub(super) fn forget(&mut self) {
        for attempt in self.databases.values_mut() {
            attempt.failed = None;
        }
    }

    /// When the next pause ends.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        self.databases
            .values()
            .filter(|attempt| !attempt.running)
            .filter_map(|attempt| attempt.failed.as_ref())
            .map(|failed| failed.due)
            // One that is past was offered to the last decision, which had no step for it.
            .filter(|due| *due > now)
            .min()
    }

    pub(super) fn is_running(&self, database: &str) -> bool {
        self.databases
            .get(database)
            .is_some_and(|attempt| attempt.running)
    }

    pub(super) fn failure(&self, database: &str) -> Option<RetryReport> {
        let failed = self.databases.get(database)?.failed.as_ref()?;
        Some(RetryReport {
            failures: failed.failures,
            error: failed.error.clone(),
        })
    }
}
