//! What a reconciler tells: one log line an event, metrics, and its report on the state store.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dcs_watch::HostPort;
use tracing::{info, warn};

use super::{Reconciler, Seen};
use crate::edge::store::{now_text, text_of};
use crate::execute::StepError;
use crate::metrics::{GroupLabels, Operation, OperationLabels, Outcome, RowLabels, StepLabels};
use citus_core::outcome::Finished;
use citus_core::plan::{Decision, ProbeState, Rows, Rule, Situation, Step, Wait};
use citus_core::report::{GroupDatabaseReport, GroupReport, HoldReport, MoveReport};

/// What the log last said of this group: a line is written when this changes, not on each turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    rule: Rule,
    leader: Option<String>,
    waits: String,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 1e2
}

impl Reconciler {
    pub(super) fn row_labels(&self, database: &str) -> RowLabels {
        RowLabels {
            formation: self.context.name.clone(),
            group: self.group,
            database: database.to_owned(),
        }
    }

    /// The log, the gauges and the report after a decision.
    pub(super) fn tell(&mut self, situation: &Situation<'_>, decision: &Decision) {
        self.log(situation, decision);
        self.gauge(situation, decision);
        let report = self.report(situation, decision);
        self.context.store.post(self.context.formation, report);
    }

    fn log(&mut self, situation: &Situation<'_>, decision: &Decision) {
        let mut waits: Vec<String> = Vec::new();
        for (_, wait) in decision.waits() {
            // Why rows are not known is told by the database's own task, once for all groups.
            let text = wait.to_string();
            if !matches!(wait, Wait::RowsUnknown { .. }) && !waits.contains(&text) {
                waits.push(text);
            }
        }
        let waits = waits.join("; ");
        let leader = situation
            .view
            .leader
            .as_ref()
            .map(|leader| leader.value.clone());
        // A leader that cannot be reached says so in several ways while it goes down: one event.
        // And how far a standby still has to go changes every few milliseconds.
        if decision.rule == Rule::Unreachable && waits.is_empty() {
            return;
        }
        let event = match decision.rule {
            Rule::Unreachable | Rule::Hold | Rule::Promoting => String::new(),
            _ => waits.clone(),
        };
        let told = Told {
            rule: decision.rule,
            leader,
            waits: event,
        };
        if self.told.as_ref() == Some(&told) {
            return;
        }
        let (formation, group, scope) = (&self.context.name, self.group, &self.scope);
        let leader = told.leader.as_deref().unwrap_or("none");
        // Not told here: a move, whose end is the event; a stale view, which the watcher tells of
        // once for all groups; and an answer that is being waited for this very moment.
        match decision.rule {
            Rule::InSync => info!(formation, group, %scope, leader, "in sync"),
            // What is begun tells of itself.
            Rule::Promoting | Rule::LeaderGone if waits.is_empty() => {}
            Rule::Promoting | Rule::LeaderGone => {
                info!(formation, group, %scope, leader, "waiting: {waits}");
            }
            Rule::Unreachable => {
                warn!(formation, group, %scope, leader, "waiting: {waits}");
            }
            Rule::Blocked if !waits.is_empty() => {
                warn!(formation, group, %scope, leader, "waiting: {waits}");
            }
            // Without an address nobody can be asked: that lasts.
            Rule::Unproven if situation.view.leader_address().is_none() => {
                warn!(formation, group, %scope, leader, "waiting: {waits}");
            }
            // And holds tell of themselves.
            Rule::Hold | Rule::Expired | Rule::Resync => {}
            #[expect(clippy::match_same_arms, reason = "for reasons of their own")]
            Rule::Move | Rule::Stale | Rule::Blocked | Rule::Unproven => {}
        }
        self.told = Some(told);
    }

    fn gauge(&self, situation: &Situation<'_>, decision: &Decision) {
        let metrics = self.context.store.metrics();
        let labels = GroupLabels {
            formation: self.context.name.clone(),
            group: self.group,
            scope: self.scope.to_string(),
        };
        let writable = *situation.leader_answer() == ProbeState::Writable;
        metrics
            .leader_writable
            .get_or_create(&labels)
            .set(i64::from(writable));
        metrics
            .paused
            .get_or_create(&labels)
            .set(i64::from(situation.view.is_paused()));
        for (database, step) in &decision.steps {
            let labels = self.row_labels(database);
            let disagrees = row_of(situation, database)
                .zip(situation.view.leader_address())
                .is_some_and(|(row, leader)| row != *leader);
            metrics
                .disagree
                .get_or_create(&labels)
                .set(i64::from(disagrees));
            if *step == Step::InSync
                && let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH)
            {
                let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                metrics.in_sync_at.get_or_create(&labels).set(seconds);
            }
        }
    }

    fn report(&self, situation: &Situation<'_>, decision: &Decision) -> GroupReport {
        let view = situation.view;
        let databases = decision.steps.iter().map(|(database, step)| {
            let report = GroupDatabaseReport {
                row: row_of(situation, database),
                step: step.to_string(),
                wait: match step {
                    Step::Wait(wait) => Some(wait.clone()),
                    _ => None,
                },
                running: self.attempts.is_running(database),
                retry: self.attempts.failure(database),
            };
            (database.clone(), report)
        });
        GroupReport {
            group: self.group,
            scope: self.scope.to_string(),
            leader: view.leader.as_ref().map(|leader| leader.value.clone()),
            address: view.leader_address().cloned(),
            members: view.members.len(),
            paused: view.is_paused(),
            problems: view
                .problems
                .iter()
                .map(|problem| format!("{}: {}", problem.key, problem.what))
                .collect(),
            rule: decision.rule,
            in_sync: decision.is_in_sync(),
            databases: databases.collect(),
            last_move: self.last_move.clone(),
            hold: self.hold_report(),
        }
    }

    fn hold_report(&self) -> Option<HoldReport> {
        let stood = self.holds.stood()?;
        let ahead = stood.deadline.saturating_duration_since(Instant::now());
        Some(HoldReport {
            reason: stood.reason.to_string(),
            since: stood.since_text.clone(),
            deadline: text_of(SystemTime::now() + ahead),
            databases: self.holds.words(),
            reads_at: self.reads_at.clone(),
        })
    }

    /// The log and the metrics after a row was changed, or was to be.
    pub(super) fn recount(
        &mut self,
        database: &str,
        step: &Step,
        seen: Option<Seen>,
        started: Instant,
        result: &Result<Finished, StepError>,
    ) {
        let database = database.to_owned();
        let seen = seen.unwrap_or(Seen {
            revision: 0,
            at: started,
            writable: None,
        });
        let operation = match step {
            Step::Register(_) => Operation::Register,
            Step::Repair(_) => Operation::Repair,
            _ => Operation::Move,
        };
        let writable = seen.writable.unwrap_or(started);
        let (formation, group, scope) = (self.context.name.clone(), self.group, &self.scope);
        let outcome = match result {
            Ok(Finished { phases, .. }) => {
                let until_writable = writable.duration_since(seen.at);
                let until_start = started.duration_since(seen.at);
                let committed = until_start + phases.committed;
                info!(
                    formation, group, %scope, database,
                    writable_ms = millis(until_writable),
                    locked_ms = millis(until_start + phases.locked),
                    committed_ms = millis(committed),
                    forced = phases.forced,
                    "done: {step}"
                );
                self.last_move = Some(MoveReport {
                    at: now_text(),
                    database: database.clone(),
                    step: step.to_string(),
                    writable_us: micros(until_writable),
                    locked_us: micros(until_start + phases.locked),
                    committed_us: micros(committed),
                    forced: phases.forced,
                });
                let follow = started.duration_since(writable) + phases.committed;
                let labels = OperationLabels { operation };
                self.context
                    .store
                    .metrics()
                    .follow
                    .get_or_create(&labels)
                    .observe(follow.as_secs_f64());
                if phases.forced {
                    Outcome::Forced
                } else {
                    Outcome::Committed
                }
            }
            Err(StepError::Superseded) => {
                info!(formation, group, %scope, database, "not done, news came first: {step}");
                Outcome::Superseded
            }
            Err(error) => {
                self.complain(&database, step, error);
                match error {
                    StepError::Ambiguous(_) => Outcome::Ambiguous,
                    _ => Outcome::Failed,
                }
            }
        };
        let labels = StepLabels {
            formation,
            group,
            database,
            operation,
            outcome,
        };
        self.context
            .store
            .metrics()
            .steps
            .get_or_create(&labels)
            .inc();
    }
}

/// Where the group's primary row points in one database, while that is known.
pub(super) fn row_of(situation: &Situation<'_>, database: &str) -> Option<HostPort> {
    match situation.rows.get(database)? {
        Rows::Unknown(_) => None,
        Rows::Known(rows) => rows
            .iter()
            .find(|row| row.groupid == situation.group && row.is_primary())
            .map(|row| row.address.clone()),
    }
}
