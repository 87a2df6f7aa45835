//! A change of a key in one line of text for people.
//!
//! Enters: the key's field, the value before and the value now. Leaves: one line, without the
//! scope, escaped and cut to a bound. A value that cannot be read is described as such.

use std::borrow::Cow;

use crate::key::Field;
use crate::text::{EXCERPT_BYTES, NAME_BYTES, excerpt, excerpt_bytes};
use crate::value::{self, FailoverRequest, Member, SyncState, ValueError};

/// Bytes of a line: room for a hundred names of the usual length.
const LINE_BYTES: usize = 4000;

/// Describes one change; `None` stands for a key that is not there. The line has no control
/// characters and is at most some 4000 bytes long, however long the values are.
pub fn describe(field: &Field, before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    let line = match field {
        Field::Leader => leader(before, now),
        Field::Member(name) => member(name, before, now),
        Field::Sync => sync(now),
        Field::Failover => failover(before, now),
        Field::Config => config(before, now),
        Field::Initialize => initialize(now),
        Field::Failsafe => failsafe(now),
        Field::Status | Field::Optime => position(field, now),
        Field::History | Field::Other(_) => as_it_is(field, now),
    };
    excerpt(&line, LINE_BYTES).into_owned()
}

fn leader(before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    let before = before.and_then(|value| value::leader(value).ok());
    match (before, now.map(value::leader)) {
        (Some(before), None) => {
            format!("no leader: the leader key of {} is gone", shown(&before))
        }
        (None, None) => "no leader: the leader key is gone".to_owned(),
        (_, Some(Err(error))) => malformed("leader key", &error),
        (Some(before), Some(Ok(now))) if before == now => {
            format!("leader is {}, with a new leader key", shown(&now))
        }
        (Some(before), Some(Ok(now))) => {
            format!("leader is {}, was {}", shown(&now), shown(&before))
        }
        (None, Some(Ok(now))) => format!("leader is {}", shown(&now)),
    }
}

fn member(name: &str, before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    let member = format!("member {}", shown(name));
    let before = before.and_then(|value| value::member(value).ok());
    match (before, now.map(value::member)) {
        (_, None) => format!("{member} is gone"),
        (_, Some(Err(error))) => malformed(&member, &error),
        (None, Some(Ok(now))) => {
            let address = now.address.as_ref().map_or_else(
                || "no address".to_owned(),
                |address| format!("at {address}"),
            );
            format!("{member}: {}, {address}", condition(&now))
        }
        (Some(before), Some(Ok(now))) if before == now => {
            format!("{member}: only positions changed")
        }
        (Some(before), Some(Ok(now))) => format!("{member}: {}", differences(&before, &now)),
    }
}

/// A member's state, role and tags, as in `running replica, nosync`.
fn condition(member: &Member) -> String {
    let mut text = format!(
        "{} {}",
        or_unknown(&member.state),
        or_unknown(member.role.as_str())
    );
    for (tag, set) in tags(member) {
        if set {
            text.push_str(", ");
            text.push_str(tag);
        }
    }
    text
}

/// The parts of a member that differ, as in `role primary (was replica), timeline 2 (was 1)`.
fn differences(before: &Member, now: &Member) -> String {
    let changed: Vec<String> = parts(before)
        .into_iter()
        .zip(parts(now))
        .filter(|((_, before), (_, now))| before != now)
        .map(|((name, before), (_, now))| {
            format!("{name} {} (was {})", or_unknown(&now), or_unknown(&before))
        })
        .collect();
    changed.join(", ")
}

/// Each part of a member with its name; empty text for a part that is absent.
fn parts(member: &Member) -> Vec<(&'static str, String)> {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let address = member.address.as_ref().map(ToString::to_string);
    let timeline = member.timeline.map(|timeline| timeline.to_string());
    let mut parts = vec![
        ("state", member.state.clone()),
        ("role", member.role.as_str().to_owned()),
        ("address", text(&address)),
        ("REST address", text(&member.api_url)),
        ("version", text(&member.version)),
        ("timeline", text(&timeline)),
    ];
    parts.extend(tags(member).map(|(tag, set)| (tag, set.to_string())));
    parts
}

fn tags(member: &Member) -> [(&'static str, bool); 5] {
    [
        ("nofailover", member.nofailover),
        ("nosync", member.nosync),
        ("noloadbalance", member.noloadbalance),
        ("pending restart", member.pending_restart),
        ("paused", member.paused),
    ]
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
            let quorum = if quorum > 0 {
                format!(", quorum {quorum}")
            } else {
                String::new()
            };
            let names = list(&standbys);
            format!(
                "synchronous standbys of {}: {names}{quorum}",
                shown(&leader)
            )
        }
    }
}

fn failover(before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    let request = |value: Option<&[u8]>| value.map_or(Ok(None), value::failover);
    match (request(before), request(now)) {
        (_, Err(error)) => malformed("failover request", &error),
        (Ok(Some(_)), Ok(None)) => "failover request is done or withdrawn".to_owned(),
        (_, Ok(None)) => "no failover request".to_owned(),
        (_, Ok(Some(request))) => requested(&request),
    }
}

fn requested(request: &FailoverRequest) -> String {
    let name = |name: &Option<String>, other: &str| {
        name.as_deref()
            .map_or_else(|| other.to_owned(), |name| shown(name).into_owned())
    };
    let from = name(&request.leader, "the leader");
    let to = name(&request.candidate, "any member");
    let when = request
        .scheduled_at
        .map_or_else(|| "now".to_owned(), |at| format!("at {at}"));
    format!("switchover requested from {from} to {to}, due {when}")
}

fn config(before: Option<&[u8]>, now: Option<&[u8]>) -> String {
    let paused = |value: &[u8]| value::config(value).is_ok_and(|config| config.paused);
    match now.map(value::config) {
        None => "configuration is gone".to_owned(),
        Some(Err(error)) => malformed("configuration", &error),
        Some(Ok(now)) => match (before.is_some_and(paused), now.paused) {
            (false, true) => "paused".to_owned(),
            (true, false) => "resumed".to_owned(),
            (true, true) => "configuration changed, still paused".to_owned(),
            (false, false) => "configuration changed".to_owned(),
        },
    }
}

fn initialize(now: Option<&[u8]>) -> String {
    match now.map(value::initialize) {
        None => "cluster identity is gone".to_owned(),
        Some(Ok(None)) => "first member bootstraps".to_owned(),
        Some(Ok(Some(id))) => format!("cluster is initialized, system identifier {id}"),
        Some(Err(error)) => malformed("initialize key", &error),
    }
}

fn failsafe(now: Option<&[u8]>) -> String {
    match now.map(value::failsafe) {
        None => "failsafe members are gone".to_owned(),
        Some(Ok(members)) => format!("failsafe members: {}", list(members.keys())),
        Some(Err(error)) => malformed("failsafe", &error),
    }
}

fn position(field: &Field, now: Option<&[u8]>) -> String {
    match now.map(value::position) {
        Some(Err(error)) => malformed(&field.to_string(), &error),
        _ => as_it_is(field, now),
    }
}

fn as_it_is(field: &Field, now: Option<&[u8]>) -> String {
    match now {
        None => format!("{field} is gone"),
        Some(value) => format!("{field}: {}", excerpt_bytes(value, EXCERPT_BYTES)),
    }
}

fn malformed(what: &str, error: &ValueError) -> String {
    format!("{what} cannot be read and counts as absent: {error}")
}

/// A name, or another short text of a value: escaped, and cut so that it leaves room for the rest
/// of the line.
fn shown(name: &str) -> Cow<'_, str> {
    excerpt(name, NAME_BYTES)
}

fn or_unknown(part: &str) -> Cow<'_, str> {
    shown(if part.is_empty() { "unknown" } else { part })
}

fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| shown(name.as_ref()).into_owned())
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(field: &Field, before: Option<&str>, now: Option<&str>) -> String {
        describe(field, before.map(str::as_bytes), now.map(str::as_bytes))
    }

    #[test]
    fn a_new_a_changed_and_a_deleted_leader_key_are_described() {
        let leader = Field::Leader;
        assert_eq!(line(&leader, None, Some("pg1")), "leader is pg1");
        assert_eq!(
            line(&leader, Some("pg1"), Some("pg2")),
            "leader is pg2, was pg1"
        );
        assert_eq!(
            line(&leader, Some("pg1"), Some("pg1")),
            "leader is pg1, with a new leader key"
        );
        assert_eq!(
            line(&leader, Some("pg1"), None),
            "no leader: the leader key of pg1 is gone"
        );
        assert_eq!(
            line(&leader, None, None),
            "no leader: the leader key is gone"
        );
        assert!(line(&leader, None, Some("")).contains("cannot be read"));
    }

    #[test]
    fn a_member_is_described_by_what_changed() {
        let field = Field::Member("pg1".into());
        let running = r#"{"conn_url":"postgres://h:5432/x","state":"running","role":"replica","xlog_location":1}"#;
        let further = r#"{"conn_url":"postgres://h:5432/x","state":"running","role":"replica","xlog_location":2}"#;
        let promoted = r#"{"conn_url":"postgres://h:5432/x","state":"running","role":"primary","timeline":2,"tags":{"nosync":true}}"#;
        assert_eq!(
            line(&field, None, Some(running)),
            "member pg1: running replica, at h:5432"
        );
        assert_eq!(
            line(&field, Some(running), Some(further)),
            "member pg1: only positions changed"
        );
        assert_eq!(
            line(&field, Some(running), Some(promoted)),
            "member pg1: role primary (was replica), timeline 2 (was unknown), nosync true (was false)"
        );
        assert_eq!(
            line(&field, None, Some(promoted)),
            "member pg1: running primary, nosync, at h:5432"
        );
        assert_eq!(line(&field, Some(running), None), "member pg1 is gone");
        assert!(line(&field, Some(running), Some("[]")).contains("cannot be read"));
    }

    #[test]
    fn every_other_key_has_its_own_line() {
        assert_eq!(
            line(
                &Field::Sync,
                None,
                Some(r#"{"leader":"a","sync_standby":"b,c","quorum":1}"#)
            ),
            "synchronous standbys of a: b, c, quorum 1"
        );
        assert_eq!(
            line(
                &Field::Sync,
                None,
                Some(r#"{"leader":"a","sync_standby":null}"#)
            ),
            "synchronous standbys of a: none"
        );
        let requested = r#"{"leader":"a","member":"b"}"#;
        assert_eq!(
            line(&Field::Failover, None, Some(requested)),
            "switchover requested from a to b, due now"
        );
        assert_eq!(
            line(&Field::Failover, Some(requested), Some("{}")),
            "failover request is done or withdrawn"
        );
        let (on, off) = (r#"{"pause":true}"#, r#"{"ttl":30}"#);
        assert_eq!(line(&Field::Config, Some(off), Some(on)), "paused");
        assert_eq!(line(&Field::Config, Some(on), Some(off)), "resumed");
        assert_eq!(
            line(&Field::Config, Some(off), Some(off)),
            "configuration changed"
        );
        assert_eq!(
            line(&Field::Initialize, None, Some("")),
            "first member bootstraps"
        );
        assert_eq!(line(&Field::History, None, Some("[]")), "history: []");
        let status = r#"{"optime":67108864}"#;
        assert_eq!(
            line(&Field::Status, None, Some(status)),
            format!("status: {status}")
        );
        assert_eq!(
            line(&Field::Optime, None, Some("67108864")),
            "optime/leader: 67108864"
        );
        assert_eq!(line(&Field::Status, Some(status), None), "status is gone");
        assert!(line(&Field::Status, None, Some("[]")).starts_with("status cannot be read"));
    }

    #[test]
    fn a_line_has_no_control_characters_and_is_bounded_whatever_the_values_hold() {
        let hostile = format!("a\u{1b}[31m\u{202e}\n{}", "x".repeat(66_000));
        let json = serde_json::json!({
            "conn_url": format!("postgres://{}:1/x", "h".repeat(66_000)),
            "state": hostile, "role": hostile, "api_url": hostile, "version": hostile,
            "leader": hostile, "member": hostile,
            "sync_standby": vec![hostile.as_str(); 100].join(","),
        })
        .to_string();
        let map = serde_json::json!({ (hostile.clone()): hostile }).to_string();
        let other = r#"{"leader":"m","state":"running","pause":true}"#;
        for field in [
            Field::Leader,
            Field::Member(hostile.clone()),
            Field::Sync,
            Field::Failover,
            Field::Config,
            Field::Status,
            Field::Optime,
            Field::History,
            Field::Initialize,
            Field::Failsafe,
            Field::Other(hostile.clone()),
        ] {
            for now in [hostile.as_str(), &json, &map, other] {
                for before in [None, Some(other), Some(&json)] {
                    let line = line(&field, before, Some(now));
                    assert!(!line.contains(crate::text::is_control), "{line:?}");
                    assert!(line.len() < LINE_BYTES + 30, "{} bytes", line.len());
                }
            }
        }
    }

    #[test]
    fn one_long_name_leaves_room_for_the_others() {
        let sync = format!(
            r#"{{"leader":"a","sync_standby":"{},c"}}"#,
            "b".repeat(66_000)
        );
        let line = line(&Field::Sync, None, Some(&sync));
        assert!(line.ends_with("b… (66 kB), c"), "{line}");
    }
}
