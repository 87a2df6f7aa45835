//! What the operator wants: one [`Config`], whichever file it was written in.
//!
//! Pure: the path, the environment and a way to read files enter as arguments of [`Config::load`];
//! a checked configuration or a [`ConfigError`] that lists every problem leaves.
//!
//! A file uses only files of the layers below its own; from bottom to top:
//!
//! 1. `secret`, `workers`, `addresses`, then `formation`, then `settings`: the types of a
//!    configuration; `reload`, which compares two;
//! 2. `yaml`, `endpoint`, `passfile`: texts;
//! 3. `error`, `environment`, `reader`: what every reader uses to ask and to note a problem;
//! 4. `values`, `login`, `token`: what both kinds of file have;
//! 5. `native`, `patroni`: a folder for each kind of file;
//! 6. `load`, which takes one or the other; `convert`, which writes; `member`, which finds out about
//!    this host's member of Patroni.

mod addresses;
mod convert;
mod endpoint;
mod environment;
mod error;
mod formation;
mod load;
mod login;
mod member;
mod native;
pub mod passfile;
mod patroni;
mod reader;
mod reload;
mod secret;
mod settings;
mod token;
mod values;
mod workers;
mod yaml;

pub use addresses::{AddressRule, AddressRuleError, AddressRules};
pub use convert::{ConvertError, convert};
pub use error::{ConfigError, Problem};
pub use formation::{Coordinator, Formation, Password};
pub use member::{Member, is_yaml, member, patronis_arguments};
pub use reload::Changes;
pub use secret::{Origin, Secret};
pub use settings::{Config, Election, Etcd};
pub use token::{TOKEN_VARIABLE, token};
pub use workers::{Discover, DiscoverError, Reason, Unresolved, Workers};
pub use yaml::Location;
