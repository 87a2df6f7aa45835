//! The synchronous standbys, under `sync`.

use serde::Serialize;

use super::error::{ValueError, wrong};
use super::json::{get, integer, kind, name, object, text};

/// The synchronous standbys: members that have every committed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SyncState {
    /// The leader to which the standbys are synchronous.
    pub leader: Option<String>,
    /// Their names, in Patroni's order.
    pub standbys: Vec<String>,
    /// With quorum commit (Patroni 4.0 on): how many of the standbys a failover must reach. Then
    /// not every standby has every transaction.
    pub quorum: u32,
}

/// Reads the sync key. An empty one names no standby.
pub fn sync(value: &[u8]) -> Result<SyncState, ValueError> {
    let raw = text(value)?;
    if raw.trim().is_empty() {
        return Ok(SyncState::default());
    }
    let object = object(raw)?;
    let leader = name(&object, "leader")?;
    let standbys = name(&object, "sync_standby")?.map_or_else(Vec::new, |names| {
        names
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    });
    let quorum = match get(&object, "quorum") {
        None => 0,
        Some(number) => match integer(number).and_then(|number| u32::try_from(number).ok()) {
            Some(number) => number,
            // Not zero: that would promise that every standby has everything.
            None => return wrong(format!("quorum: expected a count, found {}", kind(number))),
        },
    };
    // As in Patroni: without a leader the rest means nothing.
    if leader.is_none() {
        return Ok(SyncState::default());
    }
    Ok(SyncState {
        leader,
        standbys,
        quorum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::refused;

    #[test]
    fn the_sync_key_names_no_standby_one_or_several() {
        let state = |json: &str| sync(json.as_bytes()).unwrap();
        let one = state(r#"{"leader":"a","sync_standby":"b"}"#);
        assert_eq!(
            (one.leader.as_deref(), one.standbys, one.quorum),
            (Some("a"), vec!["b".into()], 0)
        );
        assert_eq!(
            state(r#"{"leader":"a","sync_standby":null}"#).standbys,
            Vec::<String>::new()
        );
        assert_eq!(
            state(r#"{"leader":"a","sync_standby":""}"#).standbys,
            Vec::<String>::new()
        );
        let several = state(r#"{"leader":"a","quorum":1,"sync_standby":"b, c,,d"}"#);
        assert_eq!(
            (several.standbys, several.quorum),
            (vec!["b".into(), "c".into(), "d".into()], 1)
        );
        assert_eq!(state(r#"{"leader":"a","quorum":"2"}"#).quorum, 2);
        for empty in [
            "",
            "{}",
            r#"{"leader":null,"sync_standby":"b","quorum":1}"#,
            r#"{"leader":""}"#,
        ] {
            assert_eq!(state(empty), SyncState::default(), "{empty}");
        }
        refused(sync(b"null"), "found null");
        refused(
            sync(br#"{"leader":1}"#),
            "leader: expected a name, found a number",
        );
        refused(
            sync(br#"{"leader":"a","sync_standby":["b"]}"#),
            "sync_standby",
        );
        refused(sync(br#"{"leader":"a","quorum":-1}"#), "quorum");
        refused(sync(br#"{"leader":"a","quorum":1.5}"#), "quorum");
        refused(sync(b"pg2"), "is not JSON");
    }
}
