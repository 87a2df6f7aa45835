//! Which databases have an order under way, which failed, and when each may be tried again.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use super::input::{Failure, FailureKind};
use crate::plan::Step;
use crate::report::RetryReport;

/// The first pause after a failed step.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: what is fixed is found within this time, although no event tells of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause while a hold stands on until its row can be moved.
const WHILE_HELD: Duration = Duration::from_millis(250);
/// Each pause is longer than the one before by this.
const GROWTH: f64 = 1.5;

/// How long to pause after so many failures in a row: give or take half of it, so that groups that
/// failed together do not come back together.
fn pause(failures: u32, jitter: f64) -> Duration {
    let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
    let grown = FIRST_PAUSE.as_secs_f64() * GROWTH.powi(exponent);
    let capped = grown.min(LONGEST_PAUSE.as_secs_f64());
    Duration::from_secs_f64(capped * (0.5 + jitter.clamp(0.0, 1.0)))
}

#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    databases: BTreeMap<String, Attempt>,
}

#[derive(Clone, Debug)]
struct Attempt {
    running: Option<Running>,
    failed: Option<Failed>,
}

/// An order that is under way.
#[derive(Clone, Debug)]
pub(super) struct Running {
    order: u64,
    pub(super) step: Step,
    /// What was known of the leader when it was started.
    pub(super) seen: Option<Seen>,
}

/// When a leader key was first seen, or its holder was lost, and when that first said it takes writes
/// since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) revision: i64,
    pub(super) at: Instant,
    pub(super) writable: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Failed {
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
            attempt.running.is_none()
                && attempt
                    .failed
                    .as_ref()
                    .is_none_or(|failed| failed.due.is_none() || failed.kind != discriminant(step))
        })
    }

    /// Notes the start of an order; whether it is a retry.
    pub(super) fn start(
        &mut self,
        database: &str,
        order: u64,
        step: &Step,
        seen: Option<Seen>,
    ) -> bool {
        let attempt = self
            .databases
            .entry(database.to_owned())
            .or_insert(Attempt {
                running: None,
                failed: None,
            });
        attempt.running = Some(Running {
            order,
            step: step.clone(),
            seen,
        });
        attempt.failed.is_some()
    }

    /// Notes an end; `jitter` is where in its range the pause is to be.
    pub(super) fn end(
        &mut self,
        database: &str,
        step: &Step,
        result: Result<(), &Failure>,
        jitter: f64,
        now: Instant,
    ) {
        let Some(attempt) = self.databases.get_mut(database) else {
            return;
        };
        attempt.running = None;
        match result {
            Ok(()) => attempt.failed = None,
            // A superseded step failed at nothing: what is right now may start at once.
            Err(failure) if failure.kind == FailureKind::Superseded => attempt.failed = None,
            Err(failure) => {
                let kind = discriminant(step);
                // Writers wait for the next try.
                let longest = if failure.hold_kept {
                    WHILE_HELD
                } else {
                    Duration::MAX
                };
                let failed = attempt.failed.take().filter(|failed| failed.kind == kind);
                let failures = failed.map_or(0, |failed| failed.failures) + 1;
                attempt.failed = Some(Failed {
                    failures,
                    error: failure.text.clone(),
                    kind,
                    due: Some(now + pause(failures, jitter).min(longest)),
                });
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
        let idle = self
            .databases
            .values()
            .filter(|attempt| attempt.running.is_none());
        idle.filter_map(|attempt| attempt.failed.as_ref()?.due)
            .min()
    }

    /// Whether an order is under way anywhere.
    pub(super) fn any_running(&self) -> bool {
        self.databases
            .values()
            .any(|attempt| attempt.running.is_some())
    }

    pub(super) fn is_running(&self, database: &str) -> bool {
        self.databases
            .get(database)
            .is_some_and(|attempt| attempt.running.is_some())
    }

    /// This very order, while it is under way.
    pub(super) fn running(&self, database: &str, order: u64) -> Option<Running> {
        let running = self.databases.get(database)?.running.as_ref()?;
        (running.order == order).then(|| running.clone())
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
    use super::super::clock::zero;
    use super::*;

    const STEP: Step = Step::LetGo;

    fn failure(kind: FailureKind) -> Failure {
        Failure {
            kind,
            text: "refused".to_owned(),
            hold_kept: false,
        }
    }

    fn fail(attempts: &mut Attempts, now: Instant) {
        let failure = failure(FailureKind::Other);
        attempts.end("app", &STEP, Err(&failure), 0.5, now);
    }

    #[test]
    fn a_failed_step_pauses_and_the_end_of_the_pause_is_never_missed() {
        let (mut attempts, zero) = (Attempts::default(), zero());
        assert!(attempts.may_start("app", &STEP));
        assert!(
            !attempts.start("app", 1, &STEP, None),
            "the first start is no retry"
        );
        assert!(
            attempts
                .running("app", 1)
                .is_some_and(|own| own.step == STEP)
        );
        assert!(attempts.running("app", 2).is_none());
        assert!(!attempts.may_start("app", &STEP), "one at a time");
        fail(&mut attempts, zero);
        assert!(!attempts.may_start("app", &STEP), "it pauses");
        let due = attempts.next_due().expect("the end of the pause");

        // Looked at before its end: it is still waited for.
        let before = due.checked_sub(Duration::from_nanos(1));
        attempts.ripen(before.expect("a moment before"));
        assert_eq!(attempts.next_due(), Some(due));
        attempts.ripen(due);
        assert!(attempts.may_start("app", &STEP));
        assert_eq!(attempts.next_due(), None, "nothing is waited for twice");
        assert!(attempts.start("app", 2, &STEP, None), "this is a retry");
    }

    #[test]
    fn pauses_grow_up_to_the_longest_and_vary_by_chance() {
        assert_eq!(pause(1, 0.5), FIRST_PAUSE);
        assert_eq!(pause(2, 0.5), FIRST_PAUSE.mul_f64(GROWTH));
        assert_eq!(pause(u32::MAX, 0.5), LONGEST_PAUSE);
        assert_eq!(pause(1, 0.0), FIRST_PAUSE / 2);
        assert_eq!(
            pause(1, 7.0),
            FIRST_PAUSE.mul_f64(1.5),
            "bad luck is bounded"
        );
    }

    #[test]
    fn other_databases_do_not_pause() {
        let mut attempts = Attempts::default();
        attempts.start("app", 1, &STEP, None);
        fail(&mut attempts, zero());
        assert!(attempts.may_start("second", &STEP));
    }

    #[test]
    fn a_step_of_another_kind_does_not_pause() {
        let mut attempts = Attempts::default();
        attempts.start("app", 1, &STEP, None);
        fail(&mut attempts, zero());
        assert!(!attempts.may_start("app", &STEP));
        assert!(attempts.may_start("app", &Step::InSync));
    }

    #[test]
    fn a_new_leader_ends_every_pause() {
        let mut attempts = Attempts::default();
        attempts.start("app", 1, &STEP, None);
        fail(&mut attempts, zero());
        attempts.forget();
        assert!(attempts.may_start("app", &STEP));
        assert_eq!(attempts.failure("app"), None);
    }

    #[test]
    fn a_superseded_step_may_start_again_at_once() {
        let mut attempts = Attempts::default();
        attempts.start("app", 1, &STEP, None);
        let superseded = failure(FailureKind::Superseded);
        attempts.end("app", &STEP, Err(&superseded), 0.5, zero());
        assert!(attempts.may_start("app", &STEP));
    }
}
