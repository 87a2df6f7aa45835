//! `citus-sync config convert`: any configuration as a native file on stdout.

use std::collections::BTreeMap;

use dcs_watch::client::list_once;

use super::outcome::{Done, Failed, Outcome};
use super::runtime::block_on;
use super::snapshot::etcd_settings;
use super::source::Source;
use super::stdout::{print, print_error};
use citus_core::config::{self, Config, Workers};

/// Prints the native file. Where worker groups are known only by addresses, etcd is asked once
/// which scopes live there.
pub(super) fn convert(source: &Source) -> Outcome {
    let config = source.load()?;
    let scopes = if config.formations.iter().any(by_address) {
        match look_up(&config)? {
            Ok(scopes) => scopes,
            Err(why) => {
                print_error(&format!("citus-sync: {why}"));
                return Ok(Done::No);
            }
        }
    } else {
        BTreeMap::new()
    };
    match config::convert(&config, &scopes) {
        Ok(text) => print(&text).map(|_| Done::Yes),
        Err(error) => {
            print_error(&format!("citus-sync: {error}"));
            Ok(Done::No)
        }
    }
}

fn by_address(formation: &config::Formation) -> bool {
    matches!(formation.workers, Workers::AtNodes(_))
}

type Scopes = BTreeMap<u32, dcs_watch::ScopeId>;

/// The scope of each group. Only Patroni's file knows groups by address, and it describes one
/// formation.
fn look_up(config: &Config) -> Result<Result<Scopes, String>, Failed> {
    let settings = etcd_settings(config)?;
    let views = match block_on(list_once(&settings))? {
        Ok(views) => views,
        Err(error) => {
            return Ok(Err(format!(
                "the scopes of the worker groups are in etcd, and {error}"
            )));
        }
    };
    let (mut scopes, mut reasons) = (BTreeMap::new(), Vec::new());
    for formation in config
        .formations
        .iter()
        .filter(|formation| by_address(formation))
    {
        let (resolved, unresolved) = formation.resolve(views.values());
        scopes.extend(resolved);
        reasons.extend(unresolved.iter().map(ToString::to_string));
    }
    if reasons.is_empty() {
        Ok(Ok(scopes))
    } else {
        Ok(Err(reasons.join("\n")))
    }
}
