//! A position in PostgreSQL's log.
//!
//! Enters: PostgreSQL's text (`16/B374D848`), or a number of bytes as Patroni writes it. Leaves: an
//! [`Lsn`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ValueError;
use crate::key::excerpt;

/// A position in PostgreSQL's write-ahead log: bytes since the beginning of the log. Positions on
/// different timelines compare as numbers, which says nothing about what they hold.
///
/// Written and read as PostgreSQL does it, in two halves of hexadecimal digits: `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// How many bytes this position is behind the other; none at all when it is not.
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
                ValueError(format!(
                    "{:?} is not a log position: expected one such as \"16/B374D848\"",
                    excerpt(text.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_no_position_is_refused() {
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
