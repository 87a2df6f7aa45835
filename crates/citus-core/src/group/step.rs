//! One step of a group, in order: take the news in, decide once, let the invariant checker look, and say
//! what follows.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dcs_watch::{Freshness, ScopeView};

use super::attempts::Seen;
use super::effect::{Effect, Effects};
use super::holding::Hold;
use super::input::{Input, Now};
use super::neighbours::waits_for_neighbours;
use super::orders::own_leader;
use super::state::Group;
use crate::event::{Event, HoldEnd};
use crate::invariants;
use crate::plan::{self, Decision, ProbeState, Rows, Situation, Step, Wait};

/// When to look again whether other groups are still held, with a resync to be made.
const OTHERS_HELD: Duration = Duration::from_millis(250);

impl Group {
    /// Takes the news in, decides once, and says what follows from it.
    pub fn step(&mut self, news: impl IntoIterator<Item = Input>, now: Now) -> Effects {
        for input in news {
            self.hear(input, now);
        }
        self.decide(now);
        let mut effects = std::mem::take(&mut self.effects);
        effects.again = self.next_due(now.instant);
        effects.finished = self.stop_by.is_some_and(|by| {
            by <= now.instant || (self.slots.is_empty() && !self.attempts.any_running())
        });
        effects
    }

    fn decide(&mut self, now: Now) {
        self.attempts.ripen(now.instant);
        self.failures.ripen(now.instant);
        self.open_holds_that_are_settled(now.instant);
        let view = self.facts.view.clone();
        // Before a decision that is at rest trusts the present one: the end of a hold is told by both.
        let led = self.trust.leader.clone();
        self.look_at_leader(&view, now.instant);
        let stands = self.phase.hold().is_some();
        self.requests.lapse(stands, now.instant);
        let answers = self.facts.answers.clone();
        self.failures.look(&answers, &mut self.round, now.instant);
        self.keys.ripen(now.instant);
        self.keys.look(&view, self.round);

        let databases = self.facts.databases.iter();
        let rows: BTreeMap<String, Rows> = databases
            .map(|(name, facts)| (name.clone(), facts.rows.clone()))
            .collect();
        let reachability = self.failures.reachability();
        let leader = view.leader_address().and_then(|leader| answers.get(leader));
        let leader = leader.map_or(&ProbeState::Unknown, |probe| &probe.state);
        let own = |database: &str| own_leader(&view, leader, rows.get(database)).cloned();
        let progress = self.slots.progress(&self.without_read_moves(), own);
        let active_hold = self.phase.hold().map(|hold| hold.active(now.instant));
        let asked = self.requests.pending().cloned();
        let given_up = self.requests.given_up().to_vec();
        let addresses = self.address_facts(now.instant);
        let shards = self.shard_counts(now.instant);
        let situation = Situation {
            group: self.group(),
            view: &view,
            answers: &answers,
            reachability: &reachability,
            trusted_lineage: self.trust.lineage,
            known_cluster: self.trust.cluster,
            shards: &shards,
            keys: self.keys.answer(),
            rows: &rows,
            progress: &progress,
            active_hold: active_hold.as_ref(),
            requested_hold: asked.as_ref(),
            given_up: &given_up,
            addresses: &addresses,
            register: self.settings.register,
            writes: self.settings.writes,
            limits: self.settings.policy.limits(),
            stopping: self.stop_by.is_some(),
            now: now.utc,
        };
        self.requests.look(&situation);
        self.look_at_answer(situation.leader_answer(), now.instant);

        let decision = plan::decide(&situation);
        self.follow_up(&situation, &decision, led.as_deref(), now);
    }

    /// What follows from a decision, in order.
    /// `led` is the member that led when the group was last in sync.
    fn follow_up(
        &mut self,
        situation: &Situation<'_>,
        decision: &Decision,
        led: Option<&str>,
        now: Now,
    ) {
        self.record_decision(situation, decision, now);
        let allowed = self.checked(situation, decision);
        self.start(situation, &allowed, now);
        let view = situation.view;
        if decision.is_at_rest() {
            self.trust.lineage = Some(view.lineage);
            self.trust.cluster = Some(situation.cluster_in_sync());
            self.trust.leader = view.leader.as_ref().map(|leader| leader.value.clone());
            let request = view.failover.as_ref().map(|request| request.mod_revision);
            self.requests.forget(request);
        }
        self.ask(view, decision, now.instant);
        self.tell_neighbours(situation);
        self.effects.neighbours = waits_for_neighbours(decision);
        let decide_again = decision.again_in.map(|pause| now.instant + pause);
        let count_again = self.count_shards(decision);
        self.again = decide_again.into_iter().chain(count_again).min();
        self.verify_metadata(situation, decision, now.instant);
        self.prewarm(situation, decision, now.instant);
        if decision.resyncs() && self.facts.others_held {
            self.again = Some(now.instant + OTHERS_HELD);
        }
        self.look_at_hold(situation, decision, led, now);
        self.answer_requests(situation, decision, now.instant);
        self.close_transition(situation, decision);
        self.ask_ahead(situation, decision, now.instant);
        self.tell_reach(situation);
        self.report(situation, decision, now);
    }

    /// What is left of a decision once the invariant checker has looked at it: all of it, or only that
    /// what is held is let go, which is always right.
    fn checked<'d>(
        &mut self,
        situation: &Situation<'_>,
        decision: &'d Decision,
    ) -> Cow<'d, Decision> {
        let Err(violation) = invariants::check(situation, decision) else {
            return Cow::Borrowed(decision);
        };
        self.violated(&violation);
        let mut allowed = decision.clone();
        allowed.steps.retain(|_, step| *step == Step::LetGo);
        Cow::Owned(allowed)
    }

    /// Databases in which our role may not update `pg_dist_node`.
    fn without_read_moves(&self) -> BTreeSet<String> {
        let databases = self.facts.databases.iter();
        databases
            .filter(|(_, facts)| !facts.may_update)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Notes when the leader key changed hands, and forgets failures that were about the last one.
    fn look_at_leader(&mut self, view: &ScopeView, now: Instant) {
        let revision = view.leader.as_ref().map(|leader| leader.mod_revision);
        if self.trust.seen.map(|seen| seen.revision) == revision {
            return;
        }
        self.trust.seen = revision.map(|revision| Seen {
            revision,
            at: now,
            writable: None,
        });
        self.attempts.forget();
    }

    fn look_at_answer(&mut self, answer: &ProbeState, now: Instant) {
        let Some(seen) = &mut self.trust.seen else {
            return;
        };
        match (answer, seen.writable) {
            (ProbeState::Writable, None) => {
                seen.writable = Some(now);
                let after = now.saturating_duration_since(seen.at);
                self.publish(Event::LeaderWritable { after });
            }
            (ProbeState::Unreachable(_), Some(_)) => {
                seen.at = now;
                seen.writable = None;
            }
            _ => {}
        }
    }

    /// Puts the decision's questions.
    fn ask(&mut self, view: &ScopeView, decision: &Decision, now: Instant) {
        self.want(Effect::AskMembers {
            questions: decision.ask.clone(),
            leader_revision: view.leader.as_ref().map_or(0, |leader| leader.mod_revision),
            round: self.round,
        });
        let known = |facts: &super::input::DatabaseFacts| matches!(facts.rows, Rows::Known(_));
        if !self.facts.databases.values().any(known) {
            return;
        }
        // At the same time, so that nothing waits for it after the coordinator's word.
        if !decision.reachability.is_empty()
            && let Some(number) = self.keys.begin()
        {
            self.want(Effect::ReadKeys { number });
        }
        for address in &decision.reachability {
            if let Some(question) = self.failures.begin(address, now) {
                self.want(Effect::AskCoordinator {
                    address: address.clone(),
                    round: question.round,
                    attempt: question.failures,
                });
            }
        }
    }

    /// Whether the hold stands on, has run into its deadline, or is over.
    /// `led` is the leader of the time when the group was last in sync.
    fn look_at_hold(
        &mut self,
        situation: &Situation<'_>,
        decision: &Decision,
        led: Option<&str>,
        now: Now,
    ) {
        let expired = situation.active_hold.is_some_and(|hold| hold.expired);
        if let Some(hold) = self.phase.hold_mut() {
            hold.deadline_seen = expired;
        }
        if expired {
            self.expire(situation, now.instant);
        }
        let wanted = decision.steps.values().any(|step| {
            matches!(
                step,
                Step::Hold(_) | Step::Wait(Wait::Taking { .. } | Wait::Held { .. })
            )
        });
        // A hold that was lost with the coordinator's session is taken again, with the deadline that
        // it had from the beginning: it stands until its reason is known to be over.
        let blind = situation.view.freshness != Freshness::Fresh
            || (situation.rows.values()).all(|rows| matches!(rows, Rows::Unknown(_)));
        let stands = wanted || blind || situation.reason_to_hold().is_some();
        if self.slots.is_empty() && (expired || !stands) {
            self.fall(situation, led, now.instant);
        }
        if let Some(hold) = self.phase.hold_mut() {
            hold.reads_at = decision
                .steps
                .keys()
                .find_map(|database| situation.row_of(database))
                .filter(|row| Some(*row) != situation.view.leader_address())
                .cloned();
        }
        let stands = self.phase.hold().is_some();
        if self.told.hold_stands != Some(stands) {
            self.told.hold_stands = Some(stands);
            self.want(Effect::HoldStands(stands));
        }
    }

    /// The deadline has passed.
    fn expire(&mut self, situation: &Situation<'_>, now: Instant) {
        let Some(hold) = self.phase.hold_mut() else {
            return;
        };
        if !hold.expired && !hold.by_hand {
            hold.expired = true;
            let event = Event::HoldExpired {
                reason: hold.reason,
                taken: hold.taken,
                after: now.saturating_duration_since(hold.since),
            };
            self.publish(event);
            if let Some(recorder) = self.phase.recorder() {
                recorder.expire();
            }
        }
        self.give_up(situation.reason_to_hold());
    }

    /// Nothing is held any more, and nothing is to be.
    fn fall(&mut self, situation: &Situation<'_>, led: Option<&str>, now: Instant) {
        for database in self.slots.let_entry_nodes_go() {
            self.let_entry_nodes_go(&database);
        }
        let Some(hold) = self.phase.fall() else {
            return;
        };
        if !hold.taken {
            return;
        }
        let leader = situation.view.leader.as_ref();
        let leader = leader.map(|leader| leader.value.clone());
        let end = end_of(&hold, leader.as_deref() == led);
        self.publish(Event::WritesGoOn {
            leader,
            after: now.saturating_duration_since(hold.since),
            end,
        });
    }

    /// When to step again although nothing is told.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        let hold = self.phase.hold();
        // Once the deadline has passed and that was seen, what is decided then is what is waited for.
        let deadline = hold.filter(|hold| !hold.deadline_seen);
        let all = [
            self.attempts.next_due(),
            self.slots.next_due(),
            self.failures.next_due(),
            self.reach.next_due(),
            self.keys.next_due(),
            self.upkeep.verification.next_due(),
            self.upkeep.prewarm.next_due(),
            self.next_answer(now),
            deadline.map(|hold| hold.deadline),
            self.requests.lapses(hold.is_some()),
            self.again,
            self.stop_by,
        ];
        all.into_iter().flatten().min()
    }
}

fn end_of(hold: &Hold, same_leader: bool) -> HoldEnd {
    if hold.expired {
        HoldEnd::Expired
    } else if same_leader {
        HoldEnd::Released
    } else {
        HoldEnd::Followed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::Whose;
    use crate::group::Settings;
    use crate::plan::tests::builders::{Scenario, addr};
    use crate::plan::{Move, Rule, Writes};
    use crate::policy::Policy;

    fn group() -> Group {
        Group::new(Settings {
            whose: Whose {
                formation: "cn".to_owned(),
                group: 1,
                scope: "wk1".to_owned(),
            },
            policy: Policy::default(),
            register: false,
            fixed: false,
            writes: Writes::Allowed,
            databases: vec!["app".to_owned()],
        })
    }

    /// A group that is started anew after a bug may find that its formation still takes it for held.
    #[test]
    fn the_first_step_says_that_nothing_is_held() {
        let now = Now {
            instant: super::super::clock::zero(),
            utc: time::OffsetDateTime::UNIX_EPOCH,
        };
        let effects = group().step([], now).all;
        let says = |wanted: fn(&Effect) -> bool| effects.iter().any(wanted);
        assert!(says(|effect| matches!(effect, Effect::HoldStands(false))));
    }

    #[test]
    fn of_a_decision_that_the_checker_stops_nothing_but_the_end_of_holds_is_left() {
        let guess = Step::Move(Move {
            nodeid: 2,
            from: addr("pg1"),
            to: addr("nowhere"),
            make_way: None,
        });
        let steps = [("app", guess), ("second", Step::LetGo)];
        let decision = Decision {
            rule: Rule::Move,
            steps: BTreeMap::from(steps.map(|(name, step)| (name.to_owned(), step))),
            ask: vec![],
            reachability: vec![],
            again_in: None,
        };
        let mut group = group();
        let left = Scenario::quiet().with(|situation| group.checked(situation, &decision));
        assert_eq!(left.steps.len(), 1);
        assert_eq!(left.steps["second"], Step::LetGo);
        let told = &group.effects.all;
        assert!(
            matches!(told.as_slice(), [Effect::Publish(Event::Violation { .. })]),
            "{told:?}"
        );
    }
}
