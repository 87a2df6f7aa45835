//! Whether the leaders can be asked from here, and every member reached from the coordinator.

use std::collections::BTreeMap;

use dcs_watch::{HostPort, ScopeView};

use super::per_database::PerDatabase;
use crate::cli::look::Look;
use crate::cli::remediation::{describe, quoted, remediation};
use crate::cli::snapshot::{Answers, Groups};
use crate::session::{MemberAnswer, SqlError};
use citus_core::config::Formation;
use citus_core::plan::{COORDINATOR_GROUP, Reach, Rows, UnreachedKind};
use citus_core::render::Finding;

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

/// A way of the coordinator to a server.
struct Way {
    /// The finding is about it.
    what: String,
    to: HostPort,
    /// It leads to the leader.
    leads: bool,
}

/// Each worker's members, and rows that are elsewhere, as the coordinator reaches them. A row is of no
/// use at an address that the coordinator does not reach, and any member may lead next.
pub(super) fn reached(look: &Look<'_>, groups: &Groups) -> Vec<Finding> {
    let Some(from) = groups.coordinator() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let workers = (groups.views.iter()).filter(|(group, _)| **group != COORDINATOR_GROUP);
    for (group, view) in workers {
        for way in ways(*group, view, look.rows) {
            let mut per_database = PerDatabase::of(look.formation);
            for database in &look.formation.coordinator.databases {
                let place = (database.clone(), way.to.clone());
                let answer = look.addresses.reached.get(&place);
                if let Some(finding) = answer.and_then(|answer| judge(&way, from, answer)) {
                    per_database.add(database, finding);
                }
            }
            found.extend(per_database.finish());
        }
    }
    found
}

/// The ways that matter to a group, that to its leader first.
fn ways(group: i32, view: &ScopeView, rows: &BTreeMap<String, Rows>) -> Vec<Way> {
    let leader = view.leader.as_ref().map(|leader| leader.value.as_str());
    let members = view.members.iter().filter_map(|(name, member)| {
        let leads = leader == Some(name);
        let what = if leads {
            format!("coordinator to {}", view.scope)
        } else {
            format!("coordinator to {}, member {name}", view.scope)
        };
        let to = member.value.address.clone()?;
        Some(Way { what, to, leads })
    });
    let mut ways: Vec<Way> = members.collect();
    for rows in rows.values() {
        let Rows::Known(rows) = rows else { continue };
        let own = rows
            .iter()
            .filter(|row| row.groupid == group && row.is_primary());
        for row in own {
            if !ways.iter().any(|way| way.to == row.address) {
                ways.push(Way {
                    what: format!("coordinator to the row of group {group}"),
                    to: row.address.clone(),
                    leads: false,
                });
            }
        }
    }
    ways.sort_by_key(|way| !way.leads);
    ways
}

/// None where this Citus cannot tell, but for the leader, which stands for its group.
fn judge(way: &Way, from: &HostPort, answer: &Result<Option<Reach>, SqlError>) -> Option<Finding> {
    let Way { what, to, leads } = way;
    let by_hand = format!("from {from}, try: psql -h {} -p {}", to.host, to.port);
    Some(match answer {
        // `leaders` shows what we see from here.
        Ok(None | Some(Reach::Asking)) if *leads => Finding::warn(
            what,
            format!(
                "could not be looked at: this Citus cannot say whether {from} reaches {to} \
                 (10.2 and later can)"
            ),
            by_hand,
        ),
        Ok(None | Some(Reach::Asking)) => return None,
        Ok(Some(Reach::Yes(_))) => Finding::pass(what, format!("{from} reaches {to}")),
        Ok(Some(Reach::No(why))) => Finding::fail(
            what,
            format!("{from} does not reach {to}: {why}"),
            fix(why.kind, from, to),
        ),
        Err(error) => Finding::fail(
            what,
            format!(
                "could not be looked at: {from} could not say whether it reaches {to}: {}",
                describe(error)
            ),
            by_hand,
        ),
    })
}

fn fix(kind: UnreachedKind, from: &HostPort, to: &HostPort) -> String {
    match kind {
        UnreachedKind::Refused => format!(
            "start the server at {to}, or correct the address that its Patroni advertises \
             (postgresql.connect_address), or map it under `addresses`"
        ),
        UnreachedKind::Timeout => format!(
            "open the way from {from} to {to} (firewalls, routes), or map the address under \
             `addresses`"
        ),
        UnreachedKind::Name => format!(
            "make the name known on {from} (DNS, /etc/hosts), or map the address under `addresses`"
        ),
        UnreachedKind::Tls => format!(
            "turn on ssl at {to}, as on the other members, or correct sslmode and the certificates \
             in citus.node_conninfo on {from}"
        ),
        UnreachedKind::Authentication => format!(
            "correct pg_hba.conf of {to}, and ~/.pgpass or pg_dist_authinfo on {from}, as for the \
             other members"
        ),
        UnreachedKind::Other => format!(
            "on {from}, look at the server's log, and try: psql -h {} -p {}",
            to.host, to.port
        ),
    }
}
