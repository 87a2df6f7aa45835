//! What must be so of addresses whatever was decided: whose row it is, that a row that works is not
//! left for an address that the coordinator does not reach, and that an exchange leaves every name
//! real and every group at its own leader.

use dcs_watch::HostPort;

use super::cluster;
use super::predicates::{is_at, is_free, is_of_the_scope, is_writable_leader};
use super::violation::Violation;
use crate::plan::{Exchange, ExchangePart, ProbeState, Reach, Row, Situation, Step};
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
            follows_its_leader(situation, database, part)?;
        } else {
            is_asked_for(situation, database, part)?;
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

fn bad(address: &HostPort, why: &'static str) -> Result<(), Violation> {
    let address = address.clone();
    Err(Violation::BadExchange { address, why })
}

/// This group's own row goes to its own leader, as a move would.
fn follows_its_leader(
    situation: &Situation<'_>,
    database: &str,
    part: &ExchangePart,
) -> Result<(), Violation> {
    is_of_the_scope(situation, &part.to)?;
    is_writable_leader(situation, &part.to)?;
    if !cluster::has_the_shards(situation, database, &part.to) {
        let address = part.to.clone();
        return Err(Violation::UnprovenShards { address });
    }
    let leader = situation.view.leader.as_ref();
    if leader.map(|leader| leader.mod_revision) != Some(part.revision) {
        return bad(&part.to, "another leader key");
    }
    let facts = situation.addresses;
    if !facts.own.contains(database) || facts.fixed {
        return bad(&part.to, "this database's row was never this group's");
    }
    let trusted = situation.trusted_lineage;
    if trusted.is_some_and(|trusted| trusted != situation.view.lineage)
        || !cluster::gives_way(situation, &part.from, &part.to)
    {
        let address = part.from.clone();
        return Err(Violation::UnprovenLineage { address });
    }
    Ok(())
}

/// Another group's row goes where that group says that it may go.
fn is_asked_for(
    situation: &Situation<'_>,
    database: &str,
    part: &ExchangePart,
) -> Result<(), Violation> {
    let other = situation.addresses.neighbours.get(&part.group);
    let asks = other.is_some_and(|other| {
        let leader = other.leader.as_ref();
        let leads = leader
            .is_some_and(|leader| leader.address == part.to && leader.revision == part.revision);
        leads && !other.held && other.own.contains(database) && other.proven.contains(database)
    });
    if asks {
        Ok(())
    } else {
        bad(&part.to, "the other group does not ask for it")
    }
}
