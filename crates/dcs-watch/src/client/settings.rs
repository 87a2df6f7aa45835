//! How etcd is reached and how long it may be silent.

use std::time::Duration;

use super::password::Password;
use crate::key::Namespace;
use crate::text::{NAME_BYTES, excerpt};
use crate::value::HostPort;

/// How etcd is reached and how long it may be silent. Start from [`Settings::new`].
#[derive(Clone)]
pub struct Settings {
    /// All members of the etcd cluster, as `http://host:port`. One is used at a time, and the next
    /// one when it fails or falls silent.
    pub endpoints: Vec<String>,
    /// Patroni's folder in etcd.
    pub namespace: Namespace,
    /// The etcd user, where etcd asks for one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Password>,
    /// How long a connect, a page of a list, or the opening of a watch may take.
    pub request_timeout: Duration,
    /// How long the watch may be quiet before etcd is asked for progress, a sign of life.
    pub progress_every: Duration,
    /// How long etcd may be silent before the views are stale and the connection is given up. At
    /// least twice `progress_every`, or a quiet but healthy etcd would look dead.
    pub silence_after: Duration,
    /// How often everything is listed anew, in case an event was missed in a way that the checks do
    /// not see.
    pub relist_every: Duration,
    /// The time between two HTTP/2 pings while a watch is open. Not below 5 s: etcd by default takes
    /// more frequent pings for an attack and hangs up (`--grpc-keepalive-min-time`).
    pub keepalive_every: Duration,
    /// How long the answer to such a ping may take.
    pub keepalive_timeout: Duration,
    /// The first pause after a failure; pauses grow to `retry_max`, with jitter.
    pub retry_first: Duration,
    /// The longest pause between two tries.
    pub retry_max: Duration,
    /// The number of keys in one page of a list, at least 1. All pages are read at one revision.
    pub page: u32,
}

impl Settings {
    /// The defaults for these endpoints and Patroni's default namespace.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            namespace: Namespace::default(),
            username: None,
            password: None,
            request_timeout: Duration::from_secs(5),
            progress_every: Duration::from_secs(2),
            silence_after: Duration::from_secs(7),
            relist_every: Duration::from_secs(600),
            keepalive_every: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            retry_first: Duration::from_millis(50),
            retry_max: Duration::from_secs(5),
            page: 1000,
        }
    }

    /// Whether these settings can work at all, before anything is tried.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.endpoints.is_empty() {
            return Err(SettingsError::NoEndpoint);
        }
        for endpoint in &self.endpoints {
            if endpoint.starts_with("https://") {
                return Err(SettingsError::Tls(shown(endpoint)));
            }
            let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint);
            let authority = authority.strip_suffix('/').unwrap_or(authority);
            if authority.contains("://")
                || authority.contains('@')
                || authority.parse::<HostPort>().is_err()
            {
                return Err(SettingsError::Endpoint(shown(endpoint)));
            }
        }
        if self.username.is_some() != self.password.is_some() {
            return Err(SettingsError::Credentials);
        }
        if self.silence_after < self.progress_every * 2 || self.progress_every.is_zero() {
            return Err(SettingsError::Silence {
                silence_after: self.silence_after,
                progress_every: self.progress_every,
            });
        }
        Ok(())
    }
}

/// An endpoint for a message, without a user and password that may stand in it.
fn shown(endpoint: &str) -> String {
    let (user, host) = match endpoint.rsplit_once('@') {
        Some((_, host)) => ("…@", host),
        None => ("", endpoint),
    };
    format!("{user}{}", excerpt(host, NAME_BYTES))
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoints", &self.endpoints)
            .field("namespace", &self.namespace)
            .field("username", &self.username)
            .field("password", &self.password)
            .field("request_timeout", &self.request_timeout)
            .field("progress_every", &self.progress_every)
            .field("silence_after", &self.silence_after)
            .field("relist_every", &self.relist_every)
            .finish_non_exhaustive()
    }
}

/// Why settings cannot work. Endpoints in it are escaped, and cut to a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No endpoint is given.
    #[error("no etcd endpoint is given: name all members of the etcd cluster, as http://host:port")]
    NoEndpoint,
    /// An https endpoint, which is not supported yet.
    #[error(
        "etcd endpoint {0}: https is not supported yet; use an http:// endpoint, or a local TLS proxy in front of etcd"
    )]
    Tls(String),
    /// An endpoint that is not `http://host:port`.
    #[error("etcd endpoint \"{0}\" is not of the form http://host:port")]
    Endpoint(String),
    /// A user without a password, or a password without a user.
    #[error("an etcd user needs a password and a password a user: only one of them is given")]
    Credentials,
    /// A silence limit that a healthy etcd would break.
    #[error(
        "a silence limit of {silence_after:?} is too short: it must be at least twice the time after which etcd is asked for progress, {progress_every:?}"
    )]
    Silence {
        /// The limit.
        silence_after: Duration,
        /// How long the watch may be quiet before etcd is asked for progress.
        progress_every: Duration,
    },
}
