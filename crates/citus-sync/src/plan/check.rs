//! The rules that never break, checked from the decision alone. It must not share a thought with
//! the table: it is asked before every execution, and over every decision in the tests.

use std::collections::BTreeSet;

use dcs_watch::{Freshness, HostPort};
use thiserror::Error;

use super::row::is_temporary;
use super::{Decision, NodeRole, ProbeState, Row, Rows, Situation, Step, Writes};

/// A decision that must not be carried out. Each variant names the rule of `docs/design.md`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// Rule 1.
    #[error(
        "rule 1: {address} is not the leader that answered writable for leader key revision {revision}"
    )]
    NotTheWritableLeader {
        /// Where the decision points.
        address: HostPort,
        /// The leader key's `mod_revision`, 0 when there is none.
        revision: i64,
    },
    /// Rule 4.
    #[error("rule 4: etcd went back in time and {address} was not found to refuse writes")]
    UnprovenLineage {
        /// Where the row points.
        address: HostPort,
    },
    /// Rule 5.
    #[error("rule 5: the view is not fresh")]
    NotFresh,
    /// Rule 6.
    #[error("rule 6: node {nodeid} is not the group's primary row at {from}")]
    NotThePrimaryRow {
        /// The decision's `nodeid`.
        nodeid: i32,
        /// Where the decision believes it to be.
        from: HostPort,
    },
    /// Rule 6.
    #[error("rule 6: {address} would be left behind as a temporary name, or given to two rows")]
    BadSwap {
        /// The address.
        address: HostPort,
    },
    /// Rule 8.
    #[error("rule 8: nothing is known of database {database}, or it is not a configured one")]
    UnknownDatabase {
        /// The database.
        database: String,
    },
    /// Rule 11.
    #[error("rule 11: this formation is only observed")]
    OnlyObserved,
}

/// Whether a decision keeps the rules.
///
/// # Errors
///
/// The first violation found, in the order of the databases' names.
pub fn check(situation: &Situation<'_>, decision: &Decision) -> Result<(), Violation> {
    for (database, step) in &decision.steps {
        if !step.writes() {
            continue;
        }
        if situation.writes != Writes::Allowed {
            return Err(Violation::OnlyObserved);
        }
        if situation.view.freshness != Freshness::Fresh {
            return Err(Violation::NotFresh);
        }
        let Some(Rows::Known(rows)) = situation.rows.get(database) else {
            return Err(Violation::UnknownDatabase {
                database: database.clone(),
            });
        };
        check_step(situation, rows, step)?;
    }
    Ok(())
}

fn check_step(situation: &Situation<'_>, rows: &[Row], step: &Step) -> Result<(), Violation> {
    match step {
        Step::Settled | Step::Wait(_) => Ok(()),
        Step::Register(step) => {
            is_writable_leader(situation, &step.address)?;
            is_free(rows, &step.address)?;
            let group = rows
                .iter()
                .find(|row| row.groupid == step.group && row.is_primary());
            match group {
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
        Step::Repair(step) => {
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
        Step::Move(step) => {
            is_writable_leader(situation, &step.to)?;
            is_row(situation, rows, step.nodeid, &step.from, NodeRole::Primary)?;
            lineage_agrees(situation, &step.from)?;
            let Some(way) = &step.make_way else {
                return is_free(rows, &step.to);
            };
            is_row(situation, rows, way.nodeid, &step.to, NodeRole::Secondary)?;
            is_free(rows, &way.temporary)?;
            // After the three updates every name is real, and no two rows share one.
            let mut after = BTreeSet::new();
            let moved = [step.nodeid, way.nodeid];
            let others = rows.iter().filter(|row| !moved.contains(&row.nodeid));
            let addresses = others.map(|row| &row.address).chain([&step.to, &way.then]);
            for address in addresses {
                if !after.insert(address) {
                    return Err(Violation::BadSwap {
                        address: address.clone(),
                    });
                }
            }
            if is_temporary(&way.then) {
                return Err(Violation::BadSwap {
                    address: way.then.clone(),
                });
            }
            Ok(())
        }
    }
}

fn is_writable_leader(situation: &Situation<'_>, to: &HostPort) -> Result<(), Violation> {
    let view = situation.view;
    let revision = view.leader.as_ref().map_or(0, |leader| leader.mod_revision);
    let holds_the_key = view
        .leader
        .as_ref()
        .and_then(|leader| view.members.get(&leader.value))
        .and_then(|member| member.value.address.as_ref())
        == Some(to);
    let answered = situation.probe.is_some_and(|probe| {
        probe.address == *to
            && probe.leader_revision == revision
            && probe.state == ProbeState::Writable
    });
    if holds_the_key && answered && !is_temporary(to) {
        Ok(())
    } else {
        Err(Violation::NotTheWritableLeader {
            address: to.clone(),
            revision,
        })
    }
}

fn lineage_agrees(situation: &Situation<'_>, from: &HostPort) -> Result<(), Violation> {
    let trusted = match situation.trusted_lineage {
        None => true,
        Some(lineage) => lineage == situation.view.lineage,
    };
    // A temporary name is nobody's address: there is no one to ask.
    let refuses = is_temporary(from)
        || matches!(
            situation.row_probes.get(from),
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

fn is_row(
    situation: &Situation<'_>,
    rows: &[Row],
    nodeid: i32,
    at: &HostPort,
    role: NodeRole,
) -> Result<(), Violation> {
    let found = rows.iter().any(|row| {
        row.nodeid == nodeid
            && row.groupid == situation.group
            && row.role == role
            && row.address == *at
    });
    if found {
        Ok(())
    } else {
        Err(Violation::NotThePrimaryRow {
            nodeid,
            from: at.clone(),
        })
    }
}

fn is_free(rows: &[Row], address: &HostPort) -> Result<(), Violation> {
    if rows.iter().any(|row| row.address == *address) {
        return Err(Violation::BadSwap {
            address: address.clone(),
        });
    }
    Ok(())
}
