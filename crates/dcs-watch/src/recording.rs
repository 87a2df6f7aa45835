//! Recorded events: JSON lines as `dcs-watch --output json` writes them.
//!
//! Enters: one line of text. Leaves: a note or an event, or a [`LineError`] that says what is wrong
//! with the line. [`EventFields`] is the way back: the fields of an event in such a line.

use serde::{Deserialize, Serialize};

use crate::event::{Event, Record};
use crate::text::{excerpt, quoted};

/// Bytes that an error shows of what the JSON parser says, which may quote the line.
const PARSER_BYTES: usize = 300;

/// One line of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Seconds since the recording began.
    pub t: f64,
    /// The content of the line.
    pub entry: Entry,
}

/// The content of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// What was done at that moment, in plain text.
    Note(String),
    /// A put or a delete.
    Event(Event),
}

/// What is wrong with a line. Displayed without control characters, and bounded.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or a field of the wrong type or missing.
    #[error("not a line of a recording: {}", excerpt(&.0.to_string(), PARSER_BYTES))]
    Json(#[from] serde_json::Error),
    /// An event that is neither put nor delete.
    #[error("event {} is neither \"put\" nor \"delete\"", quoted(.0))]
    Event(String),
    /// Neither a note, nor an event with a key.
    #[error("the line has neither a note nor an event with a key")]
    Neither,
}

#[derive(Deserialize)]
struct RawLine {
    #[serde(default)]
    t: f64,
    note: Option<String>,
    event: Option<String>,
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    mod_revision: i64,
    #[serde(default)]
    create_revision: i64,
    #[serde(default)]
    version: i64,
    #[serde(default)]
    lease: i64,
}

/// Reads one line.
pub fn parse(line: &str) -> Result<Line, LineError> {
    let raw: RawLine = serde_json::from_str(line)?;
    let entry = match (raw.event.as_deref(), raw.note, raw.key) {
        (Some(word), _, Some(key)) => {
            let record = Record {
                key: key.into_bytes(),
                value: raw.value.unwrap_or_default().into_bytes(),
                mod_revision: raw.mod_revision,
                create_revision: raw.create_revision,
                version: raw.version,
                lease: raw.lease,
            };
            match word {
                "put" => Entry::Event(Event::Put(record)),
                "delete" => Entry::Event(Event::Delete(record)),
                other => return Err(LineError::Event(other.to_owned())),
            }
        }
        (_, Some(note), _) => Entry::Note(note),
        _ => return Err(LineError::Neither),
    };
    Ok(Line { t: raw.t, entry })
}

/// The fields of an event in a line; bytes that are not UTF-8 are replaced by U+FFFD.
#[derive(Debug, Serialize)]
pub struct EventFields<'a> {
    /// `put`, `delete`, or `list` for a key of a list.
    pub event: &'a str,
    /// The whole key.
    pub key: String,
    /// The whole value; none for a delete and for an empty value.
    pub value: Option<String>,
    /// See [`Record::mod_revision`].
    pub mod_revision: i64,
    /// See [`Record::create_revision`].
    pub create_revision: i64,
    /// See [`Record::version`].
    pub version: i64,
    /// See [`Record::lease`].
    pub lease: i64,
}

impl<'a> EventFields<'a> {
    /// The fields of one event.
    pub fn new(event: &'a str, record: &Record) -> Self {
        Self {
            event,
            key: String::from_utf8_lossy(&record.key).into_owned(),
            value: (!record.value.is_empty())
                .then(|| String::from_utf8_lossy(&record.value).into_owned()),
            mod_revision: record.mod_revision,
            create_revision: record.create_revision,
            version: record.version,
            lease: record.lease,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_events_are_told_apart() {
        let note = parse(r#"{"t": 1.5, "note": "planned switchover"}"#).unwrap();
        assert_eq!(
            note,
            Line {
                t: 1.5,
                entry: Entry::Note("planned switchover".into())
            }
        );
        let put = parse(
            r#"{"t":2,"event":"put","key":"/service/wk1/leader","value":"pg1","mod_revision":9,
                "create_revision":8,"version":2,"lease":7}"#,
        )
        .unwrap();
        assert_eq!(
            put.entry,
            Entry::Event(Event::Put(Record {
                key: b"/service/wk1/leader".to_vec(),
                value: b"pg1".to_vec(),
                mod_revision: 9,
                create_revision: 8,
                version: 2,
                lease: 7,
            }))
        );
    }

    #[test]
    fn a_null_value_is_an_empty_one() {
        let line = parse(r#"{"t":0,"event":"delete","key":"/a","value":null,"mod_revision":3}"#);
        let Entry::Event(Event::Delete(record)) = line.unwrap().entry else {
            panic!()
        };
        assert_eq!((record.value.len(), record.mod_revision), (0, 3));
    }

    #[test]
    fn a_line_that_is_not_of_a_recording_is_refused_with_a_reason() {
        assert!(matches!(parse("nonsense"), Err(LineError::Json(_))));
        assert!(matches!(parse(r#"{"t":0}"#), Err(LineError::Neither)));
        assert!(matches!(
            parse(r#"{"t":0,"event":"put"}"#),
            Err(LineError::Neither)
        ));
        assert!(matches!(
            parse(r#"{"t":0,"event":"poke","key":"/a"}"#),
            Err(LineError::Event(_))
        ));
    }

    #[test]
    fn an_error_about_a_hostile_line_is_clean_and_bounded() {
        let hostile = format!("\\u001b\\u202e{}", "x".repeat(66_000));
        for line in [
            format!(r#"{{"t":"{hostile}"}}"#),
            format!(r#"{{"event":"{hostile}","key":"/a"}}"#),
        ] {
            let message = parse(&line).unwrap_err().to_string();
            assert!(!message.contains(crate::text::is_control), "{message:?}");
            assert!(message.len() < 400, "{} bytes", message.len());
        }
    }
}
