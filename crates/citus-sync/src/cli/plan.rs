//! `citus-sync plan`: what `run` would change now, and why. Asks everything once, decides with the
//! same table, and changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use dcs_watch::ScopeView;
use dcs_watch::client::list_once;
use futures_util::future::{join, join_all};

use super::addresses::Addresses;
use super::look::Look;
use super::outcome::{Done, Outcome};
use super::remediation::describe;
use super::runtime::block_on;
use super::snapshot::{self, Groups, Views};
use super::source::load;
use super::stdout::{print, print_error, print_json};
use crate::session::inspect;
use citus_core::config::Formation;
use citus_core::plan::{Rows, Step, Wait};
use citus_core::render::{self, PlanLine};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration: citus-sync's own file, or Patroni's with a `citus:` section
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: PathBuf,
    /// Print the plan as a JSON list
    #[arg(long)]
    json: bool,
}

/// Prints the plan.
pub(super) fn plan(options: &Options) -> Outcome {
    let config = load(&options.file)?;
    let settings = snapshot::etcd_settings(&config)?;
    let lines = block_on(async {
        let views = list_once(&settings).await?;
        let formations = config
            .formations
            .iter()
            .map(|formation| lines(formation, &views));
        Ok(join_all(formations).await.concat())
    })?;
    let lines = match lines {
        Ok(lines) => lines,
        Err(error) => {
            let error: dcs_watch::client::ListError = error;
            print_error(&format!("citus-sync: {error}"));
            return Ok(Done::No);
        }
    };
    if options.json {
        print_json(&lines)?;
    } else {
        print(&render::plan(&lines))?;
    }
    let complete = lines.iter().all(|line| line.undecided.is_none());
    Ok(if complete { Done::Yes } else { Done::No })
}

async fn lines(formation: &Formation, views: &Views) -> Vec<PlanLine> {
    let groups = Groups::of(formation, views);
    let login = snapshot::login(formation, &groups);
    let databases = &formation.coordinator.databases;
    let read = databases.iter().map(async |name| {
        let rows = match groups.coordinator() {
            None => Rows::Unknown(no_coordinator(formation, &groups)),
            Some(address) => match inspect::rows(&login, address, name).await {
                Ok(rows) => Rows::known(rows),
                Err(error) => Rows::Unknown(format!("{address}: {}", describe(&error))),
            },
        };
        (name.clone(), rows)
    });
    let (rows, answers) = join(
        join_all(read),
        snapshot::ask_leaders(&login, databases, &groups),
    )
    .await;
    let rows: BTreeMap<String, Rows> = rows.into_iter().collect();
    let addresses = Addresses::look(&login, &groups, &answers, &rows).await;

    let mut look = Look::new(formation, &answers, &rows, &addresses);
    look.complete(&login, &groups).await;

    let mut lines: Vec<PlanLine> = groups
        .views
        .iter()
        .flat_map(|(group, view)| of_group(&look, *group, view))
        .collect();
    lines.extend(groups.unresolved.iter().map(|gap| PlanLine {
        undecided: Some(gap.to_string()),
        ..empty(formation, gap.group)
    }));
    lines
}

fn of_group(look: &Look<'_>, group: i32, view: &ScopeView) -> Vec<PlanLine> {
    let (formation, rows) = (look.formation, look.rows);
    let decision = look.decide(group, view);
    let missing = (!view.exists()).then(|| format!("etcd has no scope {}", view.scope));
    decision
        .steps
        .into_iter()
        .map(|(database, step)| PlanLine {
            scope: Some(view.scope.to_string()),
            leader: view.leader.as_ref().map(|leader| leader.value.clone()),
            address: view.leader_address().cloned(),
            row: match &rows[&database] {
                Rows::Known(rows) => rows
                    .iter()
                    .find(|row| row.groupid == group && row.is_primary())
                    .map(|row| row.address.clone()),
                Rows::Unknown(_) => None,
            },
            rule: Some(decision.rule),
            changes: step.acts(),
            undecided: missing.clone().or_else(|| undecided(&step)),
            step: step.to_string(),
            database: Some(database),
            ..empty(formation, group.unsigned_abs())
        })
        .collect()
}

/// Some reasons to wait are decisions (there is no leader, so nothing moves); others come from this
/// one look: `run` may well see more.
fn undecided(step: &Step) -> Option<String> {
    match step {
        Step::Wait(
            wait @ (Wait::RowsUnknown { .. }
            | Wait::Unreachable { .. }
            | Wait::NotProbed { .. }
            | Wait::ReachUnknown { .. }
            | Wait::RowNotAsked { .. }
            | Wait::ViewUnknown
            | Wait::ViewStale { .. }),
        ) => Some(wait.to_string()),
        Step::Wait(wait) if wait.is_uncounted() => Some(wait.to_string()),
        _ => None,
    }
}

fn no_coordinator(formation: &Formation, groups: &Groups) -> String {
    let scope = &formation.coordinator.scope;
    match groups.views.get(&0) {
        Some(view) if !view.exists() => format!("etcd has no scope {scope}"),
        Some(view) => match &view.leader {
            None => format!("coordinator scope {scope} has no leader"),
            Some(leader) => {
                let member = &leader.value;
                format!("member {member} leads {scope}, but its key has no usable address")
            }
        },
        None => format!("scope {scope} was not looked at"),
    }
}

fn empty(formation: &Formation, group: u32) -> PlanLine {
    PlanLine {
        formation: formation.name.clone(),
        group,
        scope: None,
        leader: None,
        address: None,
        database: None,
        row: None,
        rule: None,
        step: String::new(),
        changes: false,
        undecided: None,
    }
}
