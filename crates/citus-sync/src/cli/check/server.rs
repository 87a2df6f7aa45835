//! Whether the leaders can be asked from here, and every member reached from the coordinator.

use std::collections::BTreeMap;

use dcs_watch::HostPort;

use super::per_database::PerDatabase;
use crate::cli::addresses::Addresses;
use crate::cli::remediation::{describe, remediation};
use crate::cli::snapshot::{Answers, Groups};
use crate::session::SqlError;
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
                Ok(false) => Finding::pass(what, format!("{address} answers and takes writes")),
                Ok(true) => Finding::warn(
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

/// Each worker's members, and rows that are elsewhere, as the coordinator reaches them. A row is of no
/// use at an address that the coordinator does not reach, and any member may lead next.
pub(super) fn reached(
    formation: &Formation,
    groups: &Groups,
    rows: &BTreeMap<String, Rows>,
    addresses: &Addresses,
) -> Vec<Finding> {
    let Some(from) = groups.coordinator() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let workers = (groups.views.iter()).filter(|(group, _)| **group != COORDINATOR_GROUP);
    for (group, view) in workers {
        let leader = view.leader.as_ref().map(|leader| leader.value.as_str());
        let mut places: Vec<(String, HostPort, bool)> = Vec::new();
        for (name, member) in &view.members {
            let Some(address) = &member.value.address else {
                continue;
            };
            let leads = leader == Some(name);
            let what = if leads {
                format!("coordinator to {}", view.scope)
            } else {
                format!("coordinator to {}, member {name}", view.scope)
            };
            places.push((what, address.clone(), leads));
        }
        for rows in rows.values() {
            let Rows::Known(rows) = rows else { continue };
            let own = rows
                .iter()
                .filter(|row| row.groupid == *group && row.is_primary());
            for row in own {
                if !places.iter().any(|(_, address, _)| *address == row.address) {
                    let what = format!("coordinator to the row of group {group}");
                    places.push((what, row.address.clone(), false));
                }
            }
        }
        places.sort_by_key(|(_, _, leads)| !leads);
        for (what, to, _) in places {
            let mut per_database = PerDatabase::of(formation);
            for database in &formation.coordinator.databases {
                let answer = addresses.reached.get(&(database.clone(), to.clone()));
                if let Some(finding) = answer.and_then(|answer| way(&what, from, &to, answer)) {
                    per_database.add(database, finding);
                }
            }
            found.extend(per_database.finish());
        }
    }
    found
}

/// None where this Citus cannot tell; `leaders` shows what we see from here.
fn way(
    what: &str,
    from: &HostPort,
    to: &HostPort,
    answer: &Result<Option<Reach>, SqlError>,
) -> Option<Finding> {
    Some(match answer {
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
                "{from} could not say whether it reaches {to}: {}",
                describe(error)
            ),
            format!("from {from}, try: psql -h {} -p {}", to.host, to.port),
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
