//! A position in PostgreSQL's write-ahead log.
//!
//! Enters: PostgreSQL's text (`16/B374D848`), or what Patroni writes under `status` and
//! `optime/leader`. Leaves: an [`Lsn`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::error::{ValueError, wrong};
use super::json::{json, kind, object, text};
use crate::text::quoted;

/// A position in PostgreSQL's write-ahead log: bytes since the beginning of the log. Positions on
/// different timelines compare as numbers, which says nothing about what they hold.
///
/// Written and read as PostgreSQL does it, in two halves of hexadecimal digits: `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// How many bytes this position is behind the other; 0 when it is not behind.
    pub fn behind(self, other: Self) -> u64 {
        other.0.saturating_sub(self.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ValueError;

    /// Takes what PostgreSQL's `pg_lsn` takes: one to eight hexadecimal digits on either side.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        fn half(digits: &str) -> Option<u64> {
            let plain = digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok())?
        }
        text.split_once('/')
            .and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| {
                ValueError::new(format!(
                    "{} is not a log position: expected one such as \"16/B374D848\"",
                    quoted(text)
                ))
            })
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The part of `status` that is read. The slots, a number for each member, are skipped without
/// being built.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    optime: Value,
}

/// Reads the status key, or `optime/leader`, which Patroni before 2.1 wrote instead: how far the
/// leader's log was. The value is JSON with the number of bytes as `optime`, or the number alone;
/// as in Patroni, both are taken under either key. None when there is no position in it, or zero,
/// where no log begins.
pub fn position(value: &[u8]) -> Result<Option<Lsn>, ValueError> {
    let raw = text(value)?.trim();
    let optime = match raw.as_bytes().first() {
        Some(b'{') => json::<Status>(raw)?.optime,
        Some(b'0'..=b'9' | b'-' | b'"') => json(raw)?,
        // Anything else is refused as no object, as under every other key.
        _ => Value::Object(object(raw)?),
    };
    let bytes = match &optime {
        Value::Null => Some(0),
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.trim().parse().ok(),
        _ => None,
    };
    match bytes {
        Some(0) => Ok(None),
        Some(bytes) => Ok(Some(Lsn(bytes))),
        None => wrong(format!(
            "optime: expected the number of bytes of a log position, found {}",
            match &optime {
                Value::Number(number) => number.to_string(),
                other => kind(other).to_owned(),
            }
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<u64> {
        position(value.as_bytes()).unwrap().map(|lsn| lsn.0)
    }

    #[test]
    fn the_leaders_position_is_read_as_every_patroni_writes_it() {
        for (value, bytes) in [
            (r#"{"optime":67108864}"#, 67_108_864),
            (
                r#"{"optime":67109000,"slots":{"pg2":67109000,"pg3":1},"retain_slots":["pg1"]}"#,
                67_109_000,
            ),
            (r#" {"slots":null,"optime":"24460128"} "#, 24_460_128),
            (r#"{"optime":18446744073709551615}"#, u64::MAX),
            // Before 2.1, under optime/leader.
            ("67108864", 67_108_864),
            ("\"67108864\"", 67_108_864),
        ] {
            assert_eq!(of(value), Some(bytes), "{value}");
        }
        for none in [
            "{}",
            r#"{"optime":null}"#,
            r#"{"optime":0}"#,
            "0",
            r#"{"slots":{"pg2":67109000}}"#,
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_position_that_cannot_be_read_is_refused() {
        for (value, text) in [
            ("", "the value is empty"),
            ("null", "expected a JSON object, found null"),
            ("[67108864]", "expected a JSON object, found a list"),
            ("true", "expected a JSON object, found true or false"),
            ("pg1", "is not JSON"),
            ("6710x", "is not JSON"),
            ("0/4000000", "is not JSON"),
            (r#"{"optime":67108864"#, "is not JSON"),
            (r#"{"optime":1} {"optime":2}"#, "is not JSON"),
            (r#"{"optime":-1}"#, "found -1"),
            ("-1", "found -1"),
            (r#"{"optime":1.5}"#, "found 1.5"),
            (
                r#"{"optime":18446744073709551616}"#,
                "found 1.8446744073709552e+19",
            ),
            (r#"{"optime":"0/4000000"}"#, "found text"),
            (r#"{"optime":""}"#, "found text"),
            (r#"{"optime":{}}"#, "found an object"),
            (r#"{"optime":[1]}"#, "found a list"),
            (r#"{"optime":false}"#, "found true or false"),
        ] {
            let message = position(value.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(text), "{value:?}: {message}");
        }
        assert!(position(b"{\"optime\":\xff}").is_err());
        // Neither a deep value nor a long one is a danger.
        let deep = format!(r#"{{"slots":{}1"#, "[".repeat(1_000_000));
        let long = format!(r#"{{"optime":{}}}"#, "9".repeat(300));
        for value in [deep, long, "[".repeat(1_000_000)] {
            let message = position(value.as_bytes()).unwrap_err().to_string();
            assert!(message.len() < 600, "{} bytes of message", message.len());
        }
    }

    #[test]
    fn a_position_is_read_and_written_as_postgresql_does_it() {
        for (text, number) in [
            ("0/0", 0),
            ("0/1", 1),
            ("16/B374D848", 0x16_B374_D848),
            ("1/0", 1 << 32),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse::<Lsn>().unwrap(), Lsn(number));
            assert_eq!(Lsn(number).to_string(), text);
            let json = serde_json::to_string(&Lsn(number)).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Lsn>(&json).unwrap(), Lsn(number));
        }
        // Other spellings that PostgreSQL takes too.
        assert_eq!("16/b374d848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!("00000001/0000000A".parse(), Ok(Lsn((1 << 32) + 10)));
    }

    #[test]
    fn text_that_is_no_position_is_refused() {
        for wrong in [
            "",
            "/",
            "1/",
            "/1",
            "1",
            "1/2/3",
            "0x1/0",
            "+1/0",
            "1/-1",
            " 1/0",
            "1/0\n",
            "G/0",
            "100000000/0",
            "0/000000001",
            "1/é",
        ] {
            let error = wrong.parse::<Lsn>().unwrap_err();
            assert!(error.to_string().contains("expected"), "{wrong:?}: {error}");
        }
        assert!(serde_json::from_str::<Lsn>("1").is_err());
    }

    #[test]
    fn positions_compare_as_numbers() {
        assert!(Lsn(0xFFFF_FFFF) < "1/0".parse().unwrap());
        assert_eq!(Lsn(100).behind(Lsn(130)), 30);
        assert_eq!(Lsn(130).behind(Lsn(100)), 0);
    }
}
