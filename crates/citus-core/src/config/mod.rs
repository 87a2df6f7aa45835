//! What the operator wants: one [`Config`], whichever file it was written in.
//!
//! Pure: the path, the environment and a way to read files enter as arguments of [`Config::load`];
//! a checked configuration or a [`ConfigError`] that lists every problem leaves.

mod convert;
mod endpoint;
mod error;
mod formation;
mod login;
mod member;
mod native;
pub mod passfile;
mod patroni;
mod patroni_etcd;
mod reader;
mod secret;
mod token;
mod workers;
mod yaml;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dcs_watch::key::ScopeId;

pub use convert::{ConvertError, convert};
pub use error::{ConfigError, Problem};
pub use member::{Member, is_yaml, member, patronis_arguments};
pub use secret::{Origin, Secret};
pub use token::{TOKEN_VARIABLE, token};
pub use workers::{Discover, DiscoverError, Reason, Unresolved, Workers};
pub use yaml::Location;

use crate::policy::Policy;

impl Config {
    /// Reads and checks the configuration in the file `path`, native or Patroni's.
    ///
    /// `env` yields environment variables, `read` the contents of this file and of those it names
    /// for secrets. Relative paths in the file are taken from the file's own folder.
    pub fn load(
        path: &Path,
        env: &dyn Fn(&str) -> Option<String>,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let text = read(path).map_err(|error| ConfigError::Unreadable {
            file: path.to_owned(),
            reason: error.to_string(),
        })?;
        let invalid = |problems| {
            Err(ConfigError::Invalid {
                file: path.to_owned(),
                problems,
            })
        };
        let node = match yaml::parse(&text) {
            Ok(node) => node,
            Err(error) => {
                return invalid(vec![Problem {
                    location: error.location,
                    key: String::new(),
                    found: format!("text that is no YAML ({})", error.message),
                    expected: "one YAML document".to_owned(),
                    fix: None,
                }]);
            }
        };
        let fixture = Fixture {
            file: path,
            env,
            read,
        };
        let doc = reader::Doc::new(&text);
        let config = if patroni::is_patroni(&node) {
            patroni::read(&doc, &node, &fixture)
        } else {
            native::read(&doc, &node, &fixture)
        };
        match (config, doc.finish()) {
            (Some(config), Ok(warnings)) => Ok(Self { warnings, ..config }),
            (_, Err(problems)) => invalid(problems),
            // Cannot be: a reader that gives up notes why. Refuse rather than guess.
            (None, Ok(_)) => invalid(vec![Problem {
                location: None,
                key: String::new(),
                found: "a file that could not be understood".to_owned(),
                expected: "a configuration".to_owned(),
                fix: None,
            }]),
        }
    }
}

/// What the readers may ask of the world, passed in so that they stay pure.
struct Fixture<'a> {
    file: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
    read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Fixture<'_> {
    /// An environment variable; an empty one counts as unset, as libpq has it.
    fn env(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// A path of the file, relative to the file's own folder.
    fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// Everything the daemon needs to know before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where HTTP is served. Loopback unless told otherwise.
    pub listen: SocketAddr,
    /// What a client must show to have writes held; without one nobody can.
    pub token: Option<Secret>,
    /// The etcd cluster that Patroni writes to.
    pub etcd: Etcd,
    /// Patroni's namespace, with a slash at both ends.
    pub namespace: String,
    /// The Citus clusters to look after; never empty.
    pub formations: Vec<Formation>,
    /// Who this instance is among several, and how long its lease lasts.
    pub election: Election,
    /// What was accepted but has no effect, or not the one to expect; each names its key.
    pub warnings: Vec<String>,
    /// The file all this was read from.
    pub source: PathBuf,
}

/// How to reach etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// `http://host:port`, at least one, none twice.
    pub endpoints: Vec<String>,
    /// Set together with `password`, or not at all.
    pub username: Option<String>,
    /// Set together with `username`, or not at all.
    pub password: Option<Secret>,
}

/// The election among several instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// This instance's name; the host's when absent.
    pub name: Option<String>,
    /// How long a silent instance is still taken for the active one.
    pub ttl: Duration,
}

impl Default for Election {
    fn default() -> Self {
        Self {
            name: None,
            ttl: Duration::from_secs(10),
        }
    }
}

/// One Citus cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formation {
    /// Unique; the coordinator's scope unless named.
    pub name: String,
    /// Group 0.
    pub coordinator: Coordinator,
    /// The groups from 1 up.
    pub workers: Workers,
    /// Whether groups without a row are added with `citus_add_node`.
    pub register: bool,
    /// Deadlines and permissions.
    pub policy: Policy,
}

/// Group 0 and how to log in to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// Its Patroni scope.
    pub scope: ScopeId,
    /// The Citus databases; at least one, none twice.
    pub databases: Vec<String>,
    /// The role to log in as.
    pub user: String,
    /// Where that role's password is.
    pub password: Password,
}

/// Where a role's password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Nowhere: the server trusts us, or will say that it does not.
    None,
    /// Known.
    Literal(Secret),
    /// To be looked up for each server in this pgpass file.
    Passfile(PathBuf),
}
