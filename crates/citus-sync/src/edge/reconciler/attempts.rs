//! Which databases have a step under way, which failed, and when each may be tried again.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use dcs_watch::edge::retry::Retry;

use crate::execute::StepError;
use citus_core::plan::Step;
use citus_core::report::RetryReport;

/// The first pause after a failed step.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: what is fixed is found within this time, although no event tells of it.
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
    /// What kind of step failed: another one need not wait.
    kind: Discriminant<Step>,
    /// Until when to pause; none once that has passed.
    due: Option<Instant>,
}

impl Attempts {
    /// Ends the pauses that are over. Only here does a pause end, and only once: a moment that
    /// passed between the decision and the wait would otherwise never be waited for.
    pub(super) fn ripen(&mut self, now: Instant) {
        for failed in self
            .databases
            .values_mut()
            .filter_map(|attempt| attempt.failed.as_mut())
        {
            failed.due = failed.due.filter(|due| *due > now);
        }
    }

    /// Whether nothing is under way in this database, and no pause is.
    pub(super) fn may_start(&self, database: &str, step: &Step) -> bool {
        self.databases.get(database).is_none_or(|attempt| {
            !attempt.running
                && attempt
                    .failed
                    .as_ref()
                    .is_none_or(|failed| failed.due.is_none() || failed.kind != discriminant(step))
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
    pub(super) fn end(&mut self, database: &str, step: &Step, result: Result<(), &StepError>) {
        let Some(attempt) = self.databases.get_mut(database) else {
            return;
        };
        attempt.running = false;
        match result {
            // A superseded step failed at nothing: what is right now may start at once.
            Ok(()) | Err(StepError::Superseded) => attempt.failed = None,
            Err(error) => {
                let kind = discriminant(step);
                let failed = attempt.failed.take().filter(|failed| failed.kind == kind);
                let failed = attempt.failed.insert(failed.unwrap_or_else(|| Failed {
                    retry: Retry::new(FIRST_PAUSE, LONGEST_PAUSE),
                    failures: 0,
                    error: String::new(),
                    kind,
                    due: None,
                }));
                failed.failures += 1;
                failed.error = error.to_string();
                failed.due = Some(Instant::now() + failed.retry.pause());
            }
        }
    }

    /// Forgets all pauses: the leader changed, so what failed is not what will be tried.
    pub(super) fn forget(&mut self) {
        for attempt in self.databases.values_mut() {
            attempt.failed = None;
        }
    }

    /// When the next pause ends; it may have ended just now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let idle = self.databases.values().filter(|attempt| !attempt.running);
        idle.filter_map(|attempt| attempt.failed.as_ref()?.due)
            .min()
    }

    pub(super) fn is_running(&self, database: &str) -> bool {
        self.databases
            .get(database)
            .is_some_and(|attempt| attempt.running)
    }

    /// How many attempts have failed, when that is worth a line in the log: the first, second,
    /// fourth, eighth … time. A night of retries stays readable.
    pub(super) fn worth_telling(&self, database: &str) -> Option<u32> {
        let failures = self.failure(database).map_or(1, |retry| retry.failures);
        failures.is_power_of_two().then_some(failures)
    }

    pub(super) fn failure(&self, database: &str) -> Option<RetryReport> {
        let failed = self.databases.get(database)?.failed.as_ref()?;
        Some(RetryReport {
            failures: failed.failures,
            error: failed.error.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SqlError;

    fn failure() -> StepError {
        SqlError::Io("refused".to_owned()).into()
    }

    const STEP: Step = Step::LetGo;

    #[test]
    fn a_failed_step_pauses_and_the_end_of_the_pause_is_never_missed() {
        let mut attempts = Attempts::default();
        assert!(attempts.may_start("app", &STEP));
        assert!(!attempts.start("app"), "the first start is no retry");
        assert!(!attempts.may_start("app", &STEP), "one at a time");
        attempts.end("app", &STEP, Err(&failure()));
        assert!(!attempts.may_start("app", &STEP), "it pauses");
        let due = attempts.next_due().expect("the end of the pause");

        // Looked at before its end: it is still waited for.
        let before = due.checked_sub(Duration::from_nanos(1));
        attempts.ripen(before.expect("a moment before"));
        assert_eq!(attempts.next_due(), Some(due));
        attempts.ripen(due);
        assert!(attempts.may_start("app", &STEP));
        assert_eq!(attempts.next_due(), None, "nothing is waited for twice");
        assert!(attempts.start("app"), "this is a retry");
    }

    #[test]
    fn other_databases_do_not_pause() {
        let mut attempts = Attempts::default();
        attempts.start("app");
        attempts.end("app", &STEP, Err(&failure()));
        assert!(attempts.may_start("second", &STEP));
    }

    #[test]
    fn a_step_of_another_kind_does_not_pause() {
        let mut attempts = Attempts::default();
        attempts.start("app");
        attempts.end("app", &STEP, Err(&failure()));
        assert!(!attempts.may_start("app", &STEP));
        assert!(attempts.may_start("app", &Step::InSync));
    }

    #[test]
    fn a_new_leader_ends_every_pause() {
        let mut attempts = Attempts::default();
        attempts.start("app");
        attempts.end("app", &STEP, Err(&failure()));
        attempts.forget();
        assert!(attempts.may_start("app", &STEP));
        assert_eq!(attempts.failure("app"), None);
    }

    #[test]
    fn a_superseded_step_may_start_again_at_once() {
        let mut attempts = Attempts::default();
        attempts.start("app");
        attempts.end("app", &STEP, Err(&StepError::Superseded));
        assert!(attempts.may_start("app", &STEP));
    }
}
