//! `citus-sync status`: what a running daemon knows.

use clap::Args;
use time::OffsetDateTime;

use super::address::{DEADLINE, DaemonAddress};
use super::outcome::{Done, Failed, Outcome};
use super::runtime::block_on;
use super::stdout::{json_line, print, print_error, print_json};
use super::watch::watch;
use crate::http::{ClientError, fetch_history, fetch_state};
use citus_core::render;
use citus_core::report::{State, Transition};

/// Transitions that the page shows. `history` shows them all.
const TRANSITIONS: usize = 5;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    daemon: DaemonAddress,
    /// Show it again every second until interrupted
    #[arg(long)]
    watch: bool,
    /// Print the state as JSON; with --watch, one document a line
    #[arg(long)]
    json: bool,
}

/// Prints the page, once or until interrupted.
pub(super) fn status(options: &Options) -> Outcome {
    let url = options.daemon.url()?;
    if options.watch {
        let page = async || {
            Ok(if options.json {
                json_line(&fetch_state(&url, DEADLINE).await?)
            } else {
                Ok(page(&fetch(&url).await?))
            })
        };
        return block_on(watch(options.json, page))?;
    }
    match block_on(fetch(&url))? {
        Ok((state, _)) if options.json => print_json(&state)?,
        Ok(fetched) => print(&page(&fetched))?,
        Err(error @ ClientError::Url { .. }) => {
            return Err(Failed::Configuration(error.to_string()));
        }
        Err(error) => {
            let file = options.daemon.file();
            print_error(&format!(
                "citus-sync: {error}; `citus-sync plan -c {file}` looks without a daemon"
            ));
            return Ok(Done::No);
        }
    };
    Ok(Done::Yes)
}

type Fetched = (State, Vec<Transition>);

async fn fetch(url: &str) -> Result<Fetched, ClientError> {
    let state = fetch_state(url, DEADLINE).await?;
    let history = fetch_history(url, None, TRANSITIONS, DEADLINE).await?;
    Ok((state, history.transitions))
}

fn page((state, transitions): &Fetched) -> String {
    render::status(state, transitions, OffsetDateTime::now_utc())
}
