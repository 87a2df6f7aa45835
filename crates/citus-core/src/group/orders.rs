//! From a decision to orders: what is started in each database, and with what.

use dcs_watch::HostPort;

use super::effect::{Action, Effect, Order};
use super::input::Now;
use super::precondition::{Precondition, ReadPrecondition};
use super::state::Group;
use crate::event::Event;
use crate::plan::{Decision, Held, ProbeState, Rows, Situation, Step};
use crate::topology::Row;

impl Group {
    /// Starts what the decision wants, in each database where nothing is under way.
    pub(super) fn start(&mut self, situation: &Situation<'_>, decision: &Decision, now: Now) {
        if *situation.leader_answer() != ProbeState::Writable
            && self.slots.open_holds().next().is_some()
        {
            self.want(Effect::LeaderIsGone);
        }
        for (database, step) in &decision.steps {
            // What is still being taken is under way, and is called off at once.
            if *step == Step::LetGo && self.slots.call_off(database) {
                self.want(Effect::CallOff {
                    database: database.clone(),
                });
                continue;
            }
            if self.may_start(situation, database, step) {
                self.start_one(situation, database, step, now);
            }
        }
    }

    fn may_start(&self, situation: &Situation<'_>, database: &str, step: &Step) -> bool {
        let waits_for_others = matches!(step, Step::Resync(_)) && self.facts.others_held;
        // Once we are asked to stop, what is open is ended, and nothing is begun.
        let too_late = situation.stopping && self.slots.held(database) == Held::No;
        step.acts() && self.attempts.may_start(database, step) && !waits_for_others && !too_late
    }

    fn start_one(&mut self, situation: &Situation<'_>, database: &str, step: &Step, now: Now) {
        let precondition = Precondition::of(situation.view);
        let Some(action) = self.action(database, step, precondition, now) else {
            return;
        };
        self.orders += 1;
        let seen = self.trust.seen;
        if self.attempts.start(database, self.orders, step, seen) {
            self.publish(Event::Retried {
                database: database.to_owned(),
            });
        }
        let entry_nodes = match situation.rows.get(database) {
            Some(Rows::Known(rows)) => self.entry_nodes_of(rows),
            _ => vec![],
        };
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
        database: &str,
        step: &Step,
        precondition: Precondition,
        now: Now,
    ) -> Option<Action> {
        Some(match step {
            Step::Hold(hold) => {
                let left = self.stand(hold.reason, now)?;
                if let Some(recorder) = self.phase.recorder() {
                    recorder.held_for(hold.reason, now.instant);
                }
                self.slots.taking(database);
                Action::Hold {
                    left,
                    cooldown: self.settings.policy.lock_cooldown,
                }
            }
            Step::LetGo if self.slots.end(database) => Action::Release,
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
            Step::Move(step) if self.slots.end(database) => Action::Finish {
                step: step.clone(),
                precondition,
            },
            Step::Move(_) | Step::Exchange(_) | Step::Register(_) | Step::Repair(_) => {
                Action::Change(precondition)
            }
        })
    }

    /// The entry nodes beside the coordinator: the leaders of the other groups, where they have the
    /// metadata. Clients of this group's own leader lose their connections with it anyway.
    fn entry_nodes_of(&self, rows: &[Row]) -> Vec<HostPort> {
        let group = self.group();
        let entry_nodes = rows
            .iter()
            .filter(|row| row.is_entry_node() && !row.is_temporary() && row.groupid != group);
        entry_nodes.map(|row| row.address.clone()).collect()
    }
}
