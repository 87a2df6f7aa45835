//! `citus-sync history`: what is over, with the time of each phase.

use clap::Args;

use super::address::{DEADLINE, DaemonAddress};
use super::outcome::{Done, Failed, Outcome};
use super::runtime::block_on;
use super::stdout::{json_line, print, print_error, print_json};
use super::watch::watch;
use crate::http::{ClientError, fetch_history};
use citus_core::render;

/// What the columns mean, below `--help`.
pub(super) const HELP: &str = "\
A transition begins with the first news of it: a request in etcd, a hold asked for, a leader that falls \
silent, a new leader key. The columns are milliseconds since then:

  HELD      writes wait, in every database
  READS     reads go to a caught-up standby, in every database
  KEY       another leader key was seen in etcd
  WRITABLE  the leader answered that it takes writes
  COMMIT    the rows are the leader's, in every database
  RELEASED  writes go on, in every database

Below a transition stand, for each database, the entry nodes that were skipped, the sessions that were ended \
because they were in the way, and the last error. The daemon keeps the last 1000 transitions in memory, \
until it stops.";

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    daemon: DaemonAddress,
    /// Only this group: a Citus groupid, or a Patroni scope
    #[arg(long, value_name = "N|SCOPE")]
    group: Option<String>,
    /// The last N transitions
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Show it again every second until interrupted
    #[arg(long)]
    watch: bool,
    /// Print the transitions as JSON, oldest first; with --watch, one document a line
    #[arg(long)]
    json: bool,
}

/// Prints the table, once or until interrupted.
pub(super) fn history(options: &Options) -> Outcome {
    let url = options.daemon.url()?;
    let group = options.group.as_deref();
    let fetch = async || fetch_history(&url, group, options.limit, DEADLINE).await;
    if options.watch {
        let page = async || {
            let history = fetch().await?;
            Ok(if options.json {
                json_line(&history)
            } else {
                Ok(render::history(&history.transitions))
            })
        };
        return block_on(watch(options.json, page))?;
    }
    match block_on(fetch())? {
        Ok(history) if options.json => print_json(&history)?,
        Ok(history) => print(&render::history(&history.transitions))?,
        Err(error @ ClientError::Url { .. }) => {
            return Err(Failed::Configuration(error.to_string()));
        }
        Err(error) => {
            print_error(&format!(
                "citus-sync: {error}; name the daemon with --url, or with -c FILE"
            ));
            return Ok(Done::No);
        }
    };
    Ok(Done::Yes)
}
