//! What several rules ask: of a server whether it leads, of a row whose it is.

use dcs_watch::HostPort;

use super::cluster;
use super::violation::Violation;
use crate::plan::{NodeRole, ProbeState, Row, Situation};
use crate::topology::is_temporary;

/// Rule 1: the leader answered that it takes writes, to a question that was put for its present key.
pub(super) fn is_writable_leader(
    situation: &Situation<'_>,
    to: &HostPort,
) -> Result<(), Violation> {
    let view = situation.view;
    let revision = view.leader.as_ref().map_or(0, |leader| leader.mod_revision);
    let holds_the_key = view
        .leader
        .as_ref()
        .and_then(|leader| view.members.get(&leader.value))
        .and_then(|member| member.value.address.as_ref())
        == Some(to);
    let answered = situation.answers.get(to).is_some_and(|probe| {
        probe.leader_revision == revision && probe.state == ProbeState::Writable
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

/// Rule 1: the server is of the scope's own cluster, as far as it says.
pub(super) fn is_of_the_scope(
    situation: &Situation<'_>,
    server: &HostPort,
) -> Result<(), Violation> {
    if cluster::is_of_the_scope(situation, server) {
        return Ok(());
    }
    Err(Violation::ForeignServer {
        address: server.clone(),
    })
}

/// Rule 6: the row is the group's, with this role, at this address.
pub(super) fn is_row(
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

/// Rule 6: whoever's row it is, it is at this address.
pub(super) fn is_at(rows: &[Row], nodeid: i32, at: &HostPort) -> Result<(), Violation> {
    let found = (rows.iter()).any(|row| row.nodeid == nodeid && row.address == *at);
    found.then_some(()).ok_or(Violation::UnknownNode { nodeid })
}

/// Rule 6: no row has the address.
pub(super) fn is_free(rows: &[Row], address: &HostPort) -> Result<(), Violation> {
    if rows.iter().any(|row| row.address == *address) {
        return Err(Violation::BadSwap {
            address: address.clone(),
        });
    }
    Ok(())
}
