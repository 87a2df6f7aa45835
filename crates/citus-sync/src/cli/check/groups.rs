//! The rows of each group against its leader, as `run` would decide on them.

use std::collections::BTreeSet;

use dcs_watch::ScopeView;

use super::per_database::PerDatabase;
use crate::cli::look::Look;
use crate::cli::snapshot::Groups;
use citus_core::config::Formation;
use citus_core::plan::{COORDINATOR_GROUP, Row, Rows, Step, Wait};
use citus_core::render::Finding;

pub(super) fn judge(look: &Look<'_>, groups: &Groups) -> Vec<Finding> {
    let (formation, rows) = (look.formation, look.rows);
    let mut found = Vec::new();
    for (group, view) in &groups.views {
        let decision = look.decide(*group, view);
        let mut per_database = PerDatabase::of(formation);
        for (database, step) in &decision.steps {
            if let Rows::Known(known) = &rows[database]
                && let Some(finding) = row(formation, *group, view, step, known)
            {
                per_database.add(database, finding);
            }
        }
        found.extend(per_database.finish());
    }
    let configured = groups.configured();
    let mut per_database = PerDatabase::of(formation);
    for (database, rows) in rows {
        let Rows::Known(rows) = rows else { continue };
        for finding in unfollowed(&configured, rows)
            .into_iter()
            .chain(unsynced(rows))
        {
            per_database.add(database, finding);
        }
    }
    found.extend(per_database.finish());
    found
}

fn row(
    formation: &Formation,
    group: i32,
    view: &ScopeView,
    step: &Step,
    rows: &[Row],
) -> Option<Finding> {
    let what = format!("row of group {group} ({})", view.scope);
    let primary = rows
        .iter()
        .find(|row| row.groupid == group && row.is_primary());
    Some(match step {
        Step::InSync => in_sync(what, primary),
        Step::Move(step) => Finding::warn(
            what,
            format!(
                "node {} is at {}, but its leader is at {}",
                step.nodeid, step.from, step.to
            ),
            format!("`run` will {}", Step::Move(step.clone())),
        ),
        Step::Repair(step) => Finding::warn(
            what,
            format!("node {} bears a temporary name, {}", step.nodeid, step.from),
            format!("`run` will {}", Step::Repair(step.clone())),
        ),
        Step::Register(_) => Finding::warn(
            what,
            "pg_dist_node has no row for this group",
            format!("`run` will {step}, because `register` is true"),
        ),
        // What needs more than one look is never decided here; if it is, its words will do.
        Step::Hold(_) | Step::ReadMove(_) | Step::Exchange(_) | Step::LetGo | Step::Resync(_) => {
            Finding::pass(what, step.to_string())
        }
        Step::Wait(wait) => {
            let optional = group == COORDINATOR_GROUP || formation.register;
            return waiting(what, group, view, wait, rows, optional || primary.is_some());
        }
    })
}

fn in_sync(what: String, primary: Option<&Row>) -> Finding {
    match primary {
        Some(row) => Finding::pass(
            what,
            format!(
                "node {} is at {}, as its leader is",
                row.nodeid, row.address
            ),
        ),
        None => Finding::pass(
            what,
            "none: the coordinator's own row is optional (citus_set_coordinator_host)",
        ),
    }
}

/// A row that `run` would not change now. Without a leader there is nothing to compare it with, and
/// `scopes` and `server` say so; that a row is missing is a finding even then, unless it `may_lack`.
fn waiting(
    what: String,
    group: i32,
    view: &ScopeView,
    wait: &Wait,
    rows: &[Row],
    may_lack: bool,
) -> Option<Finding> {
    match wait {
        Wait::Observed { .. } => Some(Finding::warn(
            what,
            wait.to_string(),
            "Patroni, or whatever else manages the rows, moves it",
        )),
        Wait::NoRow { .. } => Some(no_row(what, group, view, rows)),
        // `server` says which way is closed.
        Wait::NotReached { .. } => Some(Finding::warn(
            what,
            wait.to_string(),
            "open the way from the coordinator to that address, or map it under `addresses`",
        )),
        Wait::TwoPrimaries { .. }
        | Wait::NotOurs { .. }
        | Wait::AddressTaken { .. }
        | Wait::NoSpare { .. }
        | Wait::LineageUnproven { .. }
        | Wait::ForeignServer { .. }
        | Wait::OlderLeader { .. }
        | Wait::Unproven(_) => Some(Finding::fail(what, wait.to_string(), "")),
        _ => (!may_lack).then(|| no_row(what, group, view, rows)),
    }
}

fn no_row(what: String, group: i32, view: &ScopeView, rows: &[Row]) -> Finding {
    let detail = format!("pg_dist_node has no primary row for group {group}");
    let Some(address) = view.leader_address() else {
        let fix = "add it with citus_add_node when it has a leader, or set `register: true`";
        return Finding::fail(what, detail, fix);
    };
    if let Some(other) = rows.iter().find(|row| row.address == *address) {
        let (other, nodeid) = (other.groupid, other.nodeid);
        return Finding::fail(
            what,
            format!(
                "{detail}; its leader's address {address} is that of node {nodeid}, group {other}"
            ),
            "correct the group of this scope under `workers`, or the rows",
        );
    }
    let (host, port) = (&address.host, address.port);
    let fix = format!("SELECT citus_add_node('{host}', {port}, {group}), or set `register: true`");
    Finding::fail(what, detail, fix)
}

/// Rows of groups that the configuration does not name.
fn unfollowed(configured: &BTreeSet<i32>, rows: &[Row]) -> Vec<Finding> {
    rows.iter()
        .filter(|row| row.is_primary() && !configured.contains(&row.groupid))
        .filter(|row| row.groupid != COORDINATOR_GROUP)
        .map(|row| {
            let Row {
                nodeid,
                groupid,
                address,
                ..
            } = row;
            Finding::warn(
                format!("row of group {groupid}"),
                format!(
                    "node {nodeid} at {address} belongs to a group that the configuration does not \
                     name: after a failover it stays where it is"
                ),
                format!("add {{ group: {groupid}, scope: … }} to `workers`, if Patroni runs there"),
            )
        })
        .collect()
}

/// Rows that Citus itself has yet to act on.
fn unsynced(rows: &[Row]) -> Vec<Finding> {
    rows.iter()
        .filter_map(|row| {
            let Row {
                nodeid,
                groupid,
                address,
                ..
            } = row;
            let what = format!("row of group {groupid}");
            if !row.active {
                return Some(Finding::warn(
                    what,
                    format!("node {nodeid} at {address} is disabled (isactive = false)"),
                    format!(
                        "SELECT citus_activate_node('{}', {})",
                        address.host, address.port
                    ),
                ));
            }
            if row.is_primary() && row.has_metadata && !row.metadata_synced {
                return Some(Finding::warn(
                    what,
                    format!("node {nodeid} at {address} does not have the current metadata yet"),
                    format!(
                        "Citus's maintenance daemon does it within a minute; if it does not, see \
                         the coordinator's log, or SELECT start_metadata_sync_to_node('{}', {})",
                        address.host, address.port
                    ),
                ));
            }
            None
        })
        .collect()
}
