//! What a reconciler tells of holds, read moves and whole transitions: one log line an event, metrics,
//! and the transition for the history.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dcs_watch::HostPort;
use tracing::{info, warn};

use super::Reconciler;
use super::scenario::millis;
use crate::execute::StepError;
use crate::metrics::{
    DatabaseLabels, EntryNodeLabels, GroupLabels, HoldEnd, HoldLabels, PhaseLabels,
};
use crate::session::SqlError;
use citus_core::outcome::{EntryNodeNews, Finished, Skipped};
use citus_core::plan::{Decision, Held, Move, Situation};
use citus_core::report::{Phase, Transition, TransitionOutcome};

impl Reconciler {
    fn group_labels(&self) -> GroupLabels {
        GroupLabels {
            formation: self.context.name.clone(),
            group: self.group,
            scope: self.scope.to_string(),
        }
    }

    fn count_hold(&self, outcome: HoldEnd) {
        let labels = HoldLabels {
            formation: self.context.name.clone(),
            group: self.group,
            outcome,
        };
        self.context
            .store
            .metrics()
            .holds
            .get_or_create(&labels)
            .inc();
    }

    pub(super) fn count_skipped(&self, database: &str, skipped: &[Skipped]) {
        for Skipped {
            node: entry_node,
            error,
        } in skipped
        {
            let labels = EntryNodeLabels {
                formation: self.context.name.clone(),
                database: database.to_owned(),
                entry_node: entry_node.to_string(),
            };
            self.context
                .store
                .metrics()
                .entry_nodes_skipped
                .get_or_create(&labels)
                .inc();
            warn!(
                formation = self.context.name, group = self.group, scope = %self.scope, database,
                %entry_node, "skipped an entry node: its clients are not held, and go by its own metadata \
                until Citus has told it: {error}"
            );
        }
    }

    pub(super) fn count_terminated(&self, database: &str, terminated: usize) {
        if terminated > 0 {
            self.context
                .store
                .metrics()
                .terminated
                .get_or_create(&self.row_labels(database))
                .inc_by(terminated as u64);
        }
    }

    /// What became of a hold's entry nodes since it was last told.
    pub(super) fn entry_nodes_since(&mut self, database: &str, news: &EntryNodeNews) {
        self.count_skipped(database, &news.skipped);
        self.count_terminated(database, news.terminated.len());
        if let Some(recorder) = &mut self.recorder {
            recorder.entry_nodes(database, news);
        }
    }

    /// Entry nodes that took longer than the coordinator are held, too, or are known not to be.
    pub(super) fn entry_nodes_joined(&mut self, database: &str, news: &EntryNodeNews) {
        self.entry_nodes_since(database, news);
        info!(
            formation = self.context.name, group = self.group, scope = %self.scope, database,
            entry_nodes = news.held, skipped = news.skipped.len(), terminated = news.terminated.len(),
            "writes are held at the entry nodes, too"
        );
    }

    /// Writes of one database are held.
    pub(super) fn hold_taken(&mut self, database: &str, news: &EntryNodeNews) {
        if let Some(recorder) = &mut self.recorder {
            recorder.held(database);
        }
        self.entry_nodes_since(database, news);
        let Some(stood) = self.holds.stood() else {
            return;
        };
        let left = stood.deadline.saturating_duration_since(Instant::now());
        info!(
            formation = self.context.name, group = self.group, scope = %self.scope, database,
            held_ms = millis(stood.since.elapsed()),
            entry_nodes = news.held, skipped = news.skipped.len(), terminated = news.terminated.len(),
            ends_in_ms = left.as_millis(),
            "writes are held: {}", stood.reason
        );
        let metrics = self.context.store.metrics();
        let labels = self.group_labels();
        metrics.holding.get_or_create(&labels).set(1);
        if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
            let deadline = i64::try_from((now + left).as_secs()).unwrap_or(i64::MAX);
            metrics.hold_deadline.get_or_create(&labels).set(deadline);
        }
    }

    pub(super) fn hold_failed(&mut self, database: &str, error: &StepError) {
        if matches!(error, StepError::Superseded) {
            return;
        }
        self.count_hold(HoldEnd::Failed);
        if let Some(failures) = self.attempts.worth_telling(database) {
            warn!(
                formation = self.context.name, group = self.group, scope = %self.scope, database,
                failures, "could not hold writes, will try again while there is a reason: {error}"
            );
        }
    }

    /// The coordinator could not be asked about a member that is lost, in whichever database.
    pub(super) fn coordinator_not_asked(
        &self,
        address: &HostPort,
        failures: u32,
        error: &SqlError,
    ) {
        warn!(
            formation = self.context.name, group = self.group, scope = %self.scope, %address, failures,
            "the coordinator could not be asked whether it reaches a lost member, so reads stay \
             where they are; it is asked again: {error}"
        );
    }

    /// The coordinator closed the holding session: writes go on, whatever we wanted.
    pub(super) fn hold_lost(&mut self, database: &str) {
        self.count_hold(HoldEnd::Lost);
        if let Some(recorder) = &mut self.recorder {
            recorder.failed(database, "the coordinator closed the session that held");
            recorder.released(database);
        }
        warn!(
            formation = self.context.name, group = self.group, scope = %self.scope, database,
            "lost a hold: the coordinator closed the session; its entry nodes stay held, and it is taken \
             again while there is a reason"
        );
    }

    /// Reads of one database go to a standby, or back.
    pub(super) fn reads_are_moved(&mut self, database: &str, step: &Move, finished: &Finished) {
        self.count_skipped(database, &finished.skipped);
        if finished.plain {
            self.holds.owe_resync(database);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.reads_moved(database, &finished.skipped);
        }
        self.context
            .store
            .metrics()
            .read_moves
            .get_or_create(&self.row_labels(database))
            .inc();
        let since = self.holds.stood().map(|stood| stood.since);
        info!(
            formation = self.context.name, group = self.group, scope = %self.scope, database,
            from = %step.from, to = %step.to,
            after_ms = since.map(|since| millis(since.elapsed())),
            took_ms = millis(finished.phases.committed),
            "reads are moved"
        );
    }

    pub(super) fn recovered(&self, database: &str, count: i64) {
        if count <= 0 {
            return;
        }
        info!(
            formation = self.context.name, group = self.group, scope = %self.scope, database,
            count, "recovered prepared transactions that a lost session left"
        );
        let labels = DatabaseLabels {
            formation: self.context.name.clone(),
            database: database.to_owned(),
        };
        self.context
            .store
            .metrics()
            .recovered
            .get_or_create(&labels)
            .inc_by(count.unsigned_abs());
    }

    /// The deadline has passed.
    pub(super) fn expire(&mut self, situation: &Situation<'_>) {
        let Some(stood) = self.holds.stood() else {
            return;
        };
        if !self.expired && !stood.by_hand {
            self.expired = true;
            self.count_hold(HoldEnd::Expired);
            let (reason, scope) = (stood.reason, &self.scope);
            let what = if stood.taken {
                "the hold reached its deadline and is let go: writes go on, and fail where the leader takes none"
            } else {
                "writes could not be held, and that is not tried any longer"
            };
            warn!(
                formation = self.context.name, group = self.group, %scope,
                held_s = stood.since.elapsed().as_secs(),
                "{what}; it was for: {reason}. It is not held again for this; look at Patroni's log \
                 of {scope}"
            );
            if let Some(recorder) = &mut self.recorder {
                recorder.expire();
            }
        }
        self.holds.give_up(situation.reason_to_hold());
    }

    /// Nothing is held any more, and nothing is to be.
    pub(super) fn fall(&mut self, situation: &Situation<'_>) {
        self.context.entry_nodes.let_go(self.group);
        let Some(stood) = self.holds.fall() else {
            return;
        };
        self.expired &= stood.taken;
        if !stood.taken {
            return;
        }
        let held = stood.since.elapsed();
        let metrics = self.context.store.metrics();
        metrics.held.observe(held.as_secs_f64());
        let labels = self.group_labels();
        metrics.holding.get_or_create(&labels).set(0);
        metrics.hold_deadline.get_or_create(&labels).set(0);
        let leader = situation.view.leader.as_ref().map(|leader| &leader.value);
        if !self.expired {
            self.count_hold(if leader == self.in_sync_leader.as_ref() {
                HoldEnd::Released
            } else {
                HoldEnd::Followed
            });
        }
        self.expired = false;
        info!(
            formation = self.context.name, group = self.group, scope = %self.scope,
            leader = leader.map_or("none", String::as_str),
            held_ms = millis(held),
            "writes go on"
        );
    }

    /// A transition ends when the group is in sync and nothing is open.
    pub(super) fn close_transition(&mut self, situation: &Situation<'_>, decision: &Decision) {
        // The rows may be known to be right before the step that made them so has told its scenario.
        let idle = decision.steps.keys().all(|database| {
            self.holds.held(database) == Held::No && !self.attempts.is_running(database)
        });
        if !decision.is_at_rest() || !idle || self.holds.stood().is_some() {
            return;
        }
        let Some(recorder) = self.recorder.take() else {
            return;
        };
        let leader = situation.view.leader.as_ref();
        let leader = leader.map(|leader| leader.value.as_str());
        let address = situation.view.leader_address().cloned();
        if let Some(transition) = recorder.close(leader, address) {
            self.tell_transition(transition);
        }
    }

    fn tell_transition(&self, transition: Transition) {
        for (phase, time) in transition.phases.happened() {
            #[expect(clippy::cast_precision_loss, reason = "microseconds of one transition")]
            let seconds = time as f64 / 1e6;
            self.context
                .store
                .metrics()
                .phases
                .get_or_create(&PhaseLabels {
                    phase: phase.name(),
                })
                .observe(seconds);
        }
        let phases: Vec<String> = transition
            .phases
            .happened()
            .filter(|(phase, _)| *phase != Phase::Requested)
            .map(|(phase, time)| {
                format!("{} {}.{} ms", phase.name(), time / 1000, time % 1000 / 100)
            })
            .collect();
        let address = |address: &Option<HostPort>| {
            address
                .as_ref()
                .map_or("none".to_owned(), ToString::to_string)
        };
        let (from, to) = (address(&transition.from), address(&transition.to));
        let (kind, outcome) = (transition.kind.name(), transition.outcome.name());
        let (formation, group, scope) =
            (&transition.formation, transition.group, &transition.scope);
        let phases = phases.join(", ");
        if transition.outcome == TransitionOutcome::Expired {
            warn!(
                formation,
                group, %scope, from, to, "{kind} over, {outcome}: {phases}"
            );
        } else {
            info!(
                formation,
                group, %scope, from, to, "{kind} over, {outcome}: {phases}"
            );
        }
        self.context.store.record(transition);
    }
}
