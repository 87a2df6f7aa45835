//! The keys around leadership whose values are short: `leader`, `failsafe` and `initialize`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::{ValueError, wrong};
use super::json::{kind, object, text};
use crate::key::excerpt;

/// A leader's name longer than this is no member name; Patroni's are host names or so.
const LONGEST_NAME: usize = 1024;

/// The leader key: the name of a member.
pub fn leader(value: &[u8]) -> Result<String, ValueError> {
    let name = text(value)?;
    if name.trim().is_empty() {
        return wrong("the leader key is empty: expected a member's name");
    }
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return wrong(format!("{:?} is not a member's name", excerpt(value)));
    }
    Ok(name.to_owned())
}

/// The failsafe key: each member's REST address.
pub fn failsafe(value: &[u8]) -> Result<BTreeMap<String, String>, ValueError> {
    let raw = text(value)?;
    if raw.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    object(raw)?
        .into_iter()
        .map(|(name, url)| match url {
            Value::String(url) => Ok((name, url)),
            other => wrong(format!(
                "{}: expected an address, found {}",
                excerpt(name.as_bytes()),
                kind(&other)
            )),
        })
        .collect()
}

/// The initialize key: whether the first member has finished. Patroni puts it empty while it
/// bootstraps, and the system identifier afterwards.
pub fn initialized(value: &[u8]) -> bool {
    !value.is_empty()
}
