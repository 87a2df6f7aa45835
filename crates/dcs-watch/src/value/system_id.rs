//! The system identifier of a database cluster: `initdb` makes one up, and every physical copy has it.
//!
//! Enters: Patroni's `initialize` key, or a number as PostgreSQL prints it. Leaves: a [`SystemId`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{ValueError, wrong};
use super::json::text;
use crate::text::quoted;

/// The system identifier of a database cluster. A standby and a restored copy have that of the
/// server that they were copied from; `initdb` and `pg_upgrade` make another one.
///
/// Written in decimal. `pg_control_system()` gives it as a signed number, `pg_controldata` and
/// Patroni as an unsigned one; both are read, and are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SystemId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = match text.parse::<i64>() {
            Ok(signed) => Some(signed.cast_unsigned()),
            Err(_) => text.parse::<u64>().ok(),
        };
        match number.filter(|_| plain) {
            Some(number) => Ok(Self(number)),
            None => wrong(format!(
                "{} is not a system identifier: expected a number such as 7710945476581432661",
                quoted(text)
            )),
        }
    }
}

/// As text: it is larger than what JSON's readers take for exact.
impl Serialize for SystemId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SystemId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads the initialize key. Patroni writes it empty while the first member bootstraps, which is
/// none, and with the system identifier afterwards.
pub fn initialize(value: &[u8]) -> Result<Option<SystemId>, ValueError> {
    if value.is_empty() {
        return Ok(None);
    }
    text(value)?.trim().parse().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::refused;

    #[test]
    fn a_cluster_is_initialized_once_it_has_a_system_identifier() {
        let id = initialize(b"7710945476581432661").unwrap();
        assert_eq!(id, Some(SystemId(7_710_945_476_581_432_661)));
        assert_eq!(initialize(b"").unwrap(), None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for value in ["null", "{}", "12x", "+12", "-", "0x7", " ", "1 2"] {
            refused(initialize(value.as_bytes()), "is not a system identifier");
        }
        let long = "9".repeat(100_000);
        refused(initialize(long.as_bytes()), "is not a system identifier");
        refused(initialize(b"\xff"), "UTF-8");
    }

    #[test]
    fn the_signed_number_of_sql_and_the_unsigned_one_of_patroni_are_the_same() {
        let of = |text: &str| text.parse::<SystemId>().unwrap();
        assert_eq!(of("-1"), of("18446744073709551615"));
        assert_eq!(of("7710945476581432661").to_string(), "7710945476581432661");
        let json = serde_json::to_string(&of("-1")).unwrap();
        assert_eq!(json, "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<SystemId>(&json).unwrap(), of("-1"));
    }
}
