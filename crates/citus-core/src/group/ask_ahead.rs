//! What the coordinator is asked ahead of time, and what is told of its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use dcs_watch::HostPort;

use super::effect::Effect;
use super::state::{Group, Phase};
use crate::event::Event;
use crate::plan::{
    COORDINATOR_GROUP, Decision, ProbeState, Reach, Row, Rows, Situation, Stay, Wait,
};
use crate::report::ReachReport;

/// Members that are asked about, beside the leader: a scope has two or three.
const MEMBERS: usize = 8;

impl Group {
    /// Asks the coordinator what it reaches, where it is time to. In a transition servers come and go,
    /// and the coordinator has other things to do: only what a decision waits for is asked then.
    pub(super) fn ask_ahead(
        &mut self,
        situation: &Situation<'_>,
        decision: &Decision,
        now: Instant,
    ) {
        let waits = decision.waits().any(|(_, wait)| waits_for_reach(wait));
        if waits && !matches!(self.phase, Phase::Quiet) {
            self.reach.hurry();
        }
        self.reach.resting = !waits && !matches!(self.phase, Phase::Quiet);
        if situation.stopping || self.reach.resting {
            return;
        }
        if let Some(question) = self.reach.begin(now) {
            self.want(Effect::AskReach {
                database: question.database,
                address: question.address,
                number: question.number,
            });
        }
    }

    /// Notes, ahead of a decision, which addresses matter to it: those of the rows, of the leader and
    /// of the first few members, in each database that is known and has a row of the group. The
    /// coordinator's own group is not asked about: after its failover another server is the one
    /// that would have to get there.
    pub(super) fn look_at_places(&mut self, now: Instant) {
        let (group, view) = (self.group(), self.facts.view.clone());
        let mut places = BTreeSet::new();
        let members = view.members.values().take(MEMBERS);
        let members = members.filter_map(|member| member.value.address.as_ref());
        let members: Vec<&HostPort> = members.chain(view.leader_address()).collect();
        for (database, facts) in &self.facts.databases {
            let Rows::Known(rows) = &facts.rows else {
                continue;
            };
            let own = |row: &&Row| row.groupid == group && row.is_primary();
            let own: Vec<&Row> = rows.iter().filter(own).collect();
            if own.is_empty() || group == COORDINATOR_GROUP {
                continue;
            }
            let own = own.iter().filter(|row| !row.is_temporary());
            let all = own.map(|row| &row.address).chain(members.iter().copied());
            places.extend(all.map(|address| (database.clone(), address.clone())));
        }
        let answers = &self.facts.answers;
        let lost = |address: &HostPort| {
            let answer = answers.get(address);
            answer.is_some_and(|probe| matches!(probe.state, ProbeState::Unreachable(_)))
        };
        let revision = view.leader.as_ref().map(|leader| leader.mod_revision);
        self.reach.look(&places, lost, revision, now);
    }

    /// Tells of each address once that the coordinator does not reach it, and once that it does
    /// again: of a row's address loudly, while its leader takes writes; of a member's that said so
    /// twice.
    pub(super) fn tell_reach(&mut self, situation: &Situation<'_>) {
        if !matches!(self.phase, Phase::Quiet) {
            return;
        }
        let writable = *situation.leader_answer() == ProbeState::Writable;
        let mut told = std::mem::take(&mut self.reach.told);
        let mut unreached = BTreeMap::new();
        for (database, known) in &situation.addresses.reach {
            for (address, reach) in known {
                let Reach::No(why) = reach else { continue };
                let row = situation.row_of(database) == Some(address);
                let place = (database.clone(), address.clone());
                let refusals = self.reach.refusals(&place);
                if !(row && writable) && refusals < 2 && !told.contains_key(&place) {
                    continue;
                }
                unreached.insert(place.clone(), row);
                if told.get(&place) != Some(&row) {
                    self.publish(Event::OutOfReach {
                        database: database.clone(),
                        member: member_at(situation, address),
                        address: address.clone(),
                        why: why.clone(),
                        row,
                    });
                }
            }
        }
        for (place, _) in std::mem::take(&mut told) {
            let reach = situation.addresses.reach_of(&place.0, &place.1);
            if let Some(Reach::Yes(_)) = reach {
                self.publish(Event::ReachedAgain {
                    database: place.0,
                    address: place.1,
                });
            }
        }
        self.reach.told = unreached;
    }

    /// What the coordinator said, for status and metrics.
    pub(super) fn reach_report(situation: &Situation<'_>) -> Vec<ReachReport> {
        let mut all = Vec::new();
        for (database, known) in &situation.addresses.reach {
            for (address, reach) in known {
                let why = match reach {
                    Reach::Asking => continue,
                    Reach::Yes(_) => None,
                    Reach::No(why) => Some(why.clone()),
                };
                all.push(ReachReport {
                    database: database.clone(),
                    member: member_at(situation, address),
                    address: address.clone(),
                    row: situation.row_of(database) == Some(address),
                    why,
                });
            }
        }
        all
    }
}

fn waits_for_reach(wait: &Wait) -> bool {
    let stay = match wait {
        Wait::NotReached { .. } | Wait::ReachUnknown { .. } => return true,
        Wait::Held { stay, .. } => stay.as_ref(),
        Wait::Lost { stay, .. } => Some(stay),
        _ => None,
    };
    matches!(
        stay,
        Some(Stay::NotReached { .. } | Stay::ReachUnknown { .. })
    )
}

fn member_at(situation: &Situation<'_>, address: &HostPort) -> Option<String> {
    let members = &mut situation.view.members.iter();
    let found = members.find(|(_, member)| member.value.address.as_ref() == Some(address));
    found.map(|(name, _)| name.clone())
}
