//! Whether each group's leader has the shards that the coordinator's metadata has in that group.

use std::collections::BTreeSet;

use super::per_database::PerDatabase;
use crate::cli::look::Look;
use crate::cli::snapshot::Groups;
use citus_core::plan::{COORDINATOR_GROUP, Rows};
use citus_core::render::{Finding, counted};
use dcs_watch::HostPort;

/// What is to be counted: each worker group's leader that answers, in each database that is known.
pub(super) fn wanted(look: &Look<'_>, groups: &Groups) -> BTreeSet<(i32, String, HostPort)> {
    let mut wanted = BTreeSet::new();
    for (group, view) in &groups.views {
        let answers = matches!(look.answers.get(group), Some(Ok(_)));
        let Some(address) = view.leader_address().filter(|_| answers) else {
            continue;
        };
        for (database, rows) in look.rows {
            if *group != COORDINATOR_GROUP && matches!(rows, Rows::Known(_)) {
                wanted.insert((*group, database.clone(), address.clone()));
            }
        }
    }
    wanted
}

/// What was counted.
pub(super) fn judge(look: &Look<'_>, groups: &Groups) -> Vec<Finding> {
    let mut found = Vec::new();
    for (group, view) in &groups.views {
        let Some(counts) = look.shards.get(group) else {
            continue;
        };
        let what = format!("shards of group {group} ({})", view.scope);
        let answer = look
            .answers
            .get(group)
            .and_then(|answer| answer.as_ref().ok());
        let system = answer.and_then(|answer| answer.identity.system);
        let known = view.system.as_ref().map(|system| system.value);
        let mut per_database = PerDatabase::of(look.formation);
        for database in &look.formation.coordinator.databases {
            let Some(address) = view.leader_address() else {
                continue;
            };
            let finding = match counts.get(&(database.clone(), address.clone())) {
                None => continue,
                Some(Err(error)) => Finding::warn(
                    &what,
                    format!("could not be counted at {address}: {error}"),
                    "without it the row does not follow a leader of a scope that was made anew",
                ),
                Some(Ok(count)) => match count.judge(*group, address, system, known) {
                    Err(unproven) => Finding::fail(&what, unproven.to_string(), ""),
                    Ok(()) if count.expected == 0 => {
                        Finding::pass(&what, "none: there is nothing that its leader must have")
                    }
                    Ok(()) => {
                        let shards = usize::try_from(count.expected).unwrap_or(usize::MAX);
                        let shards = counted(shards, "shard is", "shards are");
                        Finding::pass(&what, format!("{shards} at its leader {address}"))
                    }
                },
            };
            per_database.add(database, finding);
        }
        found.extend(per_database.finish());
    }
    found
}
