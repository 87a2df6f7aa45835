//! What a group tells: that something else is decided than before, what the group is like now, and each
//! transition from its beginning to its end.

use time::OffsetDateTime;

use super::clock;
use super::effect::Effect;
use super::input::Now;
use super::recorder::Recorder;
use super::state::Group;
use crate::event::Event;
use crate::plan::{Decision, Held, ProbeState, Rule, Situation, Step, Wait, Writes};
use crate::report::{GroupDatabaseReport, GroupReport, HoldReport};

impl Group {
    /// What is recorded of a decision before it is carried out; a transition may begin with it.
    pub(super) fn record_decision(
        &mut self,
        situation: &Situation<'_>,
        decision: &Decision,
        now: Now,
    ) {
        let leader = situation.view.leader.as_ref();
        let leader = leader.map(|leader| leader.value.clone());
        if self.begins_a_transition(decision) {
            let from = decision
                .steps
                .keys()
                .find_map(|database| situation.row_of(database));
            let before = self.trust.leader.clone().or_else(|| leader.clone());
            let reason = self.reason_for(decision);
            let whose = &self.settings.whose;
            let recorder = Recorder::begin(whose, before, from.cloned(), reason, now);
            self.phase.begin(recorder);
        }
        if let Some(recorder) = self.phase.recorder() {
            let answer = situation.leader_answer();
            let lost = matches!(answer, ProbeState::Unreachable(_));
            let writable = *answer == ProbeState::Writable;
            recorder.look_at_leader(leader.as_deref(), lost, writable, now.instant);
        }
    }

    fn begins_a_transition(&self, decision: &Decision) -> bool {
        let acts = decision.rule != Rule::Resync && decision.steps.values().any(Step::acts);
        let lost = self.trust.leader.is_some()
            && matches!(
                decision.rule,
                Rule::Unreachable | Rule::LeaderGone | Rule::Promoting
            );
        (acts || lost) && self.settings.writes == Writes::Allowed
    }

    fn reason_for(&self, decision: &Decision) -> String {
        let held_for = decision.steps.values().find_map(|step| match step {
            Step::Hold(hold) => Some(hold.reason.to_string()),
            _ => None,
        });
        held_for.unwrap_or_else(|| {
            let why = if self.trust.leader.is_none() {
                "a row was not its leader's"
            } else {
                "the leader was lost or changed"
            };
            why.to_owned()
        })
    }

    /// A transition ends when the group is in sync and nothing is open.
    pub(super) fn close_transition(&mut self, situation: &Situation<'_>, decision: &Decision) {
        // The rows may be known to be right before the step that made them so has told its end.
        let idle = decision.steps.keys().all(|database| {
            self.slots.held(database) == Held::No && !self.attempts.is_running(database)
        });
        if !decision.is_at_rest() || !idle {
            return;
        }
        let Some(recorder) = self.phase.close() else {
            return;
        };
        let leader = situation.view.leader.as_ref();
        let leader = leader.map(|leader| leader.value.as_str());
        let address = situation.view.leader_address().cloned();
        if let Some(transition) = recorder.close(leader, address) {
            self.publish(Event::TransitionOver(transition));
        }
    }

    /// What the group is like after a decision, and whether that is worth a line of the log.
    pub(super) fn report(&mut self, situation: &Situation<'_>, decision: &Decision, now: Now) {
        self.tell_decision(situation, decision);
        let view = situation.view;
        let databases = decision.steps.iter().map(|(database, step)| {
            let report = GroupDatabaseReport {
                row: situation.row_of(database).cloned(),
                step: step.to_string(),
                wait: match step {
                    Step::Wait(wait) => Some(wait.clone()),
                    _ => None,
                },
                in_sync: *step == Step::InSync,
                running: self.attempts.is_running(database),
                retry: self.attempts.failure(database),
            };
            (database.clone(), report)
        });
        let report = GroupReport {
            group: self.group(),
            scope: self.settings.whose.scope.clone(),
            leader: view.leader.as_ref().map(|leader| leader.value.clone()),
            address: view.leader_address().cloned(),
            writable: *situation.leader_answer() == ProbeState::Writable,
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
            last_move: self.told.last_move.clone(),
            hold: self.hold_report(now),
            reach: Self::reach_report(situation),
        };
        self.want(Effect::Report(Box::new(report)));
    }

    fn hold_report(&self, now: Now) -> Option<HoldReport> {
        let hold = self.phase.hold()?;
        let ahead = hold.deadline.saturating_duration_since(now.instant);
        let deadline: OffsetDateTime = now
            .utc
            .saturating_add(time::Duration::try_from(ahead).unwrap_or(time::Duration::ZERO));
        Some(HoldReport {
            reason: hold.reason.to_string(),
            since: clock::text(hold.since_utc),
            deadline: clock::text(deadline),
            databases: self.slots.words(),
            reads_at: hold.reads_at.clone(),
        })
    }

    /// A decision is told when it is another one than the last that was told, not in each step.
    fn tell_decision(&mut self, situation: &Situation<'_>, decision: &Decision) {
        let mut waits: Vec<String> = Vec::new();
        for (_, wait) in decision.waits() {
            // Why rows are not known is told by the database's own task, once for all groups.
            let text = wait.to_string();
            let untold = matches!(wait, Wait::RowsUnknown { .. }) || wait.is_being_asked();
            if !untold && !waits.contains(&text) {
                waits.push(text);
            }
        }
        let waits = waits.join("; ");
        // A leader that cannot be reached says so in several ways while it goes down: one event.
        // And how far a standby still has to go changes every few milliseconds.
        if decision.rule == Rule::Unreachable && waits.is_empty() {
            return;
        }
        let view = situation.view;
        let decided = |waits: String| Event::Decided {
            rule: decision.rule,
            leader: view.leader.as_ref().map(|leader| leader.value.clone()),
            has_address: view.leader_address().is_some(),
            waits,
        };
        let event = match decision.rule {
            Rule::Unreachable | Rule::Hold | Rule::Promoting => decided(String::new()),
            _ => decided(waits.clone()),
        };
        if self.told.decided.as_ref() == Some(&event) {
            return;
        }
        self.told.decided = Some(event);
        self.publish(decided(waits));
    }
}
