//! From a decision to orders: what is started in each database and at its entry nodes, and with what.

use std::time::Instant;

use dcs_watch::{Freshness, HostPort, ScopeView};

use super::effect::{Action, Effect, Order};
use super::holding::CallOff;
use super::input::Now;
use super::precondition::{Precondition, ReadPrecondition};
use super::state::Group;
use crate::entry_node::{EntryNodeAction, EntryNodeOrder};
use crate::event::Event;
use crate::invariants;
use crate::plan::{Decision, Held, Move, ProbeState, Reason, Rows, Situation, Step, Wait};
use crate::topology::Row;

impl Group {
    /// Starts what the decision wants, in each database where nothing is under way.
    pub(super) fn start(&mut self, situation: &Situation<'_>, decision: &Decision, now: Now) {
        let gone = *situation.leader_answer() != ProbeState::Writable;
        self.slots.leader_is_gone(gone);
        for (database, step) in &decision.steps {
            // What is still being taken is under way, and is called off at once.
            if *step == Step::LetGo && self.call_off(database, now.instant) {
                continue;
            }
            if self.may_start(situation, database, step) {
                self.start_one(situation, database, step, now);
            }
        }
        self.start_at_entry_nodes(situation, decision, now.instant);
    }

    /// Calls off a hold that is being taken; whether one is.
    fn call_off(&mut self, database: &str, now: Instant) -> bool {
        let call_off = self.slots.call_off(database);
        match call_off {
            CallOff::Nothing => {}
            CallOff::Order => self.want(Effect::CallOff {
                database: database.to_owned(),
            }),
            CallOff::Release => self.discard(database, now),
        }
        call_off != CallOff::Nothing
    }

    /// Releases a hold that came too late.
    pub(super) fn discard(&mut self, database: &str, now: Instant) {
        let entry_nodes = self.slots.entry_nodes(database);
        let entry_nodes = entry_nodes.map(|nodes| nodes.end(None, now));
        self.want(Effect::Discard {
            database: database.to_owned(),
            entry_nodes: entry_nodes.unwrap_or_default(),
        });
    }

    fn may_start(&self, situation: &Situation<'_>, database: &str, step: &Step) -> bool {
        let waits_for_others = matches!(step, Step::Resync(_)) && self.facts.others_held;
        // Once we are asked to stop, what is open is ended, and nothing is begun.
        let too_late = situation.stopping && self.slots.held(database) == Held::No;
        // A hold that is to end does not wait for the end of a pause.
        let expired = situation.active_hold.is_some_and(|hold| hold.expired);
        let ends = self.slots.is_open(database) && (expired || situation.stopping);
        let is_free = if ends {
            !self.attempts.is_running(database)
        } else {
            self.attempts.may_start(database, step)
        };
        step.acts() && is_free && !waits_for_others && !too_late
    }

    fn start_one(&mut self, situation: &Situation<'_>, database: &str, step: &Step, now: Now) {
        let entry_nodes = match situation.rows.get(database) {
            Some(Rows::Known(rows)) => self.entry_nodes_of(rows),
            _ => vec![],
        };
        let entry_nodes = match step {
            Step::ReadMove(step) => self.reads_follow(situation, database, step, entry_nodes),
            _ => entry_nodes,
        };
        let Some(action) = self.action(situation, database, step, &entry_nodes, now) else {
            return;
        };
        self.orders += 1;
        let seen = self.trust.seen;
        if self.attempts.start(database, self.orders, step, seen) {
            self.publish(Event::Retried {
                database: database.to_owned(),
            });
        }
        self.want(Effect::Execute(Order {
            id: self.orders,
            database: database.to_owned(),
            step: step.clone(),
            entry_nodes,
            action,
        }));
    }

    /// What exactly is to be executed; a hold begins to stand, and one that is open begins to end.
    fn action(
        &mut self,
        situation: &Situation<'_>,
        database: &str,
        step: &Step,
        entry_nodes: &[HostPort],
        now: Now,
    ) -> Option<Action> {
        let precondition = Precondition::of(situation.view);
        Some(match step {
            Step::Hold(hold) => {
                self.begin_hold(situation, database, hold.reason, entry_nodes, now)?
            }
            Step::LetGo if self.slots.end(database) => Action::Release {
                entry_nodes: match self.slots.entry_nodes(database) {
                    Some(entry_nodes) => entry_nodes.end(situation.row_of(database), now.instant),
                    None => vec![],
                },
            },
            // A hold that is ending already, or was called off, ends by itself.
            Step::LetGo | Step::InSync | Step::Wait(_) => return None,
            Step::ReadMove(step) => Action::ReadMove {
                step: step.clone(),
                precondition: ReadPrecondition {
                    news: precondition,
                    deadline: self.phase.hold().map(|hold| hold.deadline),
                    lost: self.failures.is_lost(&step.from),
                },
            },
            Step::Resync(_) => Action::Resync(precondition),
            Step::Move(step) if self.slots.end(database) => {
                if let Some(entry_nodes) = self.slots.entry_nodes(database) {
                    entry_nodes.stop_taking(now.instant);
                }
                let expired = situation.active_hold.is_none_or(|hold| hold.expired);
                Action::Finish {
                    step: step.clone(),
                    keep: !expired && !situation.stopping,
                    precondition,
                }
            }
            Step::Move(step) => Action::Move {
                step: step.clone(),
                precondition,
            },
            Step::Register(step) => Action::Register {
                step: step.clone(),
                precondition,
            },
            Step::Repair(step) => Action::Repair {
                step: step.clone(),
                precondition,
            },
            Step::Exchange(step) => Action::Exchange {
                step: step.clone(),
                precondition,
            },
        })
    }

    /// A hold begins, on the coordinator and at the entry nodes.
    fn begin_hold(
        &mut self,
        situation: &Situation<'_>,
        database: &str,
        reason: Reason,
        entry_nodes: &[HostPort],
        now: Now,
    ) -> Option<Action> {
        let left = self.stand(reason, now)?;
        if let Some(recorder) = self.phase.recorder() {
            recorder.held_for(reason, now.instant);
        }
        let cooldown = self.settings.policy.lock_cooldown;
        let hold = EntryNodeAction::Hold { left, cooldown };
        let orders = &mut self.orders;
        let at_entry_nodes = self.slots.taking(database);
        let begun = at_entry_nodes.begin(entry_nodes, &hold, now.instant, || next(orders));
        for order in begun {
            self.start_at_entry_node(situation, database, order);
        }
        Some(Action::Hold { left, cooldown })
    }

    /// The entry nodes that follow a read move at once: those that were held in time, while a hold is
    /// open, and else all. The others follow later.
    fn reads_follow(
        &mut self,
        situation: &Situation<'_>,
        database: &str,
        step: &Move,
        targets: Vec<HostPort>,
    ) -> Vec<HostPort> {
        let Held::Yes { round } = self.slots.held(database) else {
            return targets;
        };
        let Some(entry_nodes) = self.slots.entry_nodes(database) else {
            return targets;
        };
        let at_once = entry_nodes.move_reads(targets, round);
        let facts: Vec<_> = at_once.iter().map(|node| entry_nodes.facts(node)).collect();
        let mut allowed = Vec::new();
        for (node, facts) in at_once.into_iter().zip(facts) {
            match invariants::may_follow_at_once(situation, &node, &facts, round, step) {
                Ok(()) => allowed.push(node),
                Err(violation) => self.violated(&violation),
            }
        }
        allowed
    }

    /// What is due at the entry nodes: of one that closed its session, and of those that are behind.
    fn start_at_entry_nodes(
        &mut self,
        situation: &Situation<'_>,
        decision: &Decision,
        now: Instant,
    ) {
        if situation.view.freshness != Freshness::Fresh {
            return;
        }
        let cooldown = self.settings.policy.lock_cooldown;
        let hold = self.phase.hold().filter(|hold| !hold.active(now).expired);
        let hold = hold.filter(|_| !situation.stopping).map(|hold| {
            let left = hold.left(now);
            EntryNodeAction::Hold { left, cooldown }
        });
        let own = |database: &str| {
            // Where the hold ends, nothing is held any more: the next leader's own clients may write.
            let stands = decision.steps.get(database).is_some_and(stands_in);
            let leader = situation.leader_answer();
            if !stands {
                return None;
            }
            own_leader(situation.view, leader, situation.rows.get(database)).cloned()
        };
        let row = |database: &str| situation.row_of(database).cloned();
        let orders = &mut self.orders;
        let slots = &mut self.slots;
        let due = slots.due_at_entry_nodes(hold.as_ref(), own, row, || next(orders));
        for (database, order) in due {
            self.start_at_entry_node(situation, &database, order);
        }
    }

    fn start_at_entry_node(
        &mut self,
        situation: &Situation<'_>,
        database: &str,
        order: EntryNodeOrder,
    ) {
        let entry_nodes = self.slots.entry_nodes(database);
        let facts = entry_nodes.map(|entry_nodes| entry_nodes.facts(&order.node));
        let facts = facts.unwrap_or_default();
        match invariants::check_at_entry_node(situation, database, &order, &facts) {
            Ok(()) => self.want(Effect::AtEntryNode {
                database: database.to_owned(),
                order,
            }),
            Err(violation) => self.violated(&violation),
        }
    }

    /// The entry nodes whose rows are moved beside the coordinator's: the leaders of the other groups,
    /// where they have the metadata. This group's own leader loses its clients with its connections.
    fn entry_nodes_of(&self, rows: &[Row]) -> Vec<HostPort> {
        let group = self.group();
        let entry_nodes = rows
            .iter()
            .filter(|row| row.is_entry_node() && !row.is_temporary() && row.groupid != group);
        entry_nodes.map(|row| row.address.clone()).collect()
    }
}

/// The group's own leader, where clients can write through it. Which row is its group's does not
/// matter: reads may be moved.
pub(super) fn own_leader<'s>(
    view: &'s ScopeView,
    answer: &ProbeState,
    rows: Option<&Rows>,
) -> Option<&'s HostPort> {
    let Some(Rows::Known(rows)) = rows else {
        return None;
    };
    let has_metadata = rows.iter().any(Row::is_entry_node);
    let leader = view.leader_address()?;
    (has_metadata && *answer == ProbeState::Writable).then_some(leader)
}

/// Whether a hold stands on with this step.
fn stands_in(step: &Step) -> bool {
    matches!(
        step,
        Step::Hold(_) | Step::ReadMove(_) | Step::Wait(Wait::Taking { .. } | Wait::Held { .. })
    )
}

fn next(orders: &mut u64) -> u64 {
    *orders += 1;
    *orders
}
