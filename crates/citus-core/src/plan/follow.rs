//! Rows 5 and 6 of the table in one database: the leader takes writes, so the primary row must be
//! its own. And the update that points a primary row elsewhere, for a move and for a read move.

use std::collections::BTreeSet;

use dcs_watch::{HostPort, Role};

use super::addresses::{is_ours, may_leave};
use super::exchange::exchange;
use super::{
    COORDINATOR_GROUP, Identity, MakeWay, Move, NodeRole, ProbeState, Register, Repair, Resync,
    Row, Situation, Step, Wait,
};

/// The step that makes the primary row the leader's.
pub(super) fn follow(
    situation: &Situation<'_>,
    database: &str,
    leader: &HostPort,
    rows: &[Row],
) -> Step {
    let primary = match primary_row(situation, rows) {
        Ok(Some(primary)) => primary,
        Ok(None) => return without_primary(situation, leader, rows),
        Err(wait) => return Step::Wait(wait),
    };
    let identity = situation
        .leader_probe()
        .map_or_else(Identity::default, |probe| probe.identity);
    let fixed = situation.addresses.fixed;
    if (primary.address == *leader || fixed)
        && situation.became_another_cluster(identity)
        && let Err(unproven) = situation.has_the_shards(database, leader, identity)
    {
        return Step::Wait(Wait::Unproven(unproven));
    }
    if fixed {
        return follows_by_itself(primary);
    }
    if primary.address == *leader {
        let step = left_behind(situation, rows);
        return match step {
            Step::InSync if situation.progress_of(database).owes_resync => Step::Resync(Resync {
                nodeid: primary.nodeid,
                address: leader.clone(),
            }),
            step => step,
        };
    }
    let leaves = lineage_agrees(situation, primary)
        .and_then(|()| is_ours(situation, database, primary))
        .and_then(|()| may_leave(situation, database, primary, leader));
    if let Err(wait) = leaves {
        return Step::Wait(wait);
    }
    let owner = rows.iter().find(|row| row.address == *leader);
    if let Some(other) = owner.filter(|row| row.is_primary() && row.groupid != situation.group) {
        return exchange(situation, database, rows, primary, leader, other);
    }
    // Whose row has the address says more than what answers there.
    let step = point_at(situation, rows, primary, leader).and_then(|step| {
        situation.may_follow(database)?;
        Ok(step)
    });
    match step {
        Ok(step) => Step::Move(step),
        Err(wait) => Step::Wait(wait),
    }
}

/// 4 of the rules: older news never overwrites newer.
fn lineage_agrees(situation: &Situation<'_>, primary: &Row) -> Result<(), Wait> {
    if situation.lineage_is_trusted() || primary.is_temporary() {
        return Ok(());
    }
    match situation.state_of(&primary.address) {
        ProbeState::InRecovery | ProbeState::Unreachable(_) => Ok(()),
        answer => Err(Wait::LineageUnproven {
            address: primary.address.clone(),
            writable: *answer == ProbeState::Writable,
        }),
    }
}

/// A row that is never rewritten is right, unless a swap that was cut off left it without an address:
/// which one it had is not known here.
fn follows_by_itself(primary: &Row) -> Step {
    if primary.is_temporary() {
        return Step::Wait(Wait::NoSpare {
            nodeid: primary.nodeid,
            address: primary.address.clone(),
        });
    }
    Step::InSync
}

/// The group's primary row, if it has one and no more.
pub(super) fn primary_row<'a>(
    situation: &Situation<'_>,
    rows: &'a [Row],
) -> Result<Option<&'a Row>, Wait> {
    let mut primaries = rows
        .iter()
        .filter(|row| row.groupid == situation.group && row.is_primary());
    let first = primaries.next();
    match (first, primaries.next()) {
        (Some(first), Some(second)) => {
            let all = [first, second].into_iter().chain(primaries);
            Err(Wait::TwoPrimaries {
                nodeids: all.map(|row| row.nodeid).collect(),
            })
        }
        (first, _) => Ok(first),
    }
}

/// The group's primary row, or why there is none to work with.
pub(super) fn the_primary_row<'a>(
    situation: &Situation<'_>,
    rows: &'a [Row],
) -> Result<&'a Row, Wait> {
    primary_row(situation, rows)?.ok_or(Wait::NoRow {
        group: situation.group,
    })
}

/// The updates that point the primary row at `to`; a secondary row of the group, or a clone's row,
/// that has this address makes way.
pub(super) fn point_at(
    situation: &Situation<'_>,
    rows: &[Row],
    primary: &Row,
    to: &HostPort,
) -> Result<Move, Wait> {
    let make_way = match rows.iter().find(|row| row.address == *to) {
        None => None,
        Some(other) if other.makes_way_for(situation.group) => {
            // A primary that bears a temporary name has no address to hand on.
            let then = if primary.is_temporary() {
                spare_replica(situation, to, rows)
            } else {
                Some(primary.address.clone())
            };
            let then = then.ok_or_else(|| Wait::NoSpare {
                nodeid: primary.nodeid,
                address: primary.address.clone(),
            })?;
            Some(MakeWay {
                nodeid: other.nodeid,
                temporary: other.temporary_address(),
                then,
            })
        }
        Some(other) => return Err(taken(other)),
    };
    Ok(Move {
        nodeid: primary.nodeid,
        from: primary.address.clone(),
        to: to.clone(),
        make_way,
    })
}

/// A group that Citus does not know of. The coordinator's own row is optional: many formations
/// never called `citus_set_coordinator_host`, and nothing is wrong with them.
fn without_primary(situation: &Situation<'_>, leader: &HostPort, rows: &[Row]) -> Step {
    // A name that follows by itself is not the leader's address, and not known here.
    if !situation.register || situation.addresses.fixed {
        return if situation.group == COORDINATOR_GROUP {
            Step::InSync
        } else {
            Step::Wait(Wait::NoRow {
                group: situation.group,
            })
        };
    }
    match rows.iter().find(|row| row.address == *leader) {
        Some(other) => Step::Wait(taken(other)),
        None => Step::Register(Register {
            group: situation.group,
            address: leader.clone(),
        }),
    }
}

fn taken(other: &Row) -> Wait {
    Wait::AddressTaken {
        address: other.address.clone(),
        nodeid: other.nodeid,
        group: other.groupid,
    }
}

/// The primary row is right. A swap that was cut off may have left a secondary row with a temporary
/// name (rule 6): only the name is fixed, because which replicas have rows is not decided here.
fn left_behind(situation: &Situation<'_>, rows: &[Row]) -> Step {
    let temporary = rows.iter().find(|row| {
        row.groupid == situation.group && row.role == NodeRole::Secondary && row.is_temporary()
    });
    let Some(temporary) = temporary else {
        return Step::InSync;
    };
    let leader = situation.view.leader_address();
    match leader.and_then(|leader| spare_replica(situation, leader, rows)) {
        Some(to) => Step::Repair(Repair {
            nodeid: temporary.nodeid,
            from: temporary.address.clone(),
            to,
        }),
        None => Step::Wait(Wait::NoSpare {
            nodeid: temporary.nodeid,
            address: temporary.address.clone(),
        }),
    }
}

/// A running replica of the scope that no row names.
fn spare_replica(situation: &Situation<'_>, leader: &HostPort, rows: &[Row]) -> Option<HostPort> {
    let named: BTreeSet<&HostPort> = rows.iter().map(|row| &row.address).collect();
    situation
        .view
        .members
        .values()
        .map(|member| &member.value)
        .filter(|member| member.role == Role::Replica && member.state == "running")
        .filter_map(|member| member.address.clone())
        .find(|address| address != leader && !named.contains(address))
}
