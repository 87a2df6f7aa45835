//! Whether the leaders can be asked from here, and reached from the coordinator.

use super::answers::Reached;
use super::per_database::PerDatabase;
use crate::cli::remediation::{describe, quoted, remediation};
use crate::cli::snapshot::{Answers, Groups};
use crate::session::MemberAnswer;
use citus_core::config::Formation;
use citus_core::plan::COORDINATOR_GROUP;
use citus_core::render::Finding;
use dcs_watch::{HostPort, ScopeView};

/// Each leader, as it answered us.
pub(super) fn leaders(formation: &Formation, groups: &Groups, answers: &Answers) -> Vec<Finding> {
    let coordinator = &formation.coordinator;
    let database = coordinator.databases.first().map_or("", String::as_str);
    answers
        .iter()
        .filter_map(|(group, answer)| {
            let view = groups.views.get(group)?;
            let address = view.leader_address()?;
            let what = format!("leader of {}", view.scope);
            Some(match answer {
                Ok(answer) if of_another_cluster(view, answer).is_some() => Finding::fail(
                    what,
                    of_another_cluster(view, answer).unwrap_or_default(),
                    "fix the member's connect_address, or find out what was given its address",
                ),
                Ok(answer) if !answer.in_recovery => {
                    Finding::pass(what, takes_writes(view, answer, address))
                }
                Ok(_) => Finding::warn(
                    what,
                    format!("{address} holds the leader key but is in recovery"),
                    "if it is being promoted, wait; if not, see its log and Patroni's",
                ),
                Err(error) => Finding::fail(
                    what,
                    format!(
                        "{address}, as role {}: {}",
                        coordinator.user,
                        describe(error)
                    ),
                    remediation(error, coordinator, address, database),
                ),
            })
        })
        .collect()
}

/// That the server at a leader's address is of another cluster than its scope.
fn of_another_cluster(view: &ScopeView, answer: &MemberAnswer) -> Option<String> {
    let (found, scope) = (answer.identity.system?, view.system.as_ref()?.value);
    (found != scope).then(|| {
        format!(
            "{} is of another database cluster: its system identifier is {found}, that of the scope \
             {scope} (the initialize key); `run` does not follow it",
            view.leader_address().map(ToString::to_string).unwrap_or_default()
        )
    })
}

fn takes_writes(view: &ScopeView, answer: &MemberAnswer, address: &HostPort) -> String {
    let identity = match (answer.identity.system, &view.system) {
        (Some(system), Some(_)) => format!(", and is of the scope's cluster, {system}"),
        _ => String::new(),
    };
    format!("{address} answers and takes writes{identity}")
}

/// Leaders that cannot be told from a server of another cluster.
pub(super) fn unidentified(
    formation: &Formation,
    groups: &Groups,
    answers: &Answers,
) -> Vec<Finding> {
    let user = &formation.coordinator.user;
    let unidentified = answers.iter().filter_map(|(group, answer)| {
        let view = groups.views.get(group)?;
        let system = answer.as_ref().ok()?.identity.system;
        system.is_none().then(|| format!("{}", view.scope))
    });
    let scopes: Vec<String> = unidentified.collect();
    if scopes.is_empty() {
        return Vec::new();
    }
    vec![Finding::warn(
        "who answers",
        format!(
            "role {user} may not call pg_control_system() at the leaders of {}: a server of another \
             cluster at a leader's address is not told from the leader",
            scopes.join(", ")
        ),
        format!(
            "there, in the first configured database: GRANT EXECUTE ON FUNCTION \
             pg_catalog.pg_control_system() TO {}",
            quoted(user)
        ),
    )]
}

/// Each worker's leader, as the coordinator reaches it. A row is of no use
/// at an address that the coordinator does not reach.
pub(super) fn reached(formation: &Formation, groups: &Groups, reached: &Reached) -> Vec<Finding> {
    let Some(from) = groups.coordinator() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (group, view) in groups
        .views
        .iter()
        .filter(|(group, _)| **group != COORDINATOR_GROUP)
    {
        let Some(to) = view.leader_address() else {
            continue;
        };
        let what = format!("coordinator to {}", view.scope);
        let mut per_database = PerDatabase::of(formation);
        for database in &formation.coordinator.databases {
            let Some(answer) = reached.get(&(*group, database.clone())) else {
                continue;
            };
            let finding = match answer {
                // `leaders` shows what we see from here.
                Ok(None) => Finding::warn(
                    &what,
                    format!(
                        "could not be looked at: this Citus cannot say whether {from} reaches {to} \
                         (10.2 and later can)"
                    ),
                    format!("from {from}, try: psql -h {} -p {}", to.host, to.port),
                ),
                Ok(Some(true)) => Finding::pass(&what, format!("{from} reaches {to}")),
                Ok(Some(false)) => Finding::fail(
                    &what,
                    format!("{from} does not reach {to} (citus_check_connection_to_node)"),
                    format!(
                        "on {from}, look at the server's log, and check name resolution, \
                         firewalls, ~/.pgpass or pg_dist_authinfo, citus.node_conninfo's sslmode, \
                         and pg_hba.conf of {to}"
                    ),
                ),
                Err(error) => Finding::fail(
                    &what,
                    format!(
                        "could not be looked at: {from} could not say whether it reaches {to}: {}",
                        describe(error)
                    ),
                    format!("from {from}, try: psql -h {} -p {}", to.host, to.port),
                ),
            };
            per_database.add(database, finding);
        }
        found.extend(per_database.finish());
    }
    found
}
