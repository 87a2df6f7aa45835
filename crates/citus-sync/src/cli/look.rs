//! What would be decided on one look at a formation, and what is asked for that beyond the leaders.

use std::collections::{BTreeMap, BTreeSet};

use dcs_watch::{HostPort, KeyRevisions, ScopeView};
use futures_util::StreamExt as _;
use futures_util::stream;
use time::OffsetDateTime;

use super::addresses::Addresses;
use super::snapshot::{AT_ONCE, Answers, Groups, writes};
use crate::session::{Login, MemberAnswer, SqlError, inspect};
use citus_core::config::Formation;
use citus_core::plan::{
    self, Decision, Identity, Position, Probe, ProbeState, Rows, ShardCounts, Situation, Wait,
    Writes,
};

/// What was asked of a formation.
pub(super) struct Look<'a> {
    pub(super) formation: &'a Formation,
    pub(super) writes: Writes,
    pub(super) answers: &'a Answers,
    pub(super) rows: &'a BTreeMap<String, Rows>,
    pub(super) addresses: &'a Addresses,
    /// What members answered at which rows point, and which do not lead.
    pub(super) at_rows: BTreeMap<HostPort, Result<MemberAnswer, SqlError>>,
    /// How many of its shards each group's leader has.
    pub(super) shards: BTreeMap<i32, ShardCounts>,
}

impl<'a> Look<'a> {
    /// Nothing is asked yet that hangs on a decision.
    pub(super) fn new(
        formation: &'a Formation,
        answers: &'a Answers,
        rows: &'a BTreeMap<String, Rows>,
        addresses: &'a Addresses,
    ) -> Self {
        Self {
            formation,
            writes: writes(formation),
            answers,
            rows,
            addresses,
            at_rows: BTreeMap::new(),
            shards: BTreeMap::new(),
        }
    }

    /// What `run` would decide for one group.
    pub(super) fn decide(&self, group: i32, view: &ScopeView) -> Decision {
        let mut answers: BTreeMap<HostPort, Probe> = (self.at_rows.iter())
            .map(|(address, answer)| (address.clone(), probe(address, answer, 0)))
            .collect();
        if let (Some(address), Some(leader), Some(answer)) = (
            view.leader_address(),
            &view.leader,
            self.answers.get(&group),
        ) {
            let answer = probe(address, answer, leader.mod_revision);
            answers.insert(address.clone(), answer);
        }
        let none = ShardCounts::new();
        let facts = self.addresses.facts(self.formation, group);
        let situation = Situation {
            group,
            view,
            answers: &answers,
            reachability: &BTreeMap::new(),
            // One look remembers nothing: no earlier history of etcd, and no cluster.
            trusted_lineage: None,
            known_cluster: None,
            shards: self.shards.get(&group).unwrap_or(&none),
            keys: Some(KeyRevisions::of(view)),
            rows: self.rows,
            progress: &BTreeMap::new(),
            active_hold: None,
            requested_hold: None,
            given_up: &[],
            addresses: &facts,
            register: self.formation.register,
            writes: self.writes,
            limits: self.formation.policy.limits(),
            stopping: false,
            now: OffsetDateTime::now_utc(),
        };
        let decision = plan::decide(&situation);
        if let Err(violation) = citus_core::invariants::check(&situation, &decision) {
            tracing::error!(
                group,
                "please report this as a bug, `run` would refuse it: {violation}"
            );
        }
        decision
    }

    /// Asks what the decisions wait for: the members at which rows point, and how many shards a leader
    /// has of which nothing else is known.
    pub(super) async fn complete(&mut self, login: &Login, groups: &Groups) {
        // The member at the row first, then the shards.
        for _ in 0..2 {
            let (mut members, mut counts) = (BTreeSet::new(), BTreeSet::new());
            for (group, view) in &groups.views {
                for (database, wait) in self.decide(*group, view).waits() {
                    if let Wait::RowNotAsked { address } | Wait::ReachUnknown { address } = wait {
                        members.insert(address.clone());
                    } else if let Some(address) = wait.counts_at() {
                        counts.insert((*group, database.to_owned(), address.clone()));
                    }
                }
            }
            self.ask_members(login, members).await;
            self.count(login, groups, counts).await;
        }
    }

    async fn ask_members(&mut self, login: &Login, members: BTreeSet<HostPort>) {
        let databases = &self.formation.coordinator.databases;
        let questions = members.into_iter().map(|address| async move {
            let answer = inspect::member(login, &address, databases).await;
            (address, answer)
        });
        let answers: Vec<_> = stream::iter(questions)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        self.at_rows.extend(answers);
    }

    /// Counts shards of groups, each in a database and at a server.
    pub(super) async fn count(
        &mut self,
        login: &Login,
        groups: &Groups,
        wanted: BTreeSet<(i32, String, HostPort)>,
    ) {
        let Some(coordinator) = groups.coordinator() else {
            return;
        };
        let questions = wanted
            .into_iter()
            .map(|(group, database, server)| async move {
                let count = inspect::shards(login, coordinator, &server, &database, group).await;
                let count = count.map_err(|error| error.to_string());
                (group, (database, server), count)
            });
        let counts: Vec<_> = stream::iter(questions)
            .buffer_unordered(COUNTS_AT_ONCE)
            .collect()
            .await;
        for (group, key, count) in counts {
            self.shards.entry(group).or_default().insert(key, count);
        }
    }
}

/// Counts at once: each takes a session on the coordinator, out of its `max_connections`.
const COUNTS_AT_ONCE: usize = 8;

fn probe(
    address: &HostPort,
    answer: &Result<MemberAnswer, SqlError>,
    leader_revision: i64,
) -> Probe {
    let answered = answer.as_ref().ok();
    Probe {
        address: address.clone(),
        leader_revision,
        round: 0,
        state: match answer {
            Ok(answer) if answer.in_recovery => ProbeState::InRecovery,
            Ok(_) => ProbeState::Writable,
            Err(error) => ProbeState::Unreachable(error.to_string()),
        },
        position: answered.map_or_else(Position::default, |answer| answer.position),
        started: answered.and_then(|answer| answer.started),
        identity: answered.map_or_else(Identity::default, |answer| answer.identity),
    }
}
