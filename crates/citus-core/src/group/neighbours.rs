//! What a group lets the other groups of its formation know, and what it remembers of its own rows.

use std::collections::BTreeSet;
use std::time::Instant;

use dcs_watch::Freshness;

use super::effect::Effect;
use super::state::Group;
use crate::event::Event;
use crate::plan::{
    AddressFacts, Decision, Neighbour, NeighbourLeader, NodeRole, ProbeState, Row, Rows, Situation,
    Step, Wait,
};

impl Group {
    /// What is known of addresses ahead of a decision.
    pub(super) fn address_facts(&mut self, now: Instant) -> AddressFacts {
        self.look_at_own_rows();
        self.look_at_places(now);
        AddressFacts {
            fixed: self.settings.fixed,
            neighbours: self.facts.neighbours.clone(),
            own: self.trust.own.clone(),
            reach: self.reach.known(),
        }
    }

    /// Notes in which databases the group's row is at a member of its own scope: there the number of
    /// the group means this scope, whatever becomes of the addresses.
    fn look_at_own_rows(&mut self) {
        let view = &self.facts.view;
        if view.freshness != Freshness::Fresh {
            return;
        }
        let members = || (view.members.values()).filter_map(|m| m.value.address.as_ref());
        for (database, facts) in &self.facts.databases {
            let Rows::Known(rows) = &facts.rows else {
                continue;
            };
            let mut own = rows
                .iter()
                .filter(|row| row.groupid == self.settings.whose.group && row.is_primary());
            if own.any(|row| members().any(|member| *member == row.address)) {
                self.trust.own.insert(database.clone());
            }
        }
    }

    /// Lets the others know, when something of it changed.
    pub(super) fn tell_neighbours(&mut self, situation: &Situation<'_>) {
        let view = situation.view;
        let writable = *situation.leader_answer() == ProbeState::Writable
            && situation.lineage_is_trusted()
            && view.freshness == Freshness::Fresh;
        let foreign = situation
            .leader_probe()
            .is_some_and(|probe| situation.of_another_cluster(probe).is_some());
        let leader = view.leader.as_ref().filter(|_| writable && !foreign);
        let leader = leader.zip(view.leader_address());
        let members = view.members.values();
        let own = self.trust.own.iter();
        let proven = own.filter(|_| leader.is_some());
        let proven: BTreeSet<String> = proven
            .filter(|database| situation.may_follow(database).is_ok())
            .cloned()
            .collect();
        let told = Neighbour {
            scope: self.settings.whose.scope.clone(),
            members: (view.freshness != Freshness::Unknown).then(|| {
                members
                    .filter_map(|member| member.value.address.clone())
                    .collect()
            }),
            leader: leader.map(|(leader, address)| NeighbourLeader {
                address: address.clone(),
                revision: leader.mod_revision,
            }),
            held: self.phase.hold().is_some() || !self.slots.is_empty(),
            own: self.trust.own.clone(),
            proven,
        };
        if self.told.neighbour.as_ref() != Some(&told) {
            self.told.neighbour = Some(told.clone());
            self.want(Effect::TellNeighbours(told));
        }
    }
}

impl Group {
    /// Tells that a clone's row changed places with the group's: Citus may promote the clone later, and
    /// whoever asks for that should know where it is.
    pub(super) fn tell_clone(&mut self, database: &str, step: &Step) {
        let (Step::Move(step) | Step::ReadMove(step)) = step else {
            return;
        };
        let Some(way) = &step.make_way else {
            return;
        };
        let rows = self.facts.databases.get(database).map(|facts| &facts.rows);
        let Some(Rows::Known(rows)) = rows else {
            return;
        };
        let is_clone = |row: &Row| row.nodeid == way.nodeid && row.role == NodeRole::Clone;
        if rows.iter().any(is_clone) {
            self.publish(Event::ClonesRowMoved {
                database: database.to_owned(),
                nodeid: way.nodeid,
                from: step.to.clone(),
                to: way.then.clone(),
            });
        }
    }
}

/// Whether what the other groups do next matters to a decision.
pub(super) fn waits_for_neighbours(decision: &Decision) -> bool {
    decision.steps.values().any(|step| {
        matches!(
            step,
            Step::Exchange(_)
                | Step::Wait(
                    Wait::AddressTaken { .. }
                        | Wait::NotOurs { .. }
                        | Wait::ScopesUnread { .. }
                        | Wait::Exchanged { .. }
                )
        )
    })
}
