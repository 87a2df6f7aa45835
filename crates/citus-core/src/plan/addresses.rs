//! What follows for one row from what is known of addresses: whether it works, and whether it is this
//! group's.

use dcs_watch::HostPort;

use super::{ProbeState, Reach, Row, Situation, Wait};

/// Whether a row's address leads to the leader's own server under another name, as far as is known.
enum Leads {
    ToTheLeader,
    Elsewhere,
    /// The coordinator is being asked.
    NotKnownYet,
}

/// Rule 10: a row that works is left only for an address that the coordinator reaches. It works
/// where it leads the coordinator to the leader's own server by another name. Anything else is
/// a failover, which is followed whether the coordinator reaches the new leader or not.
pub(super) fn may_leave(
    situation: &Situation<'_>,
    database: &str,
    row: &Row,
    leader: &HostPort,
) -> Result<(), Wait> {
    match where_it_leads(situation, database, row) {
        Leads::Elsewhere => Ok(()),
        Leads::NotKnownYet => Err(Wait::ReachUnknown {
            address: row.address.clone(),
        }),
        Leads::ToTheLeader => match situation.addresses.reach_of(database, leader) {
            Some(Reach::Yes(_)) => Ok(()),
            Some(Reach::No(why)) => Err(Wait::NotReached {
                row: row.address.clone(),
                leader: leader.clone(),
                why: why.clone(),
            }),
            Some(Reach::Asking) | None => Err(Wait::ReachUnknown {
                address: leader.clone(),
            }),
        },
    }
}

fn where_it_leads(situation: &Situation<'_>, database: &str, row: &Row) -> Leads {
    let at = &row.address;
    let members = situation.view.members.values();
    // Another member's address is another server: nothing is asked in a failover.
    if row.is_temporary() || addresses(members).any(|address| address == at) {
        return Leads::Elsewhere;
    }
    let leader = situation.leader_probe().and_then(|probe| probe.started);
    match situation.addresses.reach_of(database, at) {
        None | Some(Reach::No(_)) => Leads::Elsewhere,
        Some(Reach::Asking) => Leads::NotKnownYet,
        Some(Reach::Yes(answerer)) => {
            let seen = situation.answers.get(at);
            let started = match (answerer, situation.state_of(at)) {
                (Some(answerer), _) if answerer.in_recovery => None,
                (Some(answerer), _) => Some(answerer.started),
                // This Citus cannot ask who answers: we ask ourselves.
                (None, ProbeState::Unknown) => return Leads::NotKnownYet,
                (None, ProbeState::Writable) => seen.and_then(|probe| probe.started),
                (None, _) => None,
            };
            if started.is_some() && started == leader {
                Leads::ToTheLeader
            } else {
                Leads::Elsewhere
            }
        }
    }
}

fn addresses<'a>(
    members: impl Iterator<Item = &'a dcs_watch::Versioned<dcs_watch::value::Member>>,
) -> impl Iterator<Item = &'a HostPort> {
    members.filter_map(|member| member.value.address.as_ref())
}

/// A row whose address belongs to a member of another configured scope, and to none of our own, is
/// that scope's, unless this database's row was ours before: databases may number their groups
/// differently.
pub(super) fn is_ours(situation: &Situation<'_>, database: &str, row: &Row) -> Result<(), Wait> {
    let facts = situation.addresses;
    let at = &row.address;
    let own = addresses(situation.view.members.values()).any(|address| address == at);
    if facts.fixed || own || row.is_temporary() || facts.own.contains(database) {
        return Ok(());
    }
    let others = || (facts.neighbours.iter()).filter(|(group, _)| **group != situation.group);
    let owner = others().find(|(_, other)| {
        let members = other.members.as_ref();
        members.is_some_and(|members| members.contains(at))
    });
    if let Some((group, owner)) = owner {
        return Err(Wait::NotOurs {
            address: at.clone(),
            nodeid: row.nodeid,
            scope: owner.scope.clone(),
            group: *group,
        });
    }
    let unread: Vec<String> = others()
        .filter(|(_, other)| other.members.is_none())
        .map(|(_, other)| other.scope.clone())
        .collect();
    if unread.is_empty() {
        Ok(())
    } else {
        Err(Wait::ScopesUnread {
            address: at.clone(),
            scopes: unread,
        })
    }
}
