//! Whether the world is as it should be. In: the world, after an operation. Out: nothing, or what
//! is wrong with it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Report, wait_for};
use serde_json::Value;

use super::world::World;

/// For the daemon to follow, and for every hold to end: more than `hold_timeout`.
const SETTLED: Duration = Duration::from_secs(60);
/// For the doors to be told by Citus, which looks once a minute if it has to.
const TOLD: Duration = Duration::from_secs(120);

const ROWS: &str = "SELECT groupid, nodename || ':' || nodeport FROM pg_dist_node \
                    WHERE noderole = 'primary' ORDER BY groupid";
/// Sessions that hold call themselves so.
const HOLDING: &str = "SELECT count(*), max(application_name) FROM pg_stat_activity \
                       WHERE application_name LIKE 'citus-sync: hold%'";

/// Rows are leaders, in every database, on the coordinator and on every door; nothing is held; the
/// daemon says so too.
pub(super) fn settled(world: &World) -> Result<()> {
    wait_for("rows = leaders, and nothing held", SETTLED, || {
        rows(world)?;
        nothing_held(world)?;
        state(world)?;
        Ok(true)
    })?;
    if world.lab.flavour().is_citus() {
        wait_for("every door to have the coordinator's rows", TOLD, || {
            doors(world)?;
            Ok(true)
        })?;
    }
    Ok(())
}

fn rows(world: &World) -> Result<()> {
    let leaders = world.lab.leaders()?;
    for database in world.lab.databases() {
        let rows = world.lab.rows(database)?;
        ensure!(
            rows == leaders,
            "{database}: the rows are {rows:?}, the leaders are {leaders:?}"
        );
    }
    Ok(())
}

fn nothing_held(world: &World) -> Result<()> {
    for scope in world.lab.scopes() {
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

fn state(world: &World) -> Result<()> {
    let (_, body) = world.daemon.get("/api/v1/state")?;
    let state: Value = serde_json::from_str(&body).context("/api/v1/state")?;
    let groups = state["formations"][0]["groups"].as_array();
    let groups = groups.context("no groups in /api/v1/state")?;
    let expected = world.lab.scopes().len();
    ensure!(
        groups.len() == expected,
        "{} of {expected} groups are followed",
        groups.len()
    );
    for group in groups {
        ensure!(
            group["in_sync"] == true && group["hold"].is_null(),
            "not settled: {group}"
        );
    }
    Ok(())
}

fn doors(world: &World) -> Result<()> {
    let leaders = world.lab.leaders()?;
    for database in world.lab.databases() {
        let doors = world.lab.doors(database)?;
        for scope in world.lab.workers() {
            if !doors.contains(&scope.group()) {
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

/// No client was told anything that was not so. Through the door `unfenced` old answers are possible,
/// and counted: its old leader may have woken up.
pub(super) fn answers(report: &Report, unfenced: Option<&str>) -> Result<usize> {
    let mut excused = 0;
    for outcome in report.outcomes() {
        let Some(error) = &outcome.error else {
            continue;
        };
        let wrong = error.contains("a stale answer") || error.contains("rows were counted");
        if wrong && unfenced == Some(&*outcome.stream.door) {
            excused += 1;
            continue;
        }
        ensure!(!wrong, "{}: {error}", outcome.stream);
    }
    Ok(excused)
}
