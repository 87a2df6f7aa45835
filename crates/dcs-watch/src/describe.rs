//! What a change of a key means, in words for a person.
//!
//! Enters: the key's field, the value before and the value now. Leaves: one line without the
//! scope. A change that cannot be read is told as what it is.

use crate::key::{Field, excerpt};
use crate::value::{self, FailoverRequest, Member, SyncState};

/// One line about a change; `None` stands for a key that is not there.
pub fn describe(field: &Field, before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    match field {
        Field::Leader => leader(before, now),
        Field::Member(name) => member(name, before, now),
        Field::Sync => sync(now),
        Field::Failover => failover(before, now),
        Field::Config => config(before, now),
        Field::Initialize => match now {
            None => "cluster identity is gone".to_owned(),
            Some([]) => "first member bootstraps".to_owned(),
            Some(id) => format!("cluster is initialized, system identifier {}", excerpt(id)),
        },
        Field::Failsafe => match now.map(value::failsafe) {
            None => "failsafe members are gone".to_owned(),
            Some(Ok(members)) => {
                let names: Vec<_> = members.keys().map(String::as_str).collect();
                format!("failsafe members: {}", list(&names))
            }
            Some(Err(error)) => malformed("failsafe", &error),
        },
        Field::Status | Field::Optime => match now.map(value::position) {
            Some(Err(error)) => malformed(&field.to_string(), &error),
            _ => as_it_is(field, now),
        },
        Field::History | Field::Other(_) => as_it_is(field, now),
    }
}

fn as_it_is(field: &Field, now: Option<&[u8]>) -> String {
    match now {
        None => format!("{field} is gone"),
        Some(value) => format!("{field}: {}", excerpt(value)),
    }
}

fn malformed(what: &str, error: &value::ValueError) -> String {
    format!("{what} cannot be read and counts as absent: {error}")
}

fn leader(before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    let before = before.and_then(|value| value::leader(value).ok());
    match (before, now.map(value::leader)) {
        (Some(before), None) => format!("no leader: the leader key of {before} is gone"),
        (None, None) => "no leader: the leader key is gone".to_owned(),
        (_, Some(Err(error))) => malformed("leader key", &error),
        (Some(before), Some(Ok(now))) if before == now => {
            format!("leader is {now}, with a new leader key")
        }
        (Some(before), Some(Ok(now))) => format!("leader is {now}, was {before}"),
        (None, Some(Ok(now))) => format!("leader is {now}"),
    }
}

fn member(name: &str, before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    let before = before.and_then(|value| value::member(value).ok());
    match (before, now.map(value::member)) {
        (_, None) => format!("member {name} is gone"),
        (_, Some(Err(error))) => malformed(&format!("member {name}"), &error),
        (None, Some(Ok(now))) => {
            let address = now.address.as_ref().map_or_else(
                || "no address".to_owned(),
                |address| format!("at {address}"),
            );
            format!("member {name}: {}, {address}", standing(&now))
        }
        (Some(before), Some(Ok(now))) if before == now => {
            format!("member {name}: only positions changed")
        }
        (Some(before), Some(Ok(now))) => {
            format!("member {name}: {}", differences(&before, &now).join(", "))
        }
    }
}

fn standing(member: &Member) -> String {
    let mut words = format!(
        "{} {}",
        or_nothing(&member.state),
        or_nothing(member.role.as_str())
    );
    for (tag, set) in [
        ("nofailover", member.nofailover),
        ("nosync", member.nosync),
        ("noloadbalance", member.noloadbalance),
        ("paused", member.paused),
        ("pending restart", member.pending_restart),
    ] {
        if set {
            words.push_str(", ");
            words.push_str(tag);
        }
    }
    words
}

fn differences(before: &Member, now: &Member) -> Vec<String> {
    let mut said = Vec::new();
    let mut changed = |what: &str, before: String, now: String| {
        if before != now {
            said.push(format!(
                "{what} {} (was {})",
                or_nothing(&now),
                or_nothing(&before)
            ));
        }
    };
    changed("state", before.state.clone(), now.state.clone());
    changed("role", before.role.to_string(), now.role.to_string());
    let address = |member: &Member| {
        member
            .address
            .as_ref()
            .map_or_else(String::new, ToString::to_string)
    };
    changed("address", address(before), address(now));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    changed("REST address", text(&before.api_url), text(&now.api_url));
    changed("version", text(&before.version), text(&now.version));
    let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
    changed("timeline", number(before.timeline), number(now.timeline));
    let mut switched = |what: &str, before: bool, now: bool| {
        changed(what, before.to_string(), now.to_string());
    };
    switched("nofailover", before.nofailover, now.nofailover);
    switched("nosync", before.nosync, now.nosync);
    switched("noloadbalance", before.noloadbalance, now.noloadbalance);
    switched(
        "pending restart",
        before.pending_restart,
        now.pending_restart,
    );
    switched("paused", before.paused, now.paused);
    said
}

fn sync(now: Option<&[u8]>) -> String {
    match now.map(value::sync) {
        None => "synchronous standbys are gone".to_owned(),
        Some(Err(error)) => malformed("sync", &error),
        Some(Ok(SyncState { leader: None, .. })) => "no synchronous replication".to_owned(),
        Some(Ok(SyncState {
            leader: Some(leader),
            standbys,
            quorum,
        })) => {
            let names: Vec<_> = standbys.iter().map(String::as_str).collect();
            let quorum = if quorum > 0 {
                format!(", quorum {quorum}")
            } else {
                String::new()
            };
            format!("synchronous standbys of {leader}: {}{quorum}", list(&names))
        }
    }
}

fn failover(before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    let asked = |value: Option<&[u8]>| value.map_or(Ok(None), value::failover);
    match (asked(before), asked(now)) {
        (_, Err(error)) => malformed("failover request", &error),
        (Ok(Some(_)), Ok(None)) => "failover request is done or withdrawn".to_owned(),
        (_, Ok(None)) => "no failover request".to_owned(),
        (
            _,
            Ok(Some(FailoverRequest {
                leader,
                candidate,
                scheduled_at,
            })),
        ) => {
            let from = leader.unwrap_or_else(|| "the leader".to_owned());
            let to = candidate.unwrap_or_else(|| "any member".to_owned());
            let when = scheduled_at.map_or_else(|| "now".to_owned(), |at| format!("at {at}"));
            format!("switchover asked for, from {from} to {to}, {when}")
        }
    }
}

fn config(before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    let paused = |value: &[u8]| value::config(value).is_ok_and(|config| config.paused);
    match now.map(|now| (now, value::config(now))) {
        None => "configuration is gone".to_owned(),
        Some((_, Err(error))) => malformed("configuration", &error),
        Some((_, Ok(now))) => match (before.is_some_and(paused), now.paused) {
            (false, true) => "paused".to_owned(),
            (true, false) => "resumed".to_owned(),
            (true, true) => "configuration changed, still paused".to_owned(),
            (false, false) => "configuration changed".to_owned(),
        },
    }
}

fn or_nothing(word: &str) -> &str {
    if word.is_empty() { "unknown" } else { word }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(field: &Field, before: Option<&str>, now: Option<&str>) -> String {
        describe(field, before.map(str::as_bytes), now.map(str::as_bytes))
    }

    #[test]
    fn a_leader_comes_changes_and_goes() {
        let leader = Field::Leader;
        assert_eq!(said(&leader, None, Some("pg1")), "leader is pg1");
        assert_eq!(
            said(&leader, Some("pg1"), Some("pg2")),
            "leader is pg2, was pg1"
        );
        assert_eq!(
            said(&leader, Some("pg1"), Some("pg1")),
            "leader is pg1, with a new leader key"
        );
        assert_eq!(
            said(&leader, Some("pg1"), None),
            "no leader: the leader key of pg1 is gone"
        );
        assert_eq!(
            said(&leader, None, None),
            "no leader: the leader key is gone"
        );
        assert!(said(&leader, None, Some("")).contains("cannot be read"));
    }

    #[test]
    fn a_member_is_told_by_what_changed() {
        let field = Field::Member("pg1".into());
        let running = r#"{"conn_url":"postgres://h:5432/x","state":"running","role":"replica","xlog_location":1}"#;
        let further = r#"{"conn_url":"postgres://h:5432/x","state":"running","role":"replica","xlog_location":2}"#;
        let promoted = r#"{"conn_url":"postgres://h:5432/x","state":"running","role":"primary","timeline":2,"tags":{"nosync":true}}"#;
        assert_eq!(
            said(&field, None, Some(running)),
            "member pg1: running replica, at h:5432"
        );
        assert_eq!(
            said(&field, Some(running), Some(further)),
            "member pg1: only positions changed"
        );
        assert_eq!(
            said(&field, Some(running), Some(promoted)),
            "member pg1: role primary (was replica), timeline 2 (was unknown), nosync true (was false)"
        );
        assert_eq!(
            said(&field, None, Some(promoted)),
            "member pg1: running primary, nosync, at h:5432"
        );
        assert_eq!(said(&field, Some(running), None), "member pg1 is gone");
        assert!(said(&field, Some(running), Some("[]")).contains("cannot be read"));
    }

    #[test]
    fn the_rest_is_told_in_words_too() {
        assert_eq!(
            said(
                &Field::Sync,
                None,
                Some(r#"{"leader":"a","sync_standby":"b,c","quorum":1}"#)
            ),
            "synchronous standbys of a: b, c, quorum 1"
        );
        assert_eq!(
            said(
                &Field::Sync,
                None,
                Some(r#"{"leader":"a","sync_standby":null}"#)
            ),
            "synchronous standbys of a: none"
        );
        let asked = r#"{"leader":"a","member":"b"}"#;
        assert_eq!(
            said(&Field::Failover, None, Some(asked)),
            "switchover asked for, from a to b, now"
        );
        assert_eq!(
            said(&Field::Failover, Some(asked), Some("{}")),
            "failover request is done or withdrawn"
        );
        let (on, off) = (r#"{"pause":true}"#, r#"{"ttl":30}"#);
        assert_eq!(said(&Field::Config, Some(off), Some(on)), "paused");
        assert_eq!(said(&Field::Config, Some(on), Some(off)), "resumed");
        assert_eq!(
            said(&Field::Config, Some(off), Some(off)),
            "configuration changed"
        );
        assert_eq!(
            said(&Field::Initialize, None, Some("")),
            "first member bootstraps"
        );
        assert_eq!(said(&Field::History, None, Some("[]")), "history: []");
        let status = r#"{"optime":67108864}"#;
        assert_eq!(
            said(&Field::Status, None, Some(status)),
            format!("status: {status}")
        );
        assert_eq!(
            said(&Field::Optime, None, Some("67108864")),
            "optime/leader: 67108864"
        );
        assert_eq!(said(&Field::Status, Some(status), None), "status is gone");
        assert!(said(&Field::Status, None, Some("[]")).starts_with("status cannot be read"));
    }
}
