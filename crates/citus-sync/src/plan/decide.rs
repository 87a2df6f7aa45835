//! The decision table. First match wins; each arm says which row of `docs/design.md` it is.

use std::collections::{BTreeMap, BTreeSet};

use dcs_watch::{Freshness, HostPort, Role};

use super::{
    Ask, COORDINATOR_GROUP, Decision, MakeWay, Move, NodeRole, ProbeState, Register, Repair, Row,
    Rows, Rule, Situation, Step, Wait, Writes,
};

/// Decides completely what to do for one group.
pub fn decide(situation: &Situation<'_>) -> Decision {
    let view = situation.view;

    // 1: etcd gone is not leader gone.
    match &view.freshness {
        Freshness::Fresh => {}
        Freshness::Unknown => return all_wait(situation, Rule::Stale, &Wait::ViewUnknown, vec![]),
        Freshness::Stale { reason } => {
            let wait = Wait::ViewStale {
                why: reason.clone(),
            };
            return all_wait(situation, Rule::Stale, &wait, vec![]);
        }
    }

    // 8: the leader key is gone. The old primary may well run on (patroni#2070): change nothing.
    let Some(leader) = &view.leader else {
        let wait = if view.exists() {
            Wait::LeaderGone
        } else {
            Wait::NoScope {
                scope: view.scope.to_string(),
            }
        };
        return all_wait(situation, Rule::LeaderGone, &wait, vec![]);
    };
    let Some(address) = view.leader_address() else {
        let wait = Wait::NoAddress {
            member: leader.value.clone(),
        };
        return all_wait(situation, Rule::Unproven, &wait, vec![]);
    };

    let ask = |eager| {
        vec![Ask {
            address: address.clone(),
            eager,
        }]
    };
    match situation.leader_answer() {
        ProbeState::Unknown => {
            let wait = Wait::NotProbed {
                address: address.clone(),
            };
            all_wait(situation, Rule::Unproven, &wait, ask(true))
        }
        // 6: promotion can take minutes (patroni#2972).
        ProbeState::InRecovery => {
            let wait = Wait::Promoting {
                address: address.clone(),
            };
            all_wait(situation, Rule::Promoting, &wait, ask(true))
        }
        // 7: the leader may be restarted in place, or replaced: its key will tell.
        ProbeState::Unreachable(error) => {
            let wait = Wait::Unreachable {
                address: address.clone(),
                error: error.clone(),
            };
            all_wait(situation, Rule::Unreachable, &wait, ask(true))
        }
        // 4 and 5.
        ProbeState::Writable => follow(situation, address, ask(false)),
    }
}

/// The same reason in every database.
fn all_wait(situation: &Situation<'_>, rule: Rule, wait: &Wait, ask: Vec<Ask>) -> Decision {
    let steps = situation
        .rows
        .keys()
        .map(|name| (name.clone(), Step::Wait(wait.clone())))
        .collect();
    Decision { rule, steps, ask }
}

/// The leader takes writes: every database's row must be its own.
fn follow(situation: &Situation<'_>, leader: &HostPort, mut ask: Vec<Ask>) -> Decision {
    let mut steps = BTreeMap::new();
    for (database, rows) in situation.rows {
        let step = match rows {
            Rows::Unknown(why) => Step::Wait(Wait::RowsUnknown { why: why.clone() }),
            Rows::Known(rows) => permitted(situation.writes, in_database(situation, leader, rows)),
        };
        if let Step::Wait(Wait::LineageUnproven { address, .. }) = &step {
            ask.push(Ask {
                address: address.clone(),
                eager: false,
            });
        }
        steps.insert(database.clone(), step);
    }
    let rule = if steps.values().any(Step::writes) {
        Rule::Move
    } else if steps.values().all(|step| *step == Step::Settled) {
        Rule::Settled
    } else {
        Rule::Blocked
    };
    Decision { rule, steps, ask }
}

/// 11: what is not ours to write is only named.
fn permitted(writes: Writes, step: Step) -> Step {
    if writes == Writes::Allowed || !step.writes() {
        return step;
    }
    Step::Wait(Wait::Observed {
        step: step.to_string(),
        because: writes,
    })
}

fn in_database(situation: &Situation<'_>, leader: &HostPort, rows: &[Row]) -> Step {
    let mut primaries = rows
        .iter()
        .filter(|row| row.groupid == situation.group && row.is_primary());
    let Some(primary) = primaries.next() else {
        return without_primary(situation, leader, rows);
    };
    if let Some(second) = primaries.next() {
        let nodeids = [primary, second]
            .into_iter()
            .chain(primaries)
            .map(|row| row.nodeid);
        return Step::Wait(Wait::TwoPrimaries {
            nodeids: nodeids.collect(),
        });
    }
    if primary.address == *leader {
        return left_behind(situation, rows);
    }
    // 4 of the rules: older news never overwrites newer.
    if !situation.lineage_is_trusted() && !primary.is_temporary() {
        match situation.row_probes.get(&primary.address) {
            Some(ProbeState::InRecovery | ProbeState::Unreachable(_)) => {}
            answer => {
                return Step::Wait(Wait::LineageUnproven {
                    address: primary.address.clone(),
                    writable: answer == Some(&ProbeState::Writable),
                });
            }
        }
    }
    let make_way = match rows.iter().find(|row| row.address == *leader) {
        None => None,
        Some(other) if other.groupid == situation.group && other.role == NodeRole::Secondary => {
            // A primary that bears a temporary name has no address to hand on.
            let spare = spare_replica(situation, leader, rows);
            let then = if primary.is_temporary() {
                spare
            } else {
                Some(primary.address.clone())
            };
            let Some(then) = then else {
                let address = primary.address.clone();
                return Step::Wait(Wait::NoSpare {
                    nodeid: primary.nodeid,
                    address,
                });
            };
            Some(MakeWay {
                nodeid: other.nodeid,
                temporary: other.temporary_address(),
                then,
            })
        }
        Some(other) => return taken(other),
    };
    Step::Move(Move {
        nodeid: primary.nodeid,
        from: primary.address.clone(),
        to: leader.clone(),
        make_way,
    })
}

/// A group that Citus does not know of. The coordinator's own row is optional: many formations
/// never called `citus_set_coordinator_host`, and nothing is wrong with them.
fn without_primary(situation: &Situation<'_>, leader: &HostPort, rows: &[Row]) -> Step {
    if !situation.register {
        return if situation.group == COORDINATOR_GROUP {
            Step::Settled
        } else {
            Step::Wait(Wait::NoRow {
                group: situation.group,
            })
        };
    }
    match rows.iter().find(|row| row.address == *leader) {
        Some(other) => taken(other),
        None => Step::Register(Register {
            group: situation.group,
            address: leader.clone(),
        }),
    }
}

fn taken(other: &Row) -> Step {
    Step::Wait(Wait::AddressTaken {
        address: other.address.clone(),
        nodeid: other.nodeid,
        group: other.groupid,
    })
}

/// The primary row is right; a swap that was cut off may have left a secondary row without a
/// real name (rule 6). Only its name is mended: which replicas have rows is not decided here.
fn left_behind(situation: &Situation<'_>, rows: &[Row]) -> Step {
    let wreck = rows.iter().find(|row| {
        row.groupid == situation.group && row.role == NodeRole::Secondary && row.is_temporary()
    });
    let Some(wreck) = wreck else {
        return Step::Settled;
    };
    let leader = situation.view.leader_address();
    match leader.and_then(|leader| spare_replica(situation, leader, rows)) {
        Some(to) => Step::Repair(Repair {
            nodeid: wreck.nodeid,
            from: wreck.address.clone(),
            to,
        }),
        None => Step::Wait(Wait::NoSpare {
            nodeid: wreck.nodeid,
            address: wreck.address.clone(),
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
