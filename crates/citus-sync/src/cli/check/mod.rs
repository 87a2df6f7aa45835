//! `citus-sync check`: looks at everything `run` will need, and says what to fix.
//!
//! Everything is asked at the same time and within its own deadline: one hung server neither
//! delays nor hides what is to be said of the others. The files beside this one judge; they get
//! answers and give findings.

mod databases;
mod entry_nodes;
mod etcd;
mod groups;
mod hooks;
mod scopes;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dcs_watch::HostPort;
use futures_util::future::{join, join_all};
use futures_util::{StreamExt as _, stream};

use super::outcome::{Done, Outcome};
use super::runtime::block_on;
use super::snapshot::{self, Groups, Views};
use super::source::load;
use super::stdout::{print, print_json};
use crate::session::inspect::{self, EntryNodeFacts, Facts};
use crate::session::{Login, SqlError};
use citus_core::config::{Config, Formation, Workers};
use citus_core::plan::{COORDINATOR_GROUP, Writes};
use citus_core::render::{self, Finding, Verdict, counted};

/// The longest that one statement of `check` may take, whatever the policy grants to those of
/// `run`: a person is waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sessions that one coordinator is asked to try a worker from, at once: they come out of its
/// `max_connections`.
const TRIES_AT_ONCE: usize = 8;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration: citus-sync's own file, or Patroni's with a `citus:` section
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: PathBuf,
    /// Print the findings as a JSON list
    #[arg(long)]
    json: bool,
}

/// Prints what was found.
pub(super) fn check(options: &Options) -> Outcome {
    let config = load(&options.file)?;
    let settings = snapshot::etcd_settings(&config)?;
    let mut found = configuration(&config);
    found.extend(hooks::token(&config));
    found.extend(block_on(async {
        let (mut found, views) = etcd::ask(&settings).await;
        if let Some(views) = views {
            let formations = config
                .formations
                .iter()
                .map(|one| formation(&config, one, &views));
            found.extend(join_all(formations).await.concat());
        }
        found
    })?);
    if options.json {
        print_json(&found)?;
    } else {
        print(&render::findings(&found))?;
    }
    let failed = found.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { Done::No } else { Done::Yes })
}

/// The file itself. What is wrong in it was said before anything was looked at.
fn configuration(config: &Config) -> Vec<Finding> {
    let formations: Vec<String> = config
        .formations
        .iter()
        .map(|formation| {
            let workers = match &formation.workers {
                Workers::Listed(listed) => counted(listed.len(), "worker group", "worker groups"),
                Workers::Discovered(discover) => {
                    format!("workers like {}", discover.pattern())
                }
                Workers::AtNodes(groups) => {
                    format!(
                        "{} known by address",
                        counted(groups.len(), "worker group", "worker groups")
                    )
                }
            };
            let coordinator = &formation.coordinator;
            let databases = databases_named(&coordinator.databases);
            format!("coordinator {}, {databases}, {workers}", coordinator.scope)
        })
        .collect();
    let file = config.source.display();
    let mut found = vec![Finding::pass(
        "configuration",
        format!("{file}: {}", formations.join("; ")),
    )];
    found.extend(
        config
            .warnings
            .iter()
            .map(|text| Finding::warn("configuration", text, "")),
    );
    found
}

/// What the databases of one coordinator said.
type Inspected = BTreeMap<String, Result<Facts, SqlError>>;

/// Whether the coordinator reaches a worker's leader, by group and database.
type Reached = BTreeMap<(i32, String), Result<Option<bool>, SqlError>>;

/// What our role may do on an entry node, by group and database.
type EntryNodes = BTreeMap<(i32, String), Result<EntryNodeFacts, SqlError>>;

/// Everything of one formation.
async fn formation(config: &Config, formation: &Formation, views: &Views) -> Vec<Finding> {
    let groups = Groups::of(formation, views);
    let run_login = snapshot::login(formation);
    let login = Login {
        application_name: "citus-sync check".to_owned(),
        statement_timeout: run_login.statement_timeout.min(PATIENCE),
        ..run_login
    };
    let databases = &formation.coordinator.databases;
    let (answers, (inspected, reached, entry_nodes)) =
        join(snapshot::ask_leaders(&login, databases, &groups), async {
            let inspected = inspect_databases(&login, databases, groups.coordinator()).await;
            let (reached, entry_nodes) = join(
                try_from_coordinator(&login, &groups, &inspected),
                ask_entry_nodes(&login, &groups, &inspected),
            )
            .await;
            (inspected, reached, entry_nodes)
        })
        .await;

    let writes = snapshot::writes(formation);
    let mut found = scopes::judge(formation, writes, &groups, views, &config.namespace);
    found.extend(server::leaders(formation, &groups, &answers));
    found.extend(databases::judge(formation, &login, &groups, &inspected));
    if writes == Writes::Allowed {
        found.extend(databases::holds(formation, &inspected));
        found.extend(entry_nodes::judge(
            formation,
            &groups,
            &answers,
            &entry_nodes,
        ));
        found.extend(hooks::reachable(config, &groups));
    }
    found.extend(server::reached(formation, &groups, &reached));
    found.extend(groups::judge(
        formation, writes, &groups, &answers, &inspected,
    ));
    if config.formations.len() > 1 {
        for finding in &mut found {
            finding.what = format!("{}: {}", formation.name, finding.what);
        }
    }
    found
}

/// Asks every database of the coordinator at the same time.
async fn inspect_databases(
    login: &Login,
    databases: &[String],
    coordinator: Option<&HostPort>,
) -> Inspected {
    let Some(address) = coordinator else {
        return BTreeMap::new();
    };
    let questions = databases
        .iter()
        .map(async |name| (name.clone(), inspect::database(login, address, name).await));
    join_all(questions).await.into_iter().collect()
}

/// Has every database of the coordinator try every worker's leader, each on a session of its own.
async fn try_from_coordinator(login: &Login, groups: &Groups, inspected: &Inspected) -> Reached {
    let Some(coordinator) = groups.coordinator() else {
        return BTreeMap::new();
    };
    let workers = groups
        .views
        .iter()
        .filter(|(group, _)| **group != COORDINATOR_GROUP);
    let mut questions = Vec::new();
    for (group, view) in workers {
        let Some(to) = view.leader_address() else {
            continue;
        };
        for (name, facts) in inspected {
            let Some(citus) = facts
                .as_ref()
                .ok()
                .and_then(|facts| facts.citus.as_ref().ok())
            else {
                continue;
            };
            questions.push(async move {
                let answer = inspect::reaches(login, coordinator, name, &citus.dialect, to).await;
                ((*group, name.clone()), answer)
            });
        }
    }
    stream::iter(questions)
        .buffer_unordered(TRIES_AT_ONCE)
        .collect()
        .await
}

/// Asks every database of every worker leader that has metadata there, each on a session of its
/// own.
async fn ask_entry_nodes(login: &Login, groups: &Groups, inspected: &Inspected) -> EntryNodes {
    let mut questions = Vec::new();
    for (name, facts) in inspected {
        let citus = facts
            .as_ref()
            .ok()
            .and_then(|facts| facts.citus.as_ref().ok());
        let rows = citus.map(|citus| citus.rows.as_slice()).unwrap_or_default();
        for row in rows {
            let view = groups
                .views
                .get(&row.groupid)
                .filter(|_| row.is_entry_node());
            let Some(address) = view.and_then(|view| view.leader_address()) else {
                continue;
            };
            let key = (row.groupid, name.clone());
            questions.push(async move { (key, inspect::entry_node(login, address, name).await) });
        }
    }
    stream::iter(questions)
        .buffer_unordered(snapshot::AT_ONCE)
        .collect()
        .await
}

/// `database app`, `databases app, shop`.
fn databases_named(names: &[String]) -> String {
    let word = if names.len() == 1 {
        "database"
    } else {
        "databases"
    };
    format!("{word} {}", names.join(", "))
}

/// The same finding of several databases is said once, with their names.
struct PerDatabase<'a> {
    formation: &'a Formation,
    found: Vec<(Finding, Vec<&'a str>)>,
}

impl<'a> PerDatabase<'a> {
    fn of(formation: &'a Formation) -> Self {
        Self {
            formation,
            found: Vec::new(),
        }
    }

    fn add(&mut self, database: &'a str, finding: Finding) {
        match self.found.iter_mut().find(|(known, _)| *known == finding) {
            Some((_, databases)) => databases.push(database),
            None => self.found.push((finding, vec![database])),
        }
    }

    fn finish(self) -> Vec<Finding> {
        let several = self.formation.coordinator.databases.len() > 1;
        self.found
            .into_iter()
            .map(|(mut finding, databases)| {
                if several {
                    finding.detail = format!("{} (in {})", finding.detail, databases.join(", "));
                }
                finding
            })
            .collect()
    }
}
