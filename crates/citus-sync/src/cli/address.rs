//! The address of the daemon that a command asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::outcome::Failed;
use super::source::load;

/// Where a daemon listens unless its file says otherwise.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8009";

/// How long the daemon may take to answer. It only copies what it knows.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// Where the daemon is.
#[derive(Debug, Args)]
pub(super) struct DaemonAddress {
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
}

impl DaemonAddress {
    pub(super) fn url(&self) -> Result<String, Failed> {
        match (&self.url, &self.file) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(file)) => Ok(url_of(load(file)?.listen)),
            (None, None) => Ok(DEFAULT_URL.to_owned()),
        }
    }

    /// The configuration file as an example would name it.
    pub(super) fn file(&self) -> String {
        self.file
            .as_ref()
            .map_or("FILE".into(), |file| file.to_string_lossy())
            .into_owned()
    }
}

/// Where to ask a daemon that listens there: on loopback, if it listens on every address.
pub(super) fn url_of(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8009", "http://127.0.0.1:8009"),
            ("[::]:8009", "http://[::1]:8009"),
            ("10.0.0.1:80", "http://10.0.0.1:80"),
        ] {
            assert_eq!(url_of(listen.parse().unwrap()), asked);
        }
    }
}
