//! What `check` asks PostgreSQL servers beyond the question to each leader, and what they answered.

use std::collections::BTreeMap;

use dcs_watch::HostPort;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use crate::cli::snapshot::{AT_ONCE, Groups};
use crate::session::inspect::{self, CitusFacts, EntryNodeFacts, Facts};
use crate::session::{Login, SqlError};
use citus_core::plan::Rows;

/// What the databases of one coordinator said.
pub(super) type Inspected = BTreeMap<String, Result<Facts, SqlError>>;

/// What our role may do on an entry node, by group and database.
pub(super) type EntryNodes = BTreeMap<(i32, String), Result<EntryNodeFacts, SqlError>>;

/// The databases that answered, each with its answer.
pub(super) fn facts(inspected: &Inspected) -> impl Iterator<Item = (&String, &Facts)> {
    inspected
        .iter()
        .filter_map(|(name, answer)| Some((name, answer.as_ref().ok()?)))
}

/// What Citus in one database said, if it answered.
pub(super) fn citus(answer: &Result<Facts, SqlError>) -> Option<&CitusFacts> {
    answer.as_ref().ok()?.citus.as_ref().ok()
}

/// The rows of each database.
pub(super) fn rows(inspected: &Inspected) -> BTreeMap<String, Rows> {
    let known = inspected.iter().map(|(name, answer)| {
        let rows = match citus(answer) {
            Some(citus) => Rows::known(citus.rows.clone()),
            // `databases` says why.
            None => Rows::Unknown(String::new()),
        };
        (name.clone(), rows)
    });
    known.collect()
}

/// Asks every database of the coordinator at the same time.
pub(super) async fn inspect_databases(
    login: &Login,
    databases: &[String],
    coordinator: Option<&HostPort>,
) -> Inspected {
    let Some(address) = coordinator else {
        return BTreeMap::new();
    };
    let questions = databases
        .iter()
        .map(async |name| (name.clone(), inspect::database(login, address, name).await));
    join_all(questions).await.into_iter().collect()
}

/// Asks every database of every worker leader that has metadata there, each on a session of its
/// own.
pub(super) async fn ask_entry_nodes(
    login: &Login,
    groups: &Groups,
    inspected: &Inspected,
) -> EntryNodes {
    let mut questions = Vec::new();
    for (name, facts) in inspected {
        let rows = citus(facts).map_or(&[][..], |citus| citus.rows.as_slice());
        for row in rows {
            let view = groups
                .views
                .get(&row.groupid)
                .filter(|_| row.is_entry_node());
            let Some(address) = view.and_then(|view| view.leader_address()) else {
                continue;
            };
            let key = (row.groupid, name.clone());
            questions.push(async move { (key, inspect::entry_node(login, address, name).await) });
        }
    }
    stream::iter(questions)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}
