//! What may be done at an entry node: when it may be held, and when its row may follow the
//! coordinator's.

use dcs_watch::HostPort;

use super::violation::Violation;
use crate::entry_node::{EntryNodeAction, EntryNodeFacts, EntryNodeOrder};
use crate::plan::{Move, ProbeState, Rows, Situation, Writes};

/// Whether an order for an entry node keeps the rules.
///
/// # Errors
///
/// The violation.
pub fn check_at_entry_node(
    situation: &Situation<'_>,
    database: &str,
    order: &EntryNodeOrder,
    facts: &EntryNodeFacts,
) -> Result<(), Violation> {
    if situation.writes != Writes::Allowed {
        return Err(Violation::OnlyObserved);
    }
    match &order.action {
        EntryNodeAction::Hold { left, .. } => {
            let expired = (situation.active_hold).is_some_and(|hold| hold.expired);
            if expired || left.is_zero() || situation.stopping {
                return Err(Violation::NoHoldNow);
            }
            Ok(())
        }
        // A question.
        EntryNodeAction::CatchUp(_) => Ok(()),
        EntryNodeAction::Follow(step) => {
            is_behind_coordinator(situation, database, step)?;
            let is_held = facts.held_in.is_some() && facts.shown_by.as_ref() == Some(&step.to);
            nothing_is_lost(situation, &order.node, is_held, step)
        }
    }
}

/// Whether an entry node may follow a read move in the moment that the coordinator's row is moved.
/// `round` is that of the open hold.
///
/// # Errors
///
/// The violation.
pub fn may_follow_at_once(
    situation: &Situation<'_>,
    node: &HostPort,
    facts: &EntryNodeFacts,
    round: u64,
    step: &Move,
) -> Result<(), Violation> {
    // Positions that are good enough for this hold were asked for in its round or later: writes that
    // waited before then are in them.
    let is_held = facts.held_in.is_some_and(|held_in| held_in < round);
    nothing_is_lost(situation, node, is_held || facts.followed, step)
}

/// Rule 8: a write that was acknowledged at an entry node is seen by every later read there.
fn nothing_is_lost(
    situation: &Situation<'_>,
    node: &HostPort,
    is_held: bool,
    step: &Move,
) -> Result<(), Violation> {
    let leader_is_gone = *situation.leader_answer() != ProbeState::Writable;
    let to_leader = situation.view.leader_address() == Some(&step.to);
    if is_held || leader_is_gone || to_leader {
        Ok(())
    } else {
        Err(Violation::UnheldEntryNode {
            node: node.clone(),
            standby: step.to.clone(),
        })
    }
}

/// Rule 9: the coordinator decides, the others follow.
fn is_behind_coordinator(
    situation: &Situation<'_>,
    database: &str,
    step: &Move,
) -> Result<(), Violation> {
    let Some(Rows::Known(rows)) = situation.rows.get(database) else {
        return Ok(());
    };
    let mut own = rows.iter().filter(|row| row.nodeid == step.nodeid);
    if own.all(|row| row.address == step.to) {
        Ok(())
    } else {
        Err(Violation::AheadOfCoordinator {
            address: step.to.clone(),
        })
    }
}
