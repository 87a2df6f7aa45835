//! A configuration from its file, native or Patroni's.

use std::io;
use std::path::Path;

use super::environment::Environment;
use super::error::{ConfigError, Problem};
use super::settings::Config;
use super::{native, patroni, reader, yaml};

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
        let environment = Environment {
            file: path,
            env,
            read,
        };
        let doc = reader::Doc::new(&text);
        let config = if patroni::is_patroni(&node) {
            patroni::read(&doc, &node, &environment)
        } else {
            native::read(&doc, &node, &environment)
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
