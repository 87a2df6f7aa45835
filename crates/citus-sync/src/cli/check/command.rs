//! The command: asks everything at the same time, each question within its own deadline, so that
//! one hung server neither delays nor hides what the others show. Then the judges turn answers into
//! findings.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures_util::future::{join, join_all};

use super::answers::{self, ask_entry_nodes, inspect_databases};
use super::per_database::databases_named;
use super::{
    databases, entry_nodes, etcd, groups, hooks, rights, scopes, server, settings, shards,
};
use crate::cli::addresses::Addresses;
use crate::cli::look::Look;
use crate::cli::outcome::{Done, Outcome};
use crate::cli::runtime::block_on;
use crate::cli::snapshot::{self, Groups, Views};
use crate::cli::source::load;
use crate::cli::stdout::{print, print_json};
use crate::session::Login;
use citus_core::config::{Config, Formation, Workers};
use citus_core::plan::Writes;
use citus_core::render::{self, Finding, Verdict, counted};

/// The longest that one statement of `check` may take, whatever the policy grants to those of
/// `run`: a person is waiting.
const STATEMENT_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The configuration: citus-sync's own file, or Patroni's with a `citus:` section
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    file: PathBuf,
    /// Print the findings as a JSON list
    #[arg(long)]
    json: bool,
}

/// Prints what was found.
pub(in crate::cli) fn check(options: &Options) -> Outcome {
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

/// The file itself. Its errors have been reported by then: `check` ends at the first file it cannot
/// use.
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

/// Everything of one formation.
async fn formation(config: &Config, formation: &Formation, views: &Views) -> Vec<Finding> {
    let groups = Groups::of(formation, views);
    let run_login = snapshot::login(formation, &groups);
    let login = Login {
        application_name: "citus-sync check".to_owned(),
        statement_timeout: run_login.statement_timeout.min(STATEMENT_LIMIT),
        ..run_login
    };
    let databases = &formation.coordinator.databases;
    let (answers, inspected) = join(
        snapshot::ask_leaders(&login, databases, &groups),
        inspect_databases(&login, databases, groups.coordinator()),
    )
    .await;
    let rows = answers::rows(&inspected);
    let (addresses, entry_nodes) = join(
        Addresses::look(&login, &groups, &answers, &rows),
        ask_entry_nodes(&login, &groups, &inspected),
    )
    .await;

    let mut look = Look::new(formation, &answers, &rows, &addresses);
    let writes = look.writes;
    let wanted = shards::wanted(&look, &groups);
    look.count(&login, &groups, wanted).await;
    look.complete(&login, &groups).await;
    let mut found = scopes::judge(formation, writes, &groups, views, &config.namespace);
    found.extend(server::leaders(formation, &groups, &answers));
    found.extend(server::unidentified(formation, &groups, &answers));
    found.extend(databases::judge(formation, &groups, &inspected));
    found.extend(rights::to_move(formation, &inspected));
    found.extend(settings::judge(formation, &login, &inspected));
    if writes == Writes::Allowed {
        found.extend(rights::to_hold(formation, &inspected));
        found.extend(entry_nodes::judge(
            formation,
            &groups,
            &answers,
            &entry_nodes,
        ));
        found.extend(hooks::reachable(config, &groups));
    }
    found.extend(server::reached(&look, &groups));
    found.extend(shards::judge(&look, &groups));
    found.extend(groups::judge(&look, &groups));
    if config.formations.len() > 1 {
        for finding in &mut found {
            finding.what = format!("{}: {}", formation.name, finding.what);
        }
    }
    found
}
