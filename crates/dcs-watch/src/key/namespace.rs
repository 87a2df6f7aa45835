//! The folder in etcd under which Patroni keeps its scopes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::error::{KeyError, shown};
use crate::text::{NAME_BYTES, excerpt};

/// The folder in etcd under which Patroni keeps its scopes; always begins and ends with a slash.
/// `Display` escapes control characters and cuts after [`NAME_BYTES`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Normalises as Patroni does: slashes are added at both ends and repeated ones collapse, so
    /// `service`, `/service` and `//service/` are the same folder. Refuses spaces and control
    /// characters with [`KeyError::Namespace`].
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(KeyError::Namespace(shown(text.as_bytes())));
        }
        let mut normal = String::from("/");
        for part in text.split('/').filter(|part| !part.is_empty()) {
            normal.push_str(part);
            normal.push('/');
        }
        Ok(Self(normal.into()))
    }

    /// The folder with its slashes, exact: the prefix of every key in it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    /// Patroni's default, `/service/`.
    fn default() -> Self {
        Self("/service/".into())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&excerpt(&self.0, NAME_BYTES))
    }
}

impl FromStr for Namespace {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_normalised_as_patroni_does_it() {
        for text in ["service", "/service", "service/", "//service//"] {
            assert_eq!(
                Namespace::new(text).unwrap(),
                Namespace::default(),
                "{text}"
            );
        }
        assert_eq!(Namespace::new("/a//b").unwrap().as_str(), "/a/b/");
        assert_eq!(Namespace::new("").unwrap().as_str(), "/");
        assert_eq!(Namespace::new("/").unwrap().as_str(), "/");
        assert!(Namespace::new("/ser vice/").is_err());
        assert!(Namespace::new("/ser\0vice/").is_err());
    }
}
