//! The keys around leadership whose values are short: `leader` and `failsafe`.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::refused;

    #[test]
    fn a_leader_key_holds_the_name_of_a_member() {
        assert_eq!(leader(b"pg1").unwrap(), "pg1");
        assert_eq!(
            leader("håst-1.example".as_bytes()).unwrap(),
            "håst-1.example"
        );
        refused(leader(b""), "empty");
        refused(leader(b"   "), "empty");
        refused(leader(b"\xff\xfe"), "UTF-8");
        refused(leader(b"pg1\n"), "not a member's name");
        refused(leader(&vec![b'x'; 5000]), "not a member's name");
    }

    #[test]
    fn the_failsafe_key_names_the_members_and_their_addresses() {
        let members =
            failsafe(br#"{"a":"http://a:8008/patroni","b":"http://b:8008/patroni"}"#).unwrap();
        assert_eq!(members.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(failsafe(b"").unwrap().is_empty());
        refused(
            failsafe(br#"{"a":1}"#),
            "a: expected an address, found a number",
        );
        refused(failsafe(b"[]"), "found a list");
    }
}
