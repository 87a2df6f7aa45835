//! The checks after an operation. In: the fixture. Out: nothing, or the first violation.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Report, wait_for};
use serde_json::Value;

use super::fixture::Fixture;

/// For the daemon to follow, and for every hold to end. It is more than `hold_timeout`.
const IN_SYNC: Duration = Duration::from_secs(60);
/// For Citus to sync the metadata to the entry nodes: it may look only once a minute.
const METADATA: Duration = Duration::from_secs(120);

const ROWS: &str = "SELECT groupid, nodename || ':' || nodeport FROM pg_dist_node \
                    WHERE noderole = 'primary' ORDER BY groupid";
/// Sessions that hold have this name.
const HOLDING: &str = "SELECT count(*), max(application_name) FROM pg_stat_activity \
                       WHERE application_name LIKE 'citus-sync: hold%'";

/// Waits until the rows point at the leaders, in every database, on the coordinator and on every
/// entry node; nothing is held; and the daemon reports every group in sync.
pub(super) fn in_sync(fixture: &Fixture) -> Result<()> {
    wait_for("rows at their leaders, and nothing held", IN_SYNC, || {
        rows(fixture)?;
        nothing_held(fixture)?;
        state(fixture)?;
        Ok(true)
    })?;
    if fixture.lab.flavour().is_citus() {
        wait_for(
            "the coordinator's rows on every entry node",
            METADATA,
            || {
                entry_nodes(fixture)?;
                Ok(true)
            },
        )?;
    }
    Ok(())
}

fn rows(fixture: &Fixture) -> Result<()> {
    let leaders = fixture.lab.leaders()?;
    for database in fixture.lab.databases() {
        let rows = fixture.lab.rows(database)?;
        ensure!(
            rows == leaders,
            "{database}: the rows are {rows:?}, the leaders are {leaders:?}"
        );
    }
    Ok(())
}

fn nothing_held(fixture: &Fixture) -> Result<()> {
    for scope in fixture.lab.scopes() {
        let row = scope.connect("postgres")?.query_one(HOLDING, &[])?;
        let (count, name): (i64, Option<String>) = (row.get(0), row.get(1));
        ensure!(
            count == 0,
            "{count} sessions hold at the leader of {}: {}",
            scope.name(),
            name.unwrap_or_default()
        );
    }
    Ok(())
}

fn state(fixture: &Fixture) -> Result<()> {
    let (_, body) = fixture.daemon.get("/api/v1/state")?;
    let state: Value = serde_json::from_str(&body).context("/api/v1/state")?;
    let groups = state["formations"][0]["groups"].as_array();
    let groups = groups.context("no groups in /api/v1/state")?;
    let expected = fixture.lab.scopes().len();
    ensure!(
        groups.len() == expected,
        "{} of {expected} groups are followed",
        groups.len()
    );
    for group in groups {
        ensure!(
            group["in_sync"] == true && group["hold"].is_null(),
            "not in sync: {group}"
        );
    }
    Ok(())
}

fn entry_nodes(fixture: &Fixture) -> Result<()> {
    let leaders = fixture.lab.leaders()?;
    for database in fixture.lab.databases() {
        let entry_nodes = fixture.lab.entry_nodes(database)?;
        for scope in fixture.lab.workers() {
            if !entry_nodes.contains(&scope.group()) {
                continue;
            }
            let rows: Vec<(u32, String)> = scope
                .connect(database)?
                .query(ROWS, &[])?
                .iter()
                .map(|row| Ok((u32::try_from(row.get::<_, i32>(0))?, row.get(1))))
                .collect::<Result<_>>()?;
            ensure!(
                rows == leaders,
                "{database} at {}: the rows are {rows:?}, the leaders are {leaders:?}",
                scope.name()
            );
        }
    }
    Ok(())
}

/// Checks that no client got a wrong answer. Through the entry node `unfenced` stale answers are
/// possible, and counted: its old leader may have woken up.
pub(super) fn answers(report: &Report, unfenced: Option<&str>) -> Result<usize> {
    let mut excused = 0;
    for outcome in report.outcomes() {
        let Some(error) = &outcome.error else {
            continue;
        };
        let wrong = error.contains("a stale answer") || error.contains("rows were counted");
        if wrong && unfenced == Some(&*outcome.stream.entry_node) {
            excused += 1;
            continue;
        }
        ensure!(!wrong, "{}: {error}", outcome.stream);
    }
    Ok(excused)
}
