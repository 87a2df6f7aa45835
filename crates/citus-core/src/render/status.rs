//! What the daemon says of itself, for a person.

use std::fmt::Write as _;

use dcs_watch::HostPort;
use time::OffsetDateTime;

use super::table::{name, one_line};
use super::times::{deadline, milliseconds, moment};
use super::{Table, counted, history};
use crate::plan::{Wait, Writes};
use crate::report::{
    DatabaseReport, EtcdReport, FormationReport, GroupDatabaseReport, GroupReport, HoldReport,
    MoveReport, ReachReport, ReloadReport, RetryReport, State, Transition,
};

/// The page that `status` prints. `transitions` are the last few that are over, oldest first.
pub fn status(state: &State, transitions: &[Transition], now: OffsetDateTime) -> String {
    let mut text = String::new();
    let readiness = if state.ready { "ready" } else { "NOT READY" };
    let since = moment(&state.started_at, now);
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        text,
        "citus-sync {}, {readiness}, running since {since}",
        state.version
    );
    for reason in &state.not_ready {
        let _ = writeln!(text, "  not ready: {}", one_line(reason));
    }
    if let Some(report) = &state.reload {
        reload(&mut text, report, now);
    }
    etcd(&mut text, &state.etcd);
    for report in &state.formations {
        formation(&mut text, report, now);
    }
    if !transitions.is_empty() {
        text.push_str("\nlast transitions (`citus-sync history` shows more):\n");
        for transition in transitions {
            let line = history::brief(transition, state.formations.len() > 1, now);
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// Only what a reload has left open: the rest is as the file says.
fn reload(text: &mut String, reload: &ReloadReport, now: OffsetDateTime) {
    let at = moment(&reload.at, now);
    if let Some(why) = &reload.refused {
        let why = one_line(why);
        let _ = writeln!(
            text,
            "  reload {at}: the file cannot be used, nothing was changed: {why}"
        );
    }
    if !reload.needs_restart.is_empty() {
        let keys = one_line(&reload.needs_restart.join(", "));
        let _ = writeln!(text, "  reload {at}: needs a restart: {keys}");
    }
}

fn etcd(text: &mut String, etcd: &EtcdReport) {
    let endpoint = if etcd.endpoint.is_empty() {
        "(no endpoint tried yet)"
    } else {
        &etcd.endpoint
    };
    let age = match etcd.view_age_ms {
        Some(age) => format!("view {} old", milliseconds(age)),
        None => "never read".to_owned(),
    };
    let freshness = one_line(&etcd.freshness);
    let _ = writeln!(
        text,
        "etcd {endpoint}: {freshness}, {age}, listed at revision {}",
        etcd.revision
    );
    if let Some(error) = &etcd.last_error {
        let _ = writeln!(text, "  last error: {}", one_line(error));
    }
    if !etcd.fresh && etcd.view_age_ms.is_some() {
        text.push_str("  nothing in pg_dist_node changes until etcd answers again\n");
    }
}

fn formation(text: &mut String, report: &FormationReport, now: OffsetDateTime) {
    let in_sync = report.groups.iter().filter(|group| group.in_sync).count();
    let groups = match report.groups.len() {
        0 => "no group known yet".to_owned(),
        all => format!("{in_sync} of {} in sync", counted(all, "group", "groups")),
    };
    let _ = write!(text, "\nformation {}", name(&report.name));
    if report.name != report.coordinator {
        let _ = write!(text, " (coordinator scope {})", name(&report.coordinator));
    }
    let _ = writeln!(text, ": {groups}");
    match report.writes {
        Writes::Allowed => {}
        Writes::PatroniManages => text.push_str(
            "  only observed: Patroni's own Citus integration changes pg_dist_node here\n",
        ),
        Writes::ObserveOnly => {
            text.push_str("  only observed: `policy.write` is `never`\n");
        }
    }
    for reason in &report.unresolved {
        let _ = writeln!(text, "  {}", one_line(reason));
    }
    text.push('\n');
    text.push_str(&databases(&report.databases).render());
    if !report.groups.is_empty() {
        text.push('\n');
        text.push_str(&groups_table(&report.groups).render());
    }
    let mut notes = String::new();
    for group in &report.groups {
        group_notes(&mut notes, group, now);
    }
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
}

fn databases(reports: &[DatabaseReport]) -> Table {
    let mut table = Table::new(&["DATABASE", "CITUS", "COORDINATOR", "ROWS", "STATE"]).indented(2);
    for database in reports {
        let state = match (&database.error, database.unsynced.as_slice()) {
            (Some(error), _) => format!("DOWN: {error}"),
            (None, []) if database.rows.is_some() => "ok".to_owned(),
            (None, []) => "not read yet".to_owned(),
            (None, nodes) => {
                let word = if nodes.len() == 1 { "node" } else { "nodes" };
                let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                format!(
                    "ok; Citus has not told its metadata to {word} {} yet",
                    nodes.join(", ")
                )
            }
        };
        table.row([
            database.name.clone(),
            database
                .citus
                .as_deref()
                .unwrap_or_default()
                .trim_start_matches("Citus ")
                .to_owned(),
            address(database.server.as_ref()),
            database
                .rows
                .map(|rows| rows.to_string())
                .unwrap_or_default(),
            state,
        ]);
    }
    table
}

fn groups_table(groups: &[GroupReport]) -> Table {
    let header = [
        "GROUP", "SCOPE", "LEADER", "ADDRESS", "MEMBERS", "RULE", "DATABASE", "ROW", "STEP",
    ];
    let mut table = Table::new(&header).indented(2);
    for group in groups {
        let paused = if group.paused { " (paused)" } else { "" };
        let rule = format!("{}{paused}", group.rule.name());
        let mut line = |database: &str, row: Option<&HostPort>, step: String| {
            table.row([
                group.group.to_string(),
                group.scope.clone(),
                group.leader.clone().unwrap_or_default(),
                address(group.address.as_ref()),
                group.members.to_string(),
                rule.clone(),
                database.to_owned(),
                address(row),
                step,
            ]);
        };
        if group.databases.is_empty() {
            line("", None, String::new());
        }
        for (name, database) in &group.databases {
            line(name, database.row.as_ref(), step(database));
        }
    }
    table
}

/// What is done, and if it is not the first try, that it is not. A reason that the page has told
/// above, once for all groups, is only named here.
fn step(database: &GroupDatabaseReport) -> String {
    let step = match &database.wait {
        Some(Wait::ViewUnknown | Wait::ViewStale { .. }) => "wait: for etcd, see above",
        Some(Wait::RowsUnknown { .. }) => "wait: for the database, see above",
        Some(Wait::Observed { step, .. }) => return format!("only observed; would {step}"),
        _ => &database.step,
    };
    let retry = match &database.retry {
        Some(retry) => format!(" (failed {}, will be tried again)", times(retry.failures)),
        None => String::new(),
    };
    let now = if database.running { "now: " } else { "" };
    format!("{now}{step}{retry}")
}

fn group_notes(text: &mut String, group: &GroupReport, now: OffsetDateTime) {
    let of = format!("group {} ({})", group.group, name(&group.scope));
    if let Some(hold) = &group.hold {
        let _ = writeln!(text, "  {of}: {}", active_hold(hold, now));
    }
    for problem in &group.problems {
        let _ = writeln!(text, "  {of}: unreadable in etcd: {}", one_line(problem));
    }
    for way in &group.reach {
        if let Some(unreached) = unreached(way) {
            let _ = writeln!(text, "  {of}, {unreached}");
        }
    }
    for (database, report) in &group.databases {
        if let Some(RetryReport { failures, error }) = &report.retry {
            let (times, error) = (times(*failures), one_line(error));
            let _ = writeln!(
                text,
                "  {of}, database {}: failed {times}: {error}",
                name(database)
            );
        }
    }
    if let Some(last) = &group.last_move {
        let _ = writeln!(text, "  {of}: {}", last_move(last, now));
    }
}

/// What the coordinator does not reach, and why.
fn unreached(way: &ReachReport) -> Option<String> {
    let why = one_line(&way.why.as_ref()?.to_string());
    let what = match (&way.member, way.row) {
        (Some(member), true) => format!("{}, where its row is", name(member)),
        (Some(member), false) => name(member).into_owned(),
        (None, _) => "the address of its row".to_owned(),
    };
    Some(format!(
        "database {}: the coordinator does not reach {what} ({}): {why}",
        name(&way.database),
        way.address
    ))
}

fn active_hold(hold: &HoldReport, now: OffsetDateTime) -> String {
    let databases: Vec<String> = hold
        .databases
        .iter()
        .map(|(database, state)| format!("{} {state}", name(database)))
        .collect();
    let reads = match &hold.reads_at {
        Some(address) => format!("reads at {address}"),
        None => "reads at the leader".to_owned(),
    };
    format!(
        "WRITES HELD since {}, until {} at the latest: {}; {}; {reads}",
        moment(&hold.since, now),
        deadline(&hold.deadline, now),
        one_line(&hold.reason),
        databases.join(", ")
    )
}

/// How long it took stands with the transitions.
fn last_move(last: &MoveReport, now: OffsetDateTime) -> String {
    let forced = if last.forced {
        "; sessions in the way were terminated"
    } else {
        ""
    };
    format!(
        "last change {}, database {}: {}{forced}",
        moment(&last.at, now),
        name(&last.database),
        one_line(&last.step)
    )
}

fn times(number: u32) -> String {
    if number == 1 {
        "once".to_owned()
    } else {
        format!("{number} times")
    }
}

fn address(address: Option<&HostPort>) -> String {
    address.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests;
