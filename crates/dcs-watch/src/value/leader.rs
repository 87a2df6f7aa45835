//! The keys around leadership whose values are short: `leader`, `failsafe` and `initialize`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::{ValueError, wrong};
use super::json::{self, kind, object};
use crate::text::{NAME_BYTES, excerpt, quoted};

/// A longer leader's name, in bytes, is no member name: Patroni's are host names or much like them.
const LONGEST_NAME: usize = 1024;

/// Reads the leader key: the name of a member, not empty, without control characters, and at most
/// 1024 bytes long.
pub fn leader(value: &[u8]) -> Result<String, ValueError> {
    let name = json::text(value)?;
    if name.trim().is_empty() {
        return wrong("the leader key is empty: expected a member's name");
    }
    if name.len() > LONGEST_NAME || name.contains(char::is_control) {
        return wrong(format!("{} is not a member's name", quoted(value)));
    }
    Ok(name.to_owned())
}

/// Reads the failsafe key: the REST address of each member by its name.
pub fn failsafe(value: &[u8]) -> Result<BTreeMap<String, String>, ValueError> {
    let raw = json::text(value)?;
    if raw.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    object(raw)?
        .into_iter()
        .map(|(name, url)| match url {
            Value::String(url) => Ok((name, url)),
            other => wrong(format!(
                "{}: expected an address, found {}",
                excerpt(&name, NAME_BYTES),
                kind(&other)
            )),
        })
        .collect()
}

/// Reads the initialize key: whether the first member has finished its bootstrap. Patroni writes it
/// empty before, and with the system identifier afterwards.
pub fn initialized(value: &[u8]) -> bool {
    !value.is_empty()
}
