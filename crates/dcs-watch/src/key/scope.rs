//! The name of a scope, and the group where Patroni's own Citus support adds one.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{KeyError, shown};
use crate::text::{NAME_BYTES, excerpt};

/// A Patroni cluster: its scope, and the group where Patroni's own Citus support adds one.
///
/// As text it is `wk1`, or `citus/0` with a group. `Display` escapes control characters and cuts
/// the name after [`NAME_BYTES`] bytes; [`path`](Self::path) and JSON are exact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId {
    /// The scope's name, one path segment.
    pub name: Arc<str>,
    /// The Citus group in the layout of Patroni's own Citus support, else none.
    pub group: Option<u32>,
}

impl ScopeId {
    /// A scope of the ordinary layout. The name is taken as it is; text from outside goes through
    /// [`FromStr`], which checks it.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            group: None,
        }
    }

    /// The scope as it stands in the path of its keys, exact: `wk1`, or `citus/0` with a group.
    pub fn path(&self) -> Cow<'_, str> {
        match self.group {
            None => Cow::Borrowed(&self.name),
            Some(group) => Cow::Owned(format!("{}/{group}", self.name)),
        }
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&excerpt(&self.name, NAME_BYTES))?;
        match self.group {
            None => Ok(()),
            Some(group) => write!(f, "/{group}"),
        }
    }
}

impl FromStr for ScopeId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError::Scope(shown(text.as_bytes()));
        let (name, group) = match text.split_once('/') {
            None => (text, None),
            Some((name, digits)) => (name, Some(group_number(digits).ok_or_else(wrong)?)),
        };
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(wrong());
        }
        Ok(Self {
            name: name.into(),
            group,
        })
    }
}

impl Serialize for ScopeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.path())
    }
}

impl<'de> Deserialize<'de> for ScopeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Patroni's own rule for a group folder: a number without leading zeros.
pub(super) fn is_group(segment: &str) -> bool {
    !segment.is_empty()
        && segment.bytes().all(|byte| byte.is_ascii_digit())
        && (segment == "0" || !segment.starts_with('0'))
}

/// The number of a group folder; none for anything else, and for a number that is out of range.
pub(super) fn group_number(segment: &str) -> Option<u32> {
    // Citus keeps groupid as a signed 32-bit integer.
    let group: i32 = if is_group(segment) {
        segment.parse().ok()?
    } else {
        return None;
    };
    u32::try_from(group).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_and_written_as_text() {
        let citus = ScopeId {
            name: "citus".into(),
            group: Some(0),
        };
        assert_eq!("citus/0".parse::<ScopeId>().unwrap(), citus);
        assert_eq!(citus.to_string(), "citus/0");
        assert_eq!(serde_json::to_string(&citus).unwrap(), "\"citus/0\"");
        assert_eq!(
            serde_json::from_str::<ScopeId>("\"wk1\"").unwrap(),
            ScopeId::new("wk1")
        );
        for wrong in ["", "/0", "a/", "a/x", "a/0/1", "a/01", "a\n"] {
            assert!(wrong.parse::<ScopeId>().is_err(), "{wrong:?}");
        }
    }
}
