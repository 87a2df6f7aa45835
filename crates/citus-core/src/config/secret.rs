//! Secrets and where they came from. A value enters once and leaves only through
//! [`Secret::expose`]; printing one shows `***`.

use std::fmt;
use std::path::PathBuf;

/// A password. `Debug` shows `***`, there is no `Display`, and nothing serialises it.
#[derive(Clone)]
pub struct Secret {
    value: String,
    origin: Origin,
}

/// Where a secret was found, so that it can be referred to without being shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable of this name.
    Env(&'static str),
    /// A file that holds nothing but the secret.
    File(PathBuf),
    /// Written out under a key of a configuration file (only Patroni's own file may do that).
    Key {
        /// The file.
        file: PathBuf,
        /// The key's path inside it.
        key: String,
    },
}

impl Secret {
    /// Keeps `value` and remembers where it came from.
    pub fn new(value: impl Into<String>, origin: Origin) -> Self {
        Self {
            value: value.into(),
            origin,
        }
    }

    /// The secret itself. To be handed to a client library and nowhere else.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// Where the secret was found.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Equal when the values are: the same password from elsewhere is the same password.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Secret {}
