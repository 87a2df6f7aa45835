//! When a hold request is answered, and with what.

use std::time::{Duration, Instant};

use super::effect::Effect;
use super::requests::{Waiting, Wants};
use super::state::Group;
use crate::plan::{Decision, Situation, Stay, Step, Wait};
use crate::report::{HoldAnswer, HoldOutcome};

/// How long reads may take to go to a standby once everything is held, before a hook is answered:
/// PostgreSQL waits for the hook, and writers wait for PostgreSQL.
const READS_PATIENCE: Duration = Duration::from_secs(1);

/// How long entry nodes may take from then on to be held and to follow a read move: what they do not do
/// in time, their clients see fail. One that is silent, or has a long writer, is worth no more of
/// everybody's time.
const ENTRY_NODES_PATIENCE: Duration = Duration::from_millis(500);

/// How far the hold is that is waited for.
struct Progress {
    /// Every database is held that can be held at all, reads and entry nodes have followed, or have
    /// used up our patience.
    complete: bool,
    /// What it was asked for is over.
    over: bool,
}

impl Group {
    /// Answers those that can be, or must be, answered now.
    pub(super) fn answer_requests(
        &mut self,
        situation: &Situation<'_>,
        decision: &Decision,
        now: Instant,
    ) {
        let progress = Progress {
            complete: self.is_complete(decision, now),
            over: situation.reason_to_hold().is_none(),
        };
        for waiting in self.requests.waiting().to_vec() {
            let Some((outcome, why)) = self.outcome(&waiting, &progress, decision, now) else {
                continue;
            };
            self.requests.keep(|other| other.id != waiting.id);
            self.answer(waiting, outcome, why, now);
        }
        if self.requests.waiting().is_empty() && self.readers.forget() {
            self.want(Effect::ForgetReaders);
        }
    }

    /// Whether the hold is as complete as it will be.
    fn is_complete(&mut self, decision: &Decision, now: Instant) -> bool {
        // A database that cannot be held whatever happens is not waited for.
        let mut possible = (decision.steps.iter())
            .filter(|(_, step)| !step.is_out_of_reach())
            .peekable();
        let all_held =
            possible.peek().is_some() && possible.all(|(database, _)| self.slots.is_open(database));
        let Some(hold) = self.phase.hold_mut() else {
            return false;
        };
        if !all_held {
            hold.complete_since = None;
            return false;
        }
        let since = *hold.complete_since.get_or_insert(now);
        let reads_moved = hold.reads_at.is_some();
        let is_patient = |patience| now < since + patience;
        let quiet = self.slots.open_holds().all(|(_, status)| status.quiet);
        if (is_patient(READS_PATIENCE) && !self.reads_have_moved(decision))
            || (is_patient(ENTRY_NODES_PATIENCE) && !quiet)
        {
            return false;
        }
        // Where reads stayed no statement's end is waited for.
        if !reads_moved {
            return true;
        }
        if self.readers.moved(now) {
            self.want(Effect::ReadersMoved);
        }
        self.readers.are_done(now)
    }

    /// Whether reads are where they can be. A read move is seen in the coordinator's rows before the
    /// entry nodes have followed.
    fn reads_have_moved(&self, decision: &Decision) -> bool {
        decision.steps.iter().all(|(database, step)| match step {
            _ if self.attempts.is_running(database) => false,
            Step::Wait(Wait::Held { stay, .. }) => !matches!(
                stay,
                Some(Stay::Asking | Stay::Behind { .. } | Stay::NoStandby)
            ),
            Step::ReadMove(_) => false,
            _ => true,
        })
    }

    /// What to answer to a request, once it is to be answered.
    fn outcome(
        &self,
        waiting: &Waiting,
        progress: &Progress,
        decision: &Decision,
        now: Instant,
    ) -> Option<(HoldOutcome, String)> {
        let late = waiting.by <= now;
        match waiting.wants {
            Wants::Hold if progress.complete || late || progress.over => {
                Some(self.hold_outcome(progress, decision))
            }
            Wants::Release if self.slots.is_empty() => Some((HoldOutcome::Released, String::new())),
            Wants::Release if late => {
                let why = "its end was asked for, and is under way".to_owned();
                Some((HoldOutcome::Partly, why))
            }
            Wants::Hold | Wants::Release => None,
        }
    }

    fn hold_outcome(&self, progress: &Progress, decision: &Decision) -> (HoldOutcome, String) {
        let some = self.slots.open_holds().next().is_some();
        let all = decision
            .steps
            .keys()
            .all(|database| self.slots.is_open(database));
        let outcome = match (all, some) {
            (true, _) => HoldOutcome::Held,
            (false, true) => HoldOutcome::Partly,
            (false, false) => HoldOutcome::NotHeld,
        };
        let why = if all && progress.complete && self.readers.are_left() {
            "statements that began before still run at the leader".to_owned()
        } else if all {
            String::new()
        } else if progress.over {
            "what it was asked for is over".to_owned()
        } else {
            self.what_is_missing(decision)
        };
        (outcome, why)
    }

    fn what_is_missing(&self, decision: &Decision) -> String {
        let missing = decision.steps.iter().filter_map(|(database, step)| {
            if self.slots.is_open(database) {
                return None;
            }
            let failure = self.attempts.failure(database).map(|retry| retry.error);
            let why = failure.unwrap_or_else(|| step.to_string());
            Some(format!("{database}: {why}"))
        });
        missing.collect::<Vec<_>>().join("; ")
    }

    /// When a request has to be answered, or would be.
    pub(super) fn next_answer(&self, now: Instant) -> Option<Instant> {
        let waiting = self.requests.waiting();
        if waiting.is_empty() {
            return None;
        }
        let complete_since = self.phase.hold().and_then(|hold| hold.complete_since);
        let patience = [ENTRY_NODES_PATIENCE, READS_PATIENCE];
        let ends = patience.map(|patience| complete_since.map(|since| since + patience));
        let ends = ends.into_iter().chain([self.readers.until()]).flatten();
        let deadlines = waiting.iter().map(|waiting| waiting.by);
        deadlines.chain(ends.filter(|end| *end > now)).min()
    }

    pub(super) fn answer(
        &mut self,
        waiting: Waiting,
        outcome: HoldOutcome,
        message: String,
        now: Instant,
    ) {
        let skipped = self.slots.open_holds().flat_map(|(database, status)| {
            let skipped = status.skipped.into_iter();
            let skipped = skipped.map(move |node| format!("{database}: {node}"));
            let under_way = status.under_way.into_iter();
            skipped.chain(under_way.map(move |node| format!("{database}: {node}: is not held yet")))
        });
        let skipped = skipped.collect();
        let held = self.slots.open_holds().map(|(name, _)| name.to_owned());
        let held = held.collect();
        let whose = &self.settings.whose;
        let took = now.saturating_duration_since(waiting.since);
        let answer = HoldAnswer {
            formation: whose.formation.clone(),
            group: whose.group,
            scope: whose.scope.clone(),
            outcome,
            held,
            reads_moved_to: self.phase.hold().and_then(|hold| hold.reads_at.clone()),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            skipped,
            message,
        };
        self.want(Effect::Answer {
            id: waiting.id,
            answer,
        });
    }
}
