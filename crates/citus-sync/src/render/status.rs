//! What the daemon says of itself, for a person.

use std::fmt::Write as _;

use dcs_watch::HostPort;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::table::one_line;
use super::{Table, counted};
use crate::plan::{Wait, Writes};
use crate::report::{
    DatabaseReport, EtcdReport, FormationReport, GroupDatabaseReport, GroupReport, MoveReport,
    RetryReport, State,
};

/// The page that `status` prints.
pub fn status(state: &State, now: OffsetDateTime) -> String {
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
    etcd(&mut text, &state.etcd);
    for report in &state.formations {
        formation(&mut text, report, now);
    }
    text
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
    let settled = report.groups.iter().filter(|group| group.settled).count();
    let groups = match report.groups.len() {
        0 => "no group known yet".to_owned(),
        all => format!("{settled} of {} settled", counted(all, "group", "groups")),
    };
    let _ = write!(text, "\nformation {}", report.name);
    if report.name != report.coordinator {
        let _ = write!(text, " (coordinator scope {})", report.coordinator);
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
    let name = format!("group {} ({})", group.group, group.scope);
    for problem in &group.problems {
        let _ = writeln!(text, "  {name}: unreadable in etcd: {}", one_line(problem));
    }
    for (database, report) in &group.databases {
        if let Some(RetryReport { failures, error }) = &report.retry {
            let (times, error) = (times(*failures), one_line(error));
            let _ = writeln!(
                text,
                "  {name}, database {database}: failed {times}: {error}"
            );
        }
    }
    if let Some(last) = &group.last_move {
        let _ = writeln!(text, "  {name}: {}", last_move(last, now));
    }
}

fn last_move(last: &MoveReport, now: OffsetDateTime) -> String {
    let MoveReport {
        at,
        database,
        step,
        writable_us,
        committed_us,
        forced,
        ..
    } = last;
    let writable = microseconds(*writable_us);
    let committed = microseconds(committed_us.saturating_sub(*writable_us));
    let forced = if *forced {
        "; sessions in the way were terminated"
    } else {
        ""
    };
    format!(
        "last change {}, database {database}: {}; the leader took writes {writable} after its key \
         was seen, the row followed {committed} later{forced}",
        moment(at, now),
        one_line(step)
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

/// `2026-11-22 10:00:00Z (2h 5m ago)`; what is no moment is shown as it is.
fn moment(text: &str, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::parse(text, &Rfc3339) else {
        return one_line(text);
    };
    let (date, time) = (then.date(), then.time());
    let (hour, minute, second) = time.as_hms();
    let ago = (now - then).whole_seconds().max(0);
    format!(
        "{date} {hour:02}:{minute:02}:{second:02}Z ({} ago)",
        seconds(ago)
    )
}

/// The two greatest units: nobody needs the seconds of three days.
fn seconds(total: i64) -> String {
    let (days, hours) = (total / 86_400, total / 3_600 % 24);
    let (minutes, seconds) = (total / 60 % 60, total % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")];
    let first = parts
        .iter()
        .position(|(number, _)| *number > 0)
        .unwrap_or(3);
    let shown = parts
        .iter()
        .skip(first)
        .take(2)
        .filter(|(number, _)| *number > 0);
    let words: Vec<String> = shown
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if words.is_empty() {
        "0s".to_owned()
    } else {
        words.join(" ")
    }
}

fn milliseconds(total: u64) -> String {
    match total {
        0..10_000 => format!("{total} ms"),
        _ => seconds(i64::try_from(total / 1_000).unwrap_or(i64::MAX)),
    }
}

/// Milliseconds with one decimal while that says something.
fn microseconds(total: u64) -> String {
    match total {
        0..100_000 => format!("{}.{} ms", total / 1_000, total % 1_000 / 100),
        _ => milliseconds(total / 1_000),
    }
}

#[cfg(test)]
mod tests;
