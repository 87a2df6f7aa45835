//! The rules that never break, checked from the decision alone. It must not share a thought with
//! the table: it is asked before every execution, and over every decision in the tests.

mod addresses;
mod cluster;
mod entry_nodes;
mod predicates;
mod violation;

use dcs_watch::{Freshness, HostPort, Role, SyncState};

use crate::plan::{
    COORDINATOR_GROUP, Decision, Held, Hold, Move, NodeRole, Probe, ProbeState, Reachability,
    Register, Repair, Row, Rows, Situation, Step, Writes,
};
use crate::topology::is_temporary;

use predicates::{is_at, is_free, is_of_the_scope, is_row, is_writable_leader};

pub use entry_nodes::{check_at_entry_node, may_follow_at_once};
pub use violation::Violation;

/// Whether a decision keeps the rules.
///
/// # Errors
///
/// The first violation found, in the order of the databases' names.
pub fn check(situation: &Situation<'_>, decision: &Decision) -> Result<(), Violation> {
    for (database, step) in &decision.steps {
        // To let go of a hold is always right.
        if !step.acts() || *step == Step::LetGo {
            continue;
        }
        if situation.writes != Writes::Allowed {
            return Err(Violation::OnlyObserved);
        }
        if situation.view.freshness != Freshness::Fresh
            && !undoes_a_read_move(situation, database, step)
        {
            return Err(Violation::NotFresh);
        }
        let Some(Rows::Known(rows)) = situation.rows.get(database) else {
            return Err(Violation::UnknownDatabase {
                database: database.clone(),
            });
        };
        check_step(situation, database, rows, step)?;
    }
    Ok(())
}

/// Rule 5: while etcd is silent nothing is changed, but that a hold which ends may take its own read
/// move back. What the move itself has to keep is checked as ever.
fn undoes_a_read_move(situation: &Situation<'_>, database: &str, step: &Step) -> bool {
    let Step::Move(step) = step else {
        return false;
    };
    let expired = situation.active_hold.is_some_and(|hold| hold.expired);
    let is_held = matches!(situation.progress_of(database).held, Held::Yes { .. });
    let at_standby = situation.answers.get(&step.from);
    let at_standby = at_standby.is_some_and(|probe| probe.state == ProbeState::InRecovery);
    (expired || situation.stopping) && is_held && at_standby
}

fn check_step(
    situation: &Situation<'_>,
    database: &str,
    rows: &[Row],
    step: &Step,
) -> Result<(), Violation> {
    let held = situation.progress_of(database).held;
    if held == Held::Taking {
        return Err(Violation::HoldUnderWay);
    }
    addresses::check(situation, database, rows, step)?;
    match step {
        Step::InSync | Step::Wait(_) | Step::LetGo => Ok(()),
        Step::Hold(step) => may_hold(situation, rows, held, step),
        Step::Exchange(step) => {
            if held != Held::No {
                return Err(Violation::HoldUnderWay);
            }
            addresses::is_sound_exchange(situation, database, rows, step)
        }
        Step::ReadMove(step) => {
            may_move_reads(situation, database, held, step)?;
            is_sound_update(situation, rows, step)
        }
        Step::Resync(step) => {
            is_of_the_scope(situation, &step.address)?;
            is_writable_leader(situation, &step.address)?;
            if held != Held::No {
                return Err(Violation::HoldUnderWay);
            }
            is_row(
                situation,
                rows,
                step.nodeid,
                &step.address,
                NodeRole::Primary,
            )
        }
        Step::Register(step) => may_register(situation, rows, step),
        Step::Repair(step) => may_repair(situation, rows, step),
        Step::Move(step) => {
            is_of_the_scope(situation, &step.to)?;
            is_writable_leader(situation, &step.to)?;
            lineage_agrees(situation, &step.from)?;
            gives_way(situation, step)?;
            has_the_shards(situation, database, &step.to)?;
            is_sound_update(situation, rows, step)
        }
    }
}

/// Reads go to a standby that has everything, or back to the leader.
fn may_move_reads(
    situation: &Situation<'_>,
    database: &str,
    held: Held,
    step: &Move,
) -> Result<(), Violation> {
    is_of_the_scope(situation, &step.to)?;
    if is_writable_leader(situation, &step.to).is_ok() {
        lineage_agrees(situation, &step.from)?;
        return has_the_shards(situation, database, &step.to);
    }
    let covered = !situation.progress_of(database).leader_open;
    let held = if covered { held } else { Held::No };
    has_everything(situation, database, held, step)
}

/// No hold past its deadline, again for the same reason, while this program stops, of the
/// coordinator's group, or beside another one.
fn may_hold(
    situation: &Situation<'_>,
    rows: &[Row],
    held: Held,
    step: &Hold,
) -> Result<(), Violation> {
    let expired = (situation.active_hold).is_some_and(|active_hold| active_hold.expired);
    let again = situation.given_up.contains(&step.reason);
    if expired || again || situation.stopping || situation.group == COORDINATOR_GROUP {
        return Err(Violation::NoHoldNow);
    }
    if held != Held::No {
        return Err(Violation::HoldUnderWay);
    }
    if let Some(leader) = situation.view.leader_address() {
        is_of_the_scope(situation, leader)?;
    }
    let nodeid = step.nodeid;
    let Some(row) = rows.iter().find(|row| row.nodeid == nodeid) else {
        return Err(Violation::UnknownNode { nodeid });
    };
    is_row(situation, rows, nodeid, &row.address, NodeRole::Primary)
}

/// A group is added only at its writable leader, under an address that no row has, and while it has
/// no primary row.
fn may_register(situation: &Situation<'_>, rows: &[Row], step: &Register) -> Result<(), Violation> {
    is_of_the_scope(situation, &step.address)?;
    is_writable_leader(situation, &step.address)?;
    is_free(rows, &step.address)?;
    let primary = (rows.iter()).find(|row| row.groupid == step.group && row.is_primary());
    match primary {
        Some(row) => Err(Violation::NotThePrimaryRow {
            nodeid: row.nodeid,
            from: row.address.clone(),
        }),
        None if step.group != situation.group => Err(Violation::NotThePrimaryRow {
            nodeid: 0,
            from: step.address.clone(),
        }),
        None => Ok(()),
    }
}

/// Rule 6: a secondary row gets the address of a replica that no row has.
fn may_repair(situation: &Situation<'_>, rows: &[Row], step: &Repair) -> Result<(), Violation> {
    is_row(
        situation,
        rows,
        step.nodeid,
        &step.from,
        NodeRole::Secondary,
    )?;
    is_free(rows, &step.to)?;
    let replica = situation.view.members.values().any(|member| {
        member.value.address.as_ref() == Some(&step.to)
            && situation.view.leader_address() != Some(&step.to)
    });
    if replica {
        Ok(())
    } else {
        Err(Violation::BadSwap {
            address: step.to.clone(),
        })
    }
}

/// Rule 6: the row is the one it is taken for, and afterwards no two rows share a name.
fn is_sound_update(situation: &Situation<'_>, rows: &[Row], step: &Move) -> Result<(), Violation> {
    is_row(situation, rows, step.nodeid, &step.from, NodeRole::Primary)?;
    let Some(way) = &step.make_way else {
        return is_free(rows, &step.to);
    };
    let is_clone = (rows.iter()).any(|row| row.nodeid == way.nodeid && row.role == NodeRole::Clone);
    if is_clone {
        is_at(rows, way.nodeid, &step.to)?;
    } else {
        is_row(situation, rows, way.nodeid, &step.to, NodeRole::Secondary)?;
    }
    is_free(rows, &way.temporary)?;
    // After the three updates every name is real, and no other row has one of the two.
    let moved = [step.nodeid, way.nodeid];
    let others: Vec<Row> = (rows.iter())
        .filter(|row| !moved.contains(&row.nodeid))
        .cloned()
        .collect();
    is_free(&others, &step.to)?;
    is_free(&others, &way.then)?;
    if is_temporary(&way.then) || way.then == step.to {
        return Err(Violation::BadSwap {
            address: way.then.clone(),
        });
    }
    Ok(())
}

/// Rule 1b: a read move to a member that does not lead. It has to be a standby of this history,
/// and either writes are held, or the member that the row names is lost.
fn has_everything(
    situation: &Situation<'_>,
    database: &str,
    held: Held,
    step: &Move,
) -> Result<(), Violation> {
    let view = situation.view;
    let lineage_is_new = (situation.trusted_lineage).is_some_and(|known| known != view.lineage);
    let member = (view.members.iter())
        .find(|(_, member)| member.value.address.as_ref() == Some(&step.to))
        .map(|(name, member)| (name, &member.value));
    let standby = (situation.answers.get(&step.to))
        .filter(|probe| probe.state == ProbeState::InRecovery && !is_temporary(&step.to));
    if situation.limits.read_move
        && !lineage_is_new
        && let Some((name, member)) = member
        && let Some(standby) = standby
    {
        // Positions of two histories say nothing of each other. A synchronous standby shares the
        // leader's, whatever timeline its member key, which is older, speaks of.
        let timelines = view.members.values().map(|other| other.value.timeline);
        let is_older = member.timeline.is_some() && timelines.max() > Some(member.timeline);
        let asynchronous = member.role == Role::Replica;
        let of_leader = synchronous_to_leader(situation, name);
        let of_lost = synchronous_to_lost(situation, &step.from, name);
        if (of_leader.is_some() || !is_older)
            && has_what_was_held(situation, held, name, asynchronous, standby)
            || (of_lost.is_some() || !is_older)
                && cluster::has_the_shards(situation, database, &step.to)
                && has_what_was_lost(situation, &step.from, of_lost, asynchronous, standby)
        {
            return Ok(());
        }
    }
    Err(Violation::NotCaughtUp {
        address: step.to.clone(),
    })
}

/// What `/sync` says, if it is about the leader and this member is synchronous to it.
fn synchronous_to_leader<'a>(situation: &Situation<'a>, name: &String) -> Option<&'a SyncState> {
    let view = situation.view;
    let leads = view.leader.as_ref().map(|leader| &leader.value);
    let sync = view.sync.as_ref().map(|sync| &sync.value)?;
    (sync.leader.as_ref() == leads && sync.standbys.contains(name)).then_some(sync)
}

/// The same of the member that is lost: `/sync` outlives the leader that it is about, and that
/// leader's member key.
fn synchronous_to_lost<'a>(
    situation: &Situation<'a>,
    lost: &HostPort,
    name: &String,
) -> Option<&'a SyncState> {
    let view = situation.view;
    let sync = view.sync.as_ref().map(|sync| &sync.value)?;
    let is_about_lost = match view.members.get(sync.leader.as_ref()?) {
        Some(member) => member.value.address.as_ref() == Some(lost),
        None => true,
    };
    (is_about_lost && sync.standbys.contains(name)).then_some(sync)
}

/// No client writes, and the standby has replayed what the leader had flushed when that began.
fn has_what_was_held(
    situation: &Situation<'_>,
    held: Held,
    name: &String,
    asynchronous: bool,
    standby: &Probe,
) -> bool {
    let (view, Held::Yes { round }) = (situation.view, held) else {
        return false;
    };
    let Some(leader) = situation.leader_probe() else {
        return false;
    };
    let is_synchronous = synchronous_to_leader(situation, name).is_some();
    let is_candidate = (view.failover.as_ref())
        .is_some_and(|request| request.value.candidate.as_ref() == Some(name));
    let is_allowed = is_synchronous || is_candidate || asynchronous;
    let flushed = leader.position.written;
    leader.state == ProbeState::Writable
        && leader.round >= round
        && flushed.is_some()
        && standby.position.replayed >= flushed
        && is_allowed
}

/// The member that the row names is gone for us and for the coordinator. The standby has replayed
/// all that any of those has which had to receive everything; or it lacks no more than is allowed.
fn has_what_was_lost(
    situation: &Situation<'_>,
    lost: &HostPort,
    sync: Option<&SyncState>,
    asynchronous: bool,
    standby: &Probe,
) -> bool {
    let view = situation.view;
    let state = situation.answers.get(lost).map(|probe| &probe.state);
    let (Some(ProbeState::Unreachable(_)), Some(Reachability::Unreachable { round })) =
        (state, situation.reachability.get(lost))
    else {
        return false;
    };
    // The watch may lag behind what etcd itself has.
    let leader = view.leader.as_ref().map(|leader| leader.mod_revision);
    let synced = view.sync.as_ref().map(|sync| sync.mod_revision);
    if situation.keys.map(|keys| (keys.leader, keys.sync)) != Some((leader, synced)) {
        return false;
    }
    if standby.round < *round || standby.position.written.is_none() {
        return false;
    }
    let replayed = standby.position.replayed;
    let of = |probe: &Probe| [probe.position.written, probe.position.replayed];
    if let Some(sync) = sync {
        let voters: Vec<&Probe> = sync
            .standbys
            .iter()
            .filter_map(|name| view.members.get(name)?.value.address.as_ref())
            .filter_map(|address| situation.answers.get(address))
            .filter(|probe| probe.state == ProbeState::InRecovery && probe.round >= *round)
            .filter(|probe| probe.position.written.is_some())
            .collect();
        let most = voters.iter().flat_map(|probe| of(probe)).max().flatten();
        // What an exhausted standby has beyond what it replayed is no whole record.
        let has_most = standby.position.exhausted && standby.position.written.max(replayed) >= most;
        if voters.len() > sync.quorum as usize && (replayed >= most || has_most) {
            return true;
        }
    }
    let known = situation.answers.values().flat_map(of);
    let known = known.chain([view.last_position]).max().flatten();
    let lacks = known
        .map_or(0, |known| known.0)
        .saturating_sub(replayed.map_or(0, |r| r.0));
    asynchronous && situation.limits.max_lag.is_some_and(|max| lacks <= max)
}

fn has_the_shards(
    situation: &Situation<'_>,
    database: &str,
    server: &HostPort,
) -> Result<(), Violation> {
    if cluster::has_the_shards(situation, database, server) {
        return Ok(());
    }
    Err(Violation::UnprovenShards {
        address: server.clone(),
    })
}

/// A temporary name is no server's address: there is no server to ask.
fn gives_way(situation: &Situation<'_>, step: &Move) -> Result<(), Violation> {
    if is_temporary(&step.from) || cluster::gives_way(situation, &step.from, &step.to) {
        return Ok(());
    }
    Err(Violation::UnprovenLineage {
        address: step.from.clone(),
    })
}

fn lineage_agrees(situation: &Situation<'_>, from: &HostPort) -> Result<(), Violation> {
    let trusted = match situation.trusted_lineage {
        None => true,
        Some(lineage) => lineage == situation.view.lineage,
    };
    // A temporary name is no server's address: there is no server to ask.
    let refuses = is_temporary(from)
        || matches!(
            situation.answers.get(from).map(|probe| &probe.state),
            Some(ProbeState::InRecovery | ProbeState::Unreachable(_))
        );
    if trusted || refuses {
        Ok(())
    } else {
        Err(Violation::UnprovenLineage {
            address: from.clone(),
        })
    }
}
