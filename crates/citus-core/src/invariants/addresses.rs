//! What must be so of addresses whatever was decided: whose row it is, that a row that works is not
//! left for an address that the coordinator does not reach, and that an exchange leaves every name
//! real and every group at its own leader.

use dcs_watch::HostPort;

use super::{Violation, is_at, is_free, is_writable_leader};
use crate::plan::{Exchange, ProbeState, Reach, Row, Situation, Step};
use crate::topology::is_temporary;

/// Rules 7 and 10 of a step that rewrites a row of the group.
pub(super) fn check(
    situation: &Situation<'_>,
    database: &str,
    rows: &[Row],
    step: &Step,
) -> Result<(), Violation> {
    let facts = situation.addresses;
    match step {
        Step::Hold(hold) => {
            let row = rows.iter().find(|row| row.nodeid == hold.nodeid);
            row.map_or(Ok(()), |row| belongs(situation, database, &row.address))
        }
        Step::Move(step) => {
            belongs(situation, database, &step.from)?;
            not_fixed(situation, &step.from)?;
            reaches(situation, database, &step.from, &step.to)
        }
        Step::ReadMove(step) => {
            belongs(situation, database, &step.from)?;
            not_fixed(situation, &step.from)?;
            let leads = situation.view.leader_address() == Some(&step.to);
            match facts.reach.get(database).and_then(|all| all.get(&step.to)) {
                // Back to the leader, from a standby that is gone.
                _ if leads => Ok(()),
                None | Some(Reach::Yes(_)) => Ok(()),
                // Nobody can be served at a member that is lost.
                Some(Reach::Asking) if lost(situation, &step.from) => Ok(()),
                Some(_) => Err(Violation::OutOfReach {
                    from: step.from.clone(),
                    to: step.to.clone(),
                }),
            }
        }
        Step::Register(step) => not_fixed(situation, &step.address),
        Step::Repair(step) => not_fixed(situation, &step.from),
        Step::InSync | Step::Exchange(_) | Step::LetGo | Step::Resync(_) | Step::Wait(_) => Ok(()),
    }
}

fn lost(situation: &Situation<'_>, address: &HostPort) -> bool {
    let answer = situation.answers.get(address);
    answer.is_some_and(|probe| matches!(probe.state, ProbeState::Unreachable(_)))
}

fn not_fixed(situation: &Situation<'_>, at: &HostPort) -> Result<(), Violation> {
    if situation.addresses.fixed {
        return Err(Violation::NotOurRow {
            address: at.clone(),
        });
    }
    Ok(())
}

/// Another scope's member, and none of ours, is at this address, and this database never had it as
/// ours: it is that scope's row.
fn belongs(situation: &Situation<'_>, database: &str, at: &HostPort) -> Result<(), Violation> {
    let facts = situation.addresses;
    let mut ours = situation.view.members.values();
    let is_ours = ours.any(|member| member.value.address.as_ref() == Some(at));
    let is_theirs = facts.neighbours.iter().any(|(group, other)| {
        let members = other.members.iter().flatten();
        *group != situation.group && members.into_iter().any(|member| member == at)
    });
    if is_theirs && !is_ours && !facts.fixed && !facts.own.contains(database) {
        return Err(Violation::NotOurRow {
            address: at.clone(),
        });
    }
    Ok(())
}

/// Rule 10: the coordinator is served at `from` by the server that leads, so it must be served at `to`.
fn reaches(
    situation: &Situation<'_>,
    database: &str,
    from: &HostPort,
    to: &HostPort,
) -> Result<(), Violation> {
    let Some(reach) = situation.addresses.reach.get(database) else {
        return Ok(());
    };
    let Some(Reach::Yes(answerer)) = reach.get(from) else {
        return Ok(());
    };
    let member = |probe: &&crate::plan::Probe| probe.state == ProbeState::Writable;
    let there = match answerer {
        Some(answerer) => (!answerer.in_recovery).then_some(answerer.started),
        None => (situation.answers.get(from))
            .filter(member)
            .and_then(|probe| probe.started),
    };
    let leader = (situation.answers.get(to)).and_then(|probe| probe.started);
    let other_member =
        (situation.view.members.values()).any(|member| member.value.address.as_ref() == Some(from));
    let works = there.is_some() && there == leader && !other_member && !is_temporary(from);
    if works && !matches!(reach.get(to), Some(Reach::Yes(_))) {
        return Err(Violation::OutOfReach {
            from: from.clone(),
            to: to.clone(),
        });
    }
    Ok(())
}

/// Rule 6: each row is a group's primary row at the place that it is taken for, goes where that
/// group's leader takes writes, and the new addresses are the old ones in another order.
pub(super) fn is_sound_exchange(
    situation: &Situation<'_>,
    database: &str,
    rows: &[Row],
    step: &Exchange,
) -> Result<(), Violation> {
    let bad = |address: &HostPort, why| {
        let address = address.clone();
        Err(Violation::BadExchange { address, why })
    };
    let trusted = situation.trusted_lineage;
    let facts = situation.addresses;
    let lowest = step.parts.iter().map(|part| part.group).min();
    for (number, part) in step.parts.iter().enumerate() {
        is_at(rows, part.nodeid, &part.from)?;
        let primary = (rows.iter())
            .any(|row| row.nodeid == part.nodeid && row.groupid == part.group && row.is_primary());
        let again = step.parts[..number].iter();
        if !primary || again.clone().any(|other| other.group == part.group) {
            return Err(Violation::NotThePrimaryRow {
                nodeid: part.nodeid,
                from: part.from.clone(),
            });
        }
        let takes = (step.parts.iter()).filter(|other| other.from == part.to);
        if takes.count() != 1 || part.from == part.to || again.clone().any(|o| o.to == part.to) {
            return bad(&part.to, "it is no other row's");
        }
        is_free(rows, &part.temporary)?;
        if !is_temporary(&part.temporary) || is_temporary(&part.to) {
            return bad(
                &part.temporary,
                "a temporary name would stay, or another one",
            );
        }
        if part.group == situation.group {
            is_writable_leader(situation, &part.to)?;
            let leader = situation.view.leader.as_ref();
            if leader.map(|leader| leader.mod_revision) != Some(part.revision) {
                return bad(&part.to, "another leader key");
            }
            if !facts.own.contains(database) || facts.fixed {
                return bad(&part.to, "this database's row was never this group's");
            }
            if trusted.is_some_and(|trusted| trusted != situation.view.lineage) {
                return Err(Violation::UnprovenLineage {
                    address: part.from.clone(),
                });
            }
            continue;
        }
        let other = facts.neighbours.get(&part.group);
        let leads = other.and_then(|other| other.leader.as_ref());
        let proven = leads
            .is_some_and(|leader| leader.address == part.to && leader.revision == part.revision);
        let free = other.is_some_and(|other| !other.held && other.own.contains(database));
        if !proven || !free {
            return bad(&part.to, "the other group does not ask for it");
        }
    }
    let own = step.parts.iter().any(|part| part.group == situation.group);
    if !own || lowest != Some(situation.group) || step.parts.len() < 2 {
        let first = step.parts.first().map(|part| part.to.clone());
        let address = first.unwrap_or_else(|| HostPort {
            host: String::new(),
            port: 0,
        });
        return bad(&address, "another group makes this exchange");
    }
    Ok(())
}
