//! `citus-sync status`: what a running daemon knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use time::OffsetDateTime;

use super::stdout::{Reader, complain, print, print_json};
use super::{Done, Failed, Outcome, block_on, load};
use crate::edge::http::{ClientError, fetch_state};
use crate::render;

/// Where a daemon listens unless its file says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8009";

/// How long the daemon may take to answer. It only copies what it knows.
const DEADLINE: Duration = Duration::from_secs(5);

/// How often `--watch` looks again.
const REDRAW: Duration = Duration::from_secs(1);

/// Moves the cursor home and clears what is below it: less flicker than clearing first.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The daemon's configuration, for the address it listens on
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        conflicts_with = "url"
    )]
    file: Option<PathBuf>,
    #[arg(long, value_name = "URL", help = format!("The daemon's address [default: {DEFAULT_URL}]"))]
    url: Option<String>,
    /// Show it again every second until interrupted
    #[arg(long)]
    watch: bool,
    /// Print the state as JSON; with --watch, one document a line
    #[arg(long)]
    json: bool,
}

impl Options {
    fn url(&self) -> Result<String, Failed> {
        match (&self.url, &self.file) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(file)) => Ok(format!("http://{}", reachable(load(file)?.listen))),
            (None, None) => Ok(DEFAULT_URL.to_owned()),
        }
    }

    fn hint(&self) -> String {
        let file = self
            .file
            .as_ref()
            .map_or("FILE".into(), |file| file.to_string_lossy());
        format!("`citus-sync plan -c {file}` looks without a daemon")
    }
}

/// A daemon that listens on every address is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Prints the page, once or until interrupted.
pub(super) fn status(options: &Options) -> Outcome {
    let url = options.url()?;
    if options.watch {
        return block_on(watch(options, &url))?;
    }
    let state = match block_on(fetch_state(&url, DEADLINE))? {
        Ok(state) => state,
        Err(error @ ClientError::Url { .. }) => {
            return Err(Failed::Configuration(error.to_string()));
        }
        Err(error) => {
            complain(&format!("citus-sync: {error}; {}", options.hint()));
            return Ok(Done::No);
        }
    };
    if options.json {
        print_json(&state)?;
    } else {
        print(&render::status(&state, OffsetDateTime::now_utc()))?;
    }
    Ok(Done::Yes)
}

/// A daemon that goes away while being watched is waited for: it may be being restarted.
async fn watch(options: &Options, url: &str) -> Outcome {
    use std::io::IsTerminal as _;
    let clear = if std::io::stdout().is_terminal() {
        CLEAR
    } else {
        ""
    };
    loop {
        let page = match fetch_state(url, DEADLINE).await {
            Ok(state) if options.json => serde_json::to_string(&state)
                .map(|line| line + "\n")
                .map_err(|error| Failed::Otherwise(error.to_string()))?,
            Ok(state) => {
                format!(
                    "{clear}{}\n",
                    render::status(&state, OffsetDateTime::now_utc())
                )
            }
            Err(error @ ClientError::Url { .. }) => {
                return Err(Failed::Configuration(error.to_string()));
            }
            Err(error) if options.json => {
                complain(&format!("citus-sync: {error}"));
                String::new()
            }
            Err(error) => format!("{clear}{error}\n"),
        };
        if print(&page)? == Reader::Gone {
            return Ok(Done::Yes);
        }
        tokio::time::sleep(REDRAW).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8009", "127.0.0.1:8009"),
            ("[::]:8009", "[::1]:8009"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
