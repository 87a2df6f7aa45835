//! What one look tells of addresses: whether the coordinator reaches each member and each row, and
//! which group has which members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcs_watch::HostPort;
use futures_util::{StreamExt as _, stream};

use super::snapshot::{Answers, Groups};
use crate::session::{Login, SqlError, inspect};
use citus_core::config::Formation;
use citus_core::plan::{AddressFacts, COORDINATOR_GROUP, Neighbour, NeighbourLeader, Reach, Rows};

/// Sessions that one coordinator is asked to try a worker from, at once: they come out of its
/// `max_connections`.
const TRIES_AT_ONCE: usize = 8;

/// What each database of the coordinator says of an address; none where its Citus cannot say.
pub(super) type Reached = BTreeMap<(String, HostPort), Result<Option<Reach>, SqlError>>;

/// What one look tells of addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// What the coordinator reaches.
    pub(super) reached: Reached,
    neighbours: Arc<BTreeMap<i32, Neighbour>>,
}

impl Addresses {
    /// Has every database try the address of every worker's member and row, each on a session of its
    /// own.
    pub(super) async fn look(
        login: &Login,
        groups: &Groups,
        answers: &Answers,
        rows: &BTreeMap<String, Rows>,
    ) -> Self {
        let neighbours = Arc::new(neighbours(groups, answers));
        let Some(coordinator) = groups.coordinator() else {
            return Self {
                neighbours,
                ..Self::default()
            };
        };
        let questions = places(groups, rows)
            .into_iter()
            .map(async |(database, to)| {
                let answer = inspect::reaches(login, coordinator, &database, &to).await;
                ((database, to), answer)
            });
        let reached = stream::iter(questions).buffer_unordered(TRIES_AT_ONCE);
        let reached = reached.collect().await;
        Self {
            reached,
            neighbours,
        }
    }

    /// What a decision about one group may know.
    pub(super) fn facts(&self, formation: &Formation, group: i32) -> AddressFacts {
        let mut reach: BTreeMap<String, BTreeMap<HostPort, Reach>> = BTreeMap::new();
        for ((database, address), answer) in &self.reached {
            if let Ok(Some(answer)) = answer {
                let known = reach.entry(database.clone()).or_default();
                known.insert(address.clone(), answer.clone());
            }
        }
        AddressFacts {
            fixed: u32::try_from(group).is_ok_and(|group| formation.fixed.contains(&group)),
            neighbours: self.neighbours.clone(),
            // One look has seen no row before.
            own: BTreeSet::new(),
            reach,
        }
    }
}

fn row_of(rows: &Rows, group: i32) -> Option<&HostPort> {
    let Rows::Known(rows) = rows else {
        return None;
    };
    let row = rows
        .iter()
        .find(|row| row.groupid == group && row.is_primary())?;
    Some(&row.address)
}

fn places(groups: &Groups, rows: &BTreeMap<String, Rows>) -> BTreeSet<(String, HostPort)> {
    let mut places = BTreeSet::new();
    let workers = (groups.views.iter()).filter(|(group, _)| **group != COORDINATOR_GROUP);
    for (group, view) in workers {
        for (database, rows) in rows
            .iter()
            .filter(|(_, rows)| matches!(rows, Rows::Known(_)))
        {
            let members = view.members.values();
            let members = members.filter_map(|member| member.value.address.as_ref());
            let all = members.chain(row_of(rows, *group));
            places.extend(all.map(|address| (database.clone(), address.clone())));
        }
    }
    places
}

fn neighbours(groups: &Groups, answers: &Answers) -> BTreeMap<i32, Neighbour> {
    let views = groups.views.iter();
    views
        .map(|(group, view)| {
            let members = view.members.values();
            let answer = answers.get(group);
            let writable = matches!(answer, Some(Ok(answer)) if !answer.in_recovery);
            let leader = view.leader.as_ref().filter(|_| writable);
            let neighbour = Neighbour {
                scope: view.scope.to_string(),
                members: Some(
                    members
                        .filter_map(|member| member.value.address.clone())
                        .collect(),
                ),
                leader: leader.zip(view.leader_address()).map(|(leader, address)| {
                    NeighbourLeader {
                        address: address.clone(),
                        revision: leader.mod_revision,
                    }
                }),
                held: false,
                own: BTreeSet::new(),
                proven: BTreeSet::new(),
            };
            (*group, neighbour)
        })
        .collect()
}
