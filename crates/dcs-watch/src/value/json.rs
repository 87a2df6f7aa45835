//! JSON as Patroni writes it, read leniently: what its values are made of.
//!
//! Enters: raw value bytes. Leaves: text, objects and their fields, or a [`ValueError`].

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::{ValueError, wrong};
use crate::text::quoted;

/// The value as text.
pub(super) fn text(value: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(value)
        .map_err(|_| ValueError::new(format!("{} is not UTF-8", quoted(value))))
}

/// The value as a JSON object.
pub(super) fn object(raw: &str) -> Result<Map<String, Value>, ValueError> {
    if raw.is_empty() {
        return wrong("the value is empty: expected a JSON object");
    }
    match json(raw)? {
        Value::Object(object) => Ok(object),
        other => wrong(format!("expected a JSON object, found {}", kind(&other))),
    }
}

/// The value as JSON of a type.
pub(super) fn json<T: DeserializeOwned>(raw: &str) -> Result<T, ValueError> {
    serde_json::from_str(raw)
        .map_err(|error| ValueError::new(format!("{} is not JSON: {error}", redacted(raw))))
}

/// The beginning of a broken value for a message, without the password that a connection URL in it
/// may carry.
fn redacted(raw: &str) -> String {
    if raw.contains("://") {
        quoted("…")
    } else {
        quoted(raw)
    }
}

/// A field that is there and is not null.
pub(super) fn get<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|value| !value.is_null())
}

/// A field that is text, else none: for fields on which no decision hangs.
pub(super) fn string(object: &Map<String, Value>, field: &str) -> Option<String> {
    get(object, field)
        .and_then(Value::as_str)
        .map(str::to_owned)
}

/// A field with a member's name; none when it is absent, null or empty.
pub(super) fn name(object: &Map<String, Value>, field: &str) -> Result<Option<String>, ValueError> {
    match get(object, field) {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone()).filter(|name| !name.is_empty())),
        Some(other) => wrong(format!("{field}: expected a name, found {}", kind(other))),
    }
}

/// True as Patroni reads it: the boolean, and what people write for it in YAML.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_i64() == Some(1),
        Value::String(word) => ["true", "on", "yes", "1"]
            .iter()
            .any(|yes| word.eq_ignore_ascii_case(yes)),
        _ => false,
    }
}

/// A whole number, also one in quotes.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(digits) => digits.trim().parse().ok(),
        _ => None,
    }
}

/// The kind of a JSON value, for a message.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
