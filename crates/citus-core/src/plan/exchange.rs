//! Groups whose leaders have each other's addresses: the rows are exchanged in one transaction, by
//! way of temporary names, because `nodename:nodeport` is unique.
//!
//! Each group decides alone, from what the others let it know, and all of them come to the same
//! circle: the group with the lowest number makes the exchange, the others wait for it.

use dcs_watch::HostPort;

use super::{Exchange, ExchangePart, Held, Row, Situation, Step, Wait};

/// What is to be done where the leader's address is that of another group's primary row: an exchange,
/// if the rows of groups that take writes form a circle; otherwise a reason to wait.
pub(super) fn exchange(
    situation: &Situation<'_>,
    database: &str,
    rows: &[Row],
    primary: &Row,
    leader: &HostPort,
    other: &Row,
) -> Step {
    let taken = || {
        Step::Wait(Wait::AddressTaken {
            address: other.address.clone(),
            nodeid: other.nodeid,
            group: other.groupid,
        })
    };
    let Some(parts) = circle(situation, database, rows, primary, leader) else {
        return taken();
    };
    let Some(by) = parts.iter().map(|part| part.group).min() else {
        return taken();
    };
    // What is not known of who answers at the leaders is found out by each group for itself.
    if let Err(wait) = situation.may_follow(database) {
        return Step::Wait(wait);
    }
    let others = parts.iter().filter(|part| part.group != situation.group);
    let mut others = others.map(|part| situation.addresses.neighbours.get(&part.group));
    let proven = others.all(|other| other.is_some_and(|other| other.proven.contains(database)));
    if by == situation.group && proven {
        Step::Exchange(Exchange { parts })
    } else {
        Step::Wait(Wait::Exchanged {
            by,
            groups: parts.iter().map(|part| part.group).collect(),
        })
    }
}

/// The rows of the circle that begins with this group's, in the order of groups.
fn circle(
    situation: &Situation<'_>,
    database: &str,
    rows: &[Row],
    primary: &Row,
    leader: &HostPort,
) -> Option<Vec<ExchangePart>> {
    let revision = situation.view.leader.as_ref()?.mod_revision;
    let held = situation.progress_of(database).held != Held::No;
    if held || !situation.lineage_is_trusted() || !situation.addresses.own.contains(database) {
        return None;
    }
    let mut parts = vec![part(primary, leader, revision)];
    loop {
        let wanted = &parts.last()?.to;
        let row = rows.iter().find(|row| row.address == *wanted)?;
        if row.nodeid == primary.nodeid {
            break;
        }
        let neighbour = situation.addresses.neighbours.get(&row.groupid)?;
        let is_known = parts.iter().any(|part| part.group == row.groupid);
        if is_known || !row.is_primary() || neighbour.held || !neighbour.own.contains(database) {
            return None;
        }
        let leader = neighbour.leader.as_ref()?;
        parts.push(part(row, &leader.address, leader.revision));
    }
    parts.sort_by_key(|part| part.group);
    Some(parts)
}

fn part(row: &Row, to: &HostPort, revision: i64) -> ExchangePart {
    ExchangePart {
        group: row.groupid,
        nodeid: row.nodeid,
        from: row.address.clone(),
        to: to.clone(),
        temporary: row.temporary_address(),
        revision,
    }
}
