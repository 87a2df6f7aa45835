//! A switchover or failover that was requested, under `failover`.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::{ValueError, wrong};
use super::json::{self, get, kind, name, object};
use crate::text::quoted;

/// A switchover or failover that was requested and has not happened yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailoverRequest {
    /// The leader that is to step down; `patronictl failover` names none.
    pub leader: Option<String>,
    /// The member that is to take over.
    pub candidate: Option<String>,
    /// When it is due; none for at once.
    #[serde(with = "time::serde::rfc3339::option")]
    pub scheduled_at: Option<OffsetDateTime>,
}

/// Reads the failover key: JSON, or `leader:candidate` as old tools wrote it. None when it requests
/// nothing (empty, `{}`, `null`), which is how Patroni clears it.
pub fn failover(value: &[u8]) -> Result<Option<FailoverRequest>, ValueError> {
    let raw = json::text(value)?.trim();
    if raw.is_empty() || raw == "null" {
        return Ok(None);
    }
    if !raw.starts_with(['{', '[', '"']) {
        if raw.contains(char::is_control) || raw.parse::<f64>().is_ok() {
            return wrong(format!("{} is not a failover request", quoted(value)));
        }
        let (leader, candidate) = raw.split_once(':').unwrap_or((raw, ""));
        let name = |name: &str| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        return Ok(request(name(leader), name(candidate), None));
    }
    let object = object(raw)?;
    let scheduled_at = match get(&object, "scheduled_at") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        // A time that cannot be read must not turn into "at once".
        Some(Value::String(text)) => Some(instant(text).ok_or_else(|| {
            ValueError::new(format!(
                "scheduled_at: {} is not a time with an offset",
                quoted(text)
            ))
        })?),
        Some(other) => {
            return wrong(format!(
                "scheduled_at: expected text, found {}",
                kind(other)
            ));
        }
    };
    let leader = name(&object, "leader")?;
    let candidate = name(&object, "member")?;
    Ok(request(leader, candidate, scheduled_at))
}

fn request(
    leader: Option<String>,
    candidate: Option<String>,
    scheduled_at: Option<OffsetDateTime>,
) -> Option<FailoverRequest> {
    // Names neither a leader to step down nor a candidate: Patroni ignores it.
    (leader.is_some() || candidate.is_some()).then_some(FailoverRequest {
        leader,
        candidate,
        scheduled_at,
    })
}

/// Reads a time as Python's `isoformat()` writes it, with an offset in any of the usual forms. None
/// for anything else, a time without an offset included.
fn instant(text: &str) -> Option<OffsetDateTime> {
    let text = text.trim();
    if !text.is_ascii() || text.len() < 16 {
        return None;
    }
    let (date, clock) = (&text[..10], &text[11..]);
    if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let (clock, offset) = match clock.find(['Z', 'z', '+', '-']) {
        Some(at) => clock.split_at(at),
        // Without an offset it could mean any hour.
        None => return None,
    };
    let clock = clock.trim_end();
    let clock = if clock.len() == 5 {
        format!("{clock}:00")
    } else {
        clock.to_owned()
    };
    let offset = match (offset.len(), offset.contains(':')) {
        (1, _) => "Z".to_owned(),
        (3, false) => format!("{offset}:00"),
        (5, false) => format!("{}:{}", &offset[..3], &offset[3..]),
        (6, true) => offset.to_owned(),
        _ => return None,
    };
    OffsetDateTime::parse(&format!("{date}T{clock}{offset}"), &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::refused;

    #[test]
    fn a_failover_request_is_json_or_two_names() {
        let asked = |text: &str| failover(text.as_bytes()).unwrap();
        let names = |text: &str| {
            asked(text).map(|request| {
                (
                    request.leader.unwrap_or_default(),
                    request.candidate.unwrap_or_default(),
                )
            })
        };
        let pair = |leader: &str, candidate: &str| Some((leader.to_owned(), candidate.to_owned()));
        assert_eq!(names(r#"{"leader":"a","member":"b"}"#), pair("a", "b"));
        assert_eq!(names(r#"{"leader":"a"}"#), pair("a", ""));
        assert_eq!(names(r#"{"member":"b"}"#), pair("", "b"));
        assert_eq!(names(r#"{"leader":"","member":"b"}"#), pair("", "b"));
        assert_eq!(names("a:b"), pair("a", "b"));
        assert_eq!(names("a"), pair("a", ""));
        assert_eq!(names(" a : b "), pair("a", "b"));
        assert_eq!(names(":b"), pair("", "b"));
        for cleared in [
            "",
            "{}",
            "null",
            "  ",
            ":",
            r#"{"leader":null}"#,
            r#"{"leader":"","member":""}"#,
        ] {
            assert_eq!(asked(cleared), None, "{cleared:?}");
        }
        refused(
            failover(br#"{"leader":["a"]}"#),
            "leader: expected a name, found a list",
        );
        refused(failover(b"{\"leader\":"), "is not JSON");
        refused(failover(b"[1]"), "found a list");
        refused(failover(b"\"a:b\""), "found text");
        refused(failover(b"42"), "not a failover request");
        refused(failover(b"a\0:b"), "not a failover request");
        refused(failover(b"\xff:b"), "UTF-8");
    }

    #[test]
    fn a_due_time_is_read_in_every_form_and_never_guessed() {
        let due = |text: &str| {
            let json = serde_json::json!({ "leader": "a", "scheduled_at": text }).to_string();
            failover(json.as_bytes()).map(|request| request.unwrap().scheduled_at)
        };
        let noon = time::macros::datetime!(2026-11-22 12:00:00 UTC);
        for text in [
            "2026-11-22T12:00:00+00:00",
            "2026-11-22T12:00:00Z",
            "2026-11-22 12:00:00+00:00",
            "2026-11-22T13:00:00+01:00",
            "2026-11-22T13:00:00+0100",
            "2026-11-22T13:00:00+01",
            "2026-11-22T07:00:00.000-05:00",
            "2026-11-22T12:00+00:00",
            "2026-11-22 12:00:00 +00:00",
        ] {
            assert_eq!(due(text).unwrap().unwrap(), noon, "{text}");
        }
        assert_eq!(
            due("2026-11-22T12:00:00.123456+00:00").unwrap().unwrap(),
            noon + time::Duration::microseconds(123_456)
        );
        assert_eq!(due("").unwrap(), None);
        for text in [
            "tomorrow",
            "2026-11-22T12:00:00",
            "2026-13-22T12:00:00Z",
            "12:00",
            "2026-11-22é12:00:00Z",
            "2026-11-22T12:00:00+1",
            "2026-11-22T12:00:00+00:00:30",
            "2026-11-22T25:00:00Z",
            "é".repeat(40).as_str(),
        ] {
            assert!(due(text).is_err(), "{text}");
        }
        refused(
            failover(br#"{"leader":"a","scheduled_at":1700000000}"#),
            "scheduled_at",
        );
    }
}
