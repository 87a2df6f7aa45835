//! Where reads may go while writes are held or the leader is gone (rule 1b): a standby that has
//! everything, or nowhere, and why.

use dcs_watch::{HostPort, KeyRevisions, Lsn, Role};

use super::{Probe, ProbeState, Reach, Reachability, Row, Situation, Stay};

/// What is written of the log at a leader whose writes are held is all there is; a standby that
/// has replayed it shows every reader what the leader would.
///
/// `round` is the one that began when the hold was complete in this database.
pub(super) fn while_held(
    situation: &Situation<'_>,
    database: &str,
    round: u64,
) -> Result<HostPort, Stay> {
    allowed(situation, database)?;
    if situation.progress_of(database).leader_open {
        return Err(Stay::LeaderOpen);
    }
    let leader = situation
        .leader_probe()
        .filter(|probe| probe.state == ProbeState::Writable && probe.round >= round);
    let everything = leader
        .and_then(|probe| probe.position.written)
        .ok_or(Stay::Asking)?;
    let mut best: Option<(Lsn, HostPort)> = None;
    let mut out_of_reach = None;
    let standbys = standbys(situation);
    if standbys.is_empty() {
        return Err(Stay::NoneQualifies);
    }
    for address in standbys {
        let Some(replayed) = standby(situation, &address, 0).and_then(|p| p.position.replayed)
        else {
            continue;
        };
        if replayed >= everything {
            match out_of_coordinators_reach(situation, database, &address) {
                None => return Ok(address),
                Some(why) => out_of_reach = out_of_reach.or(Some(why)),
            }
            continue;
        }
        if best
            .as_ref()
            .is_none_or(|(furthest, _)| replayed > *furthest)
        {
            best = Some((replayed, address));
        }
    }
    Err(match best {
        _ if out_of_reach.is_some() => out_of_reach.unwrap_or(Stay::NoStandby),
        Some((replayed, address)) => Stay::Behind {
            address,
            bytes: replayed.behind(everything),
        },
        None => Stay::NoStandby,
    })
}

/// The member at `lost` does not answer us. Once the coordinator cannot reach it either, reads go
/// to the synchronous standby that has the most of the log, as soon as it has replayed that: every
/// transaction that was acknowledged is there.
pub(super) fn after_loss(
    situation: &Situation<'_>,
    database: &str,
    lost: &HostPort,
) -> Result<HostPort, Stay> {
    allowed(situation, database)?;
    let round = match situation.reachability.get(lost) {
        None => return Err(Stay::Unconfirmed),
        Some(Reachability::Reachable) => return Err(Stay::Reachable),
        Some(Reachability::Unreachable { round }) => *round,
    };
    let synchronous = synchronous_to(situation, lost);
    let answered = |addresses: &[HostPort]| -> Vec<&Probe> {
        let probes = addresses.iter();
        probes
            .filter_map(|address| standby(situation, address, round))
            .filter(|probe| probe.position.written.is_some())
            .collect()
    };
    // With quorum commit no single standby has everything; among so many one does.
    let quorum = situation.view.sync.as_ref().map_or(0, |s| s.value.quorum) as usize;
    let voters = answered(&synchronous);
    if voters.len() > quorum {
        return among_voters(situation, database, &voters);
    }
    let Some(max_lag) = situation.limits.max_lag else {
        return Err(Stay::NoStandby);
    };
    // Asynchronous: the most that is known of the lost leader's log is what to be measured by.
    let others: Vec<HostPort> = replicas(situation)
        .filter(|address| address != lost)
        .collect();
    let probes = answered(&others);
    let best = probes.iter().max_by_key(|probe| probe.position.replayed);
    let best = best.ok_or(Stay::NoStandby)?;
    let known = situation
        .answers
        .values()
        .filter_map(has)
        .chain(situation.view.last_position)
        .max()
        .unwrap_or_default();
    let replayed = best.position.replayed.unwrap_or_default();
    if replayed.behind(known) <= max_lag {
        vouched_for(situation, database, best)
    } else {
        Err(behind(best, known))
    }
}

/// Of the synchronous standbys one that has replayed the most that any of them has: if there are
/// several, one that the coordinator reaches.
fn among_voters(
    situation: &Situation<'_>,
    database: &str,
    voters: &[&Probe],
) -> Result<HostPort, Stay> {
    let best = voters.iter().max_by_key(|probe| has(probe));
    let best = best.ok_or(Stay::NoStandby)?;
    let is_complete = |probe: &&&Probe| {
        let has_replayed = probe.position.replayed >= has(best) || probe.position.exhausted;
        has(probe) == has(best) && has_replayed
    };
    let is_reached = |probe: &&&Probe| reached(situation, database, &probe.address).is_ok();
    let complete = || voters.iter().rev().filter(is_complete);
    match complete().find(is_reached).or_else(|| complete().next()) {
        Some(standby) => vouched_for(situation, database, standby),
        None => Err(behind(best, has(best).unwrap_or_default())),
    }
}

/// Rule 10: once a member is lost, reads go to a standby unless the coordinator said that it does not
/// get there.
fn reached(situation: &Situation<'_>, database: &str, address: &HostPort) -> Result<(), Stay> {
    match situation.addresses.unreached(database, address) {
        None => Ok(()),
        Some(why) => Err(Stay::NotReached {
            address: address.clone(),
            why: why.clone(),
        }),
    }
}

/// Rule 10: while the leader is there, reads leave it only for a standby that the coordinator
/// reaches, where it can be asked.
fn out_of_coordinators_reach(
    situation: &Situation<'_>,
    database: &str,
    address: &HostPort,
) -> Option<Stay> {
    let address = address.clone();
    match situation.addresses.reach_of(database, &address)? {
        Reach::Yes(_) => None,
        Reach::Asking => Some(Stay::ReachUnknown { address }),
        Reach::No(why) => Some(Stay::NotReached {
            address,
            why: why.clone(),
        }),
    }
}

/// The standby, unless the coordinator does not reach it; once etcd itself has confirmed who leads and
/// who is synchronous, because a watch may lag; and once the standby is known to have the group's
/// shards, because what etcd says of a scope that is new to us is not enough to leave a row for.
fn vouched_for(
    situation: &Situation<'_>,
    database: &str,
    standby: &Probe,
) -> Result<HostPort, Stay> {
    reached(situation, database, &standby.address)?;
    match situation.keys {
        None => return Err(Stay::KeysNotRead),
        Some(keys) if keys != KeyRevisions::of(situation.view) => return Err(Stay::KeysDiffer),
        Some(_) => {}
    }
    let address = &standby.address;
    let shards = situation.has_the_shards(database, address, standby.identity);
    shards.map_err(Stay::Unproven)?;
    Ok(address.clone())
}

/// How much of the log a member has. One that was started anew streams from the beginning of a
/// segment and so seems to have received less than it had and has replayed.
fn has(probe: &Probe) -> Option<Lsn> {
    probe.position.written.max(probe.position.replayed)
}

fn behind(probe: &Probe, goal: Lsn) -> Stay {
    let replayed = probe.position.replayed.unwrap_or_default();
    Stay::Behind {
        address: probe.address.clone(),
        bytes: replayed.behind(goal),
    }
}

fn allowed(situation: &Situation<'_>, database: &str) -> Result<(), Stay> {
    if situation.addresses.fixed {
        Err(Stay::Fixed)
    } else if !situation.limits.read_move {
        Err(Stay::Off)
    } else if situation.progress_of(database).no_read_moves {
        Err(Stay::NotAllowed)
    } else if !situation.lineage_is_trusted() {
        Err(Stay::NewHistory)
    } else {
        Ok(())
    }
}

/// A member's answer as a standby, if it was asked in this round or later.
fn standby<'a>(situation: &Situation<'a>, address: &HostPort, round: u64) -> Option<&'a Probe> {
    situation
        .answers
        .get(address)
        .filter(|probe| probe.state == ProbeState::InRecovery && probe.round >= round)
        .filter(|probe| situation.may_stand_by(probe))
}

/// Where reads may be sent while writes are held, the best first: the named candidate of a request,
/// which will lead next; the synchronous standbys; the others. Whether a standby is synchronous does
/// not matter then: one that has replayed all that the leader has flushed has everything.
pub(super) fn standbys(situation: &Situation<'_>) -> Vec<HostPort> {
    let view = situation.view;
    let candidate = (view.failover.as_ref())
        .and_then(|request| request.value.candidate.as_ref())
        .and_then(|name| address_of(situation, name))
        .filter(|address| !is_left_behind(situation, address));
    let synchronous = match (&view.sync, &view.leader) {
        (Some(sync), Some(leader)) if sync.value.leader.as_ref() == Some(&leader.value) => {
            sync.value.standbys.as_slice()
        }
        _ => &[],
    };
    let synchronous = synchronous.iter().filter_map(|n| address_of(situation, n));
    let all = candidate.into_iter().chain(synchronous);
    unique(situation, all.chain(replicas(situation)))
}

/// Which members to ask once the member at `lost` is gone.
pub(super) fn failover_candidates(situation: &Situation<'_>, lost: &HostPort) -> Vec<HostPort> {
    let all = synchronous_to(situation, lost).into_iter();
    // Asynchronous standbys, where the policy takes them.
    let others = situation.limits.max_lag.map(|_| replicas(situation));
    let all = all.chain(others.into_iter().flatten());
    unique(situation, all.filter(|address| address != lost))
}

fn unique(situation: &Situation<'_>, all: impl Iterator<Item = HostPort>) -> Vec<HostPort> {
    let mut seen: Vec<HostPort> = Vec::new();
    for address in all {
        if situation.view.leader_address() != Some(&address) && !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen
}

/// The standbys that were synchronous to the member at this address. `/sync` names the leader it
/// is about, because it outlives the leader key; what it says about another leader says nothing.
fn synchronous_to(situation: &Situation<'_>, leader: &HostPort) -> Vec<HostPort> {
    let view = situation.view;
    let Some(sync) = &view.sync else {
        return vec![];
    };
    let Some(name) = &sync.value.leader else {
        return vec![];
    };
    match view.members.get(name) {
        Some(member) if member.value.address.as_ref() == Some(leader) => {}
        // Its member key is on a lease as well, and may be gone by now.
        None => {}
        Some(_) => return vec![],
    }
    let names = sync.value.standbys.iter();
    names
        .filter_map(|name| address_of(situation, name))
        .collect()
}

/// Asynchronous standbys that may be measured by the leader's log: they share its history.
fn replicas(situation: &Situation<'_>) -> impl Iterator<Item = HostPort> {
    let members = situation.view.members.values();
    members
        .filter(|member| member.value.role == Role::Replica)
        .filter_map(|member| member.value.address.clone())
        .filter(|address| !is_left_behind(situation, address))
}

/// Whether a member was last seen on an older timeline than another: it led once, or followed who
/// did, and Patroni has not rewound it yet. Positions of two histories say nothing of each other.
/// A synchronous standby streams from its leader, whatever its member key, which is up to a loop
/// old, says of timelines.
fn is_left_behind(situation: &Situation<'_>, address: &HostPort) -> bool {
    let members = || situation.view.members.values().map(|member| &member.value);
    let newest = members().filter_map(|member| member.timeline).max();
    let own = members()
        .find(|member| member.address.as_ref() == Some(address))
        .and_then(|member| member.timeline);
    own.is_some() && own < newest
}

fn address_of(situation: &Situation<'_>, member: &str) -> Option<HostPort> {
    situation.view.members.get(member)?.value.address.clone()
}

/// Whether reads of a group are where a read move put them, rather than at a leader: its row
/// points at a member that is a standby.
pub(super) fn are_moved(situation: &Situation<'_>, primary: &Row) -> bool {
    situation.view.leader_address() != Some(&primary.address)
        && *situation.state_of(&primary.address) == ProbeState::InRecovery
}
