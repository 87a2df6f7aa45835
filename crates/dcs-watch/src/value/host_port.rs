//! A host and a port: where a server listens.
//!
//! There are two ways in and two ways out. `FromStr` reads what people configure, and refuses what
//! cannot be a host. `Display` writes for people: escaped, and cut to a bound. `Serialize` and
//! `Deserialize` exchange the exact text between programs, for every host and port that a row of
//! `pg_dist_node` may hold.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{ValueError, wrong};
use crate::text::{self, NAME_BYTES, excerpt};

/// A host (a name or an address, IPv6 without brackets) and a port.
///
/// What is read from text people write, or from what Patroni writes, has a host without spaces and
/// control characters, and a port from 1 on. What comes from a row of `pg_dist_node` may have any
/// host, also an empty one, and port 0.
///
/// As text it is `host:port`, with brackets around a host that has colons, as in `[::1]:5432`.
/// `Display` escapes control characters and cuts the host after [`NAME_BYTES`] bytes. In JSON the
/// text is exact, and every value can be read back.
///
/// Two values are equal when they name the same place, however each is spelled: host names are
/// compared without regard to ASCII case, as DNS does (RFC 4343), and IPv6 addresses by value, with
/// brackets or without. The spelling stays with the value. [`HostPort::is_spelled`] compares it.
#[derive(Debug, Clone)]
pub struct HostPort {
    /// Name or address; IPv6 without brackets, as `pg_dist_node` wants it.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &excerpt(&self.host, NAME_BYTES), self.port)
    }
}

fn write(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') {
        write!(f, "[{host}]:{port}")
    } else {
        write!(f, "{host}:{port}")
    }
}

/// The text that [`HostPort::from_exact`] reads back, whatever the host is.
struct Exact<'a>(&'a HostPort);

impl fmt::Display for Exact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.0.host, self.0.port)
    }
}

/// What a host is compared by.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// A name, or an IPv4 address: without regard to case.
    Name(&'a str),
    /// An IPv6 address, and the zone behind its `%`, which the kernel compares exactly.
    V6(Ipv6Addr, &'a str),
}

impl<'a> Place<'a> {
    fn of(host: &'a str) -> Self {
        if !host.contains(':') {
            return Self::Name(host);
        }
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let (address, zone) = bare.split_once('%').unwrap_or((bare, ""));
        match address.parse() {
            Ok(address) => Self::V6(address, zone),
            Err(_) => Self::Name(host),
        }
    }
}

fn lower_case(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| byte.to_ascii_lowercase())
}

impl Ord for Place<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Name(one), Self::Name(two)) => lower_case(one).cmp(lower_case(two)),
            (Self::V6(one, zone), Self::V6(two, other_zone)) => {
                one.cmp(two).then_with(|| zone.cmp(other_zone))
            }
            (Self::Name(_), Self::V6(..)) => Ordering::Less,
            (Self::V6(..), Self::Name(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Place<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place<'_> {}

impl Ord for HostPort {
    fn cmp(&self, other: &Self) -> Ordering {
        let places = Place::of(&self.host).cmp(&Place::of(&other.host));
        places.then_with(|| self.port.cmp(&other.port))
    }
}

impl PartialOrd for HostPort {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for HostPort {
    fn eq(&self, other: &Self) -> bool {
        self.port == other.port && (self.host == other.host || self.cmp(other).is_eq())
    }
}

impl Eq for HostPort {}

impl Hash for HostPort {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match Place::of(&self.host) {
            Place::Name(name) => lower_case(name).for_each(|byte| state.write_u8(byte)),
            Place::V6(address, zone) => (address, zone).hash(state),
        }
        self.port.hash(state);
    }
}

impl HostPort {
    /// Whether the other one is spelled the same, letter by letter.
    pub fn is_spelled(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }

    /// The host as a resolver takes it: an IPv6 address without brackets.
    pub fn bare_host(&self) -> &str {
        let inner = self
            .host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'));
        inner.filter(|h| h.contains(':')).unwrap_or(&self.host)
    }

    /// Reads what [`Exact`] writes. The last colon is before the port; brackets belong to the host
    /// unless there are colons in it, for only then were they added.
    fn from_exact(text: &str) -> Result<Self, ValueError> {
        let no_address = || ValueError::new(format!("{} is not host:port", quoted(text)));
        let (host, port) = text.rsplit_once(':').ok_or_else(no_address)?;
        let port = decimal(port).ok_or_else(no_address)?;
        let host = if host.contains(':') {
            host.strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .ok_or_else(no_address)?
        } else {
            host
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl FromStr for HostPort {
    type Err = ValueError;

    /// Takes `host:port` and `[v6]:port` as people write it: a host without spaces and control
    /// characters, and a port from 1 on.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (host, port) = split_port(text)?;
        match port {
            Some(port) => Ok(Self { host, port }),
            None => wrong(format!("{} has no port: expected host:port", quoted(text))),
        }
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Exact(self))
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_exact(&text).map_err(serde::de::Error::custom)
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`. An IPv6 address without brackets is refused:
/// it does not say where its port begins.
pub(super) fn split_port(text: &str) -> Result<(String, Option<u16>), ValueError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else {
            return wrong(format!("{} has an opening bracket only", quoted(text)));
        };
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return wrong(format!("{} has text after the bracket", quoted(text))),
        }
    } else {
        match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return wrong(format!("{}: an IPv6 address needs brackets", quoted(text)));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    // Whether a name is a good host name is for the resolver to say. What would break a connection
    // string or a log line is refused here.
    if host.is_empty() || !is_plain(host) {
        return wrong(format!("{} names no host", quoted(text)));
    }
    let port = match port {
        None | Some("") => None,
        Some(digits) => match decimal(digits) {
            Some(port) if port > 0 => Some(port),
            _ => return wrong(format!("{} has no valid port", quoted(text))),
        },
    };
    Ok((host.to_owned(), port))
}

/// Whether a text has neither spaces nor control characters.
pub(super) fn is_plain(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_whitespace() || text::is_control(c))
}

fn decimal(digits: &str) -> Option<u16> {
    // The parser alone would take a sign too.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// `host:port` text for a message, unless it looks as if it carried a password.
fn quoted(text: &str) -> String {
    text::quoted(if text.contains('@') { "…" } else { text })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(host: &str, port: u16) -> HostPort {
        HostPort {
            host: host.to_owned(),
            port,
        }
    }

    fn through_json(address: &HostPort) -> HostPort {
        let json = serde_json::to_string(address).unwrap();
        let back: HostPort = serde_json::from_str(&json).unwrap();
        assert!(back.is_spelled(address), "{back:?} was {address:?}");
        back
    }

    fn hash(address: &HostPort) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        address.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn spellings_of_one_place_are_equal_and_keep_their_spelling() {
        for (one, two) in [
            ("LOCALHOST", "localhost"),
            ("Pg1.Example", "pg1.example"),
            ("::1", "[::1]"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("[FE80::1%eth0]", "fe80:0::1%eth0"),
            ("::ffff:10.0.0.1", "::ffff:a00:1"),
        ] {
            let (one, two) = (at(one, 5432), at(two, 5432));
            assert_eq!(one, two);
            assert_eq!(hash(&one), hash(&two), "{one} {two}");
            assert!(!one.is_spelled(&two));
            assert_ne!(one, HostPort { port: 1, ..two });
        }
        for (one, two) in [
            ("pg1", "pg2"),
            ("pg1", "pg11"),
            ("::1", "::2"),
            ("fe80::1%eth0", "fe80::1%ETH0"),
            ("[pg1]", "pg1"),
            ("ä", "Ä"),
            ("", "[]"),
        ] {
            assert_ne!(at(one, 5432), at(two, 5432), "{one} {two}");
        }
    }

    #[test]
    fn a_bare_host_is_what_a_resolver_takes() {
        for (host, bare) in [("[::1]", "::1"), ("::1", "::1"), ("[x]", "[x]"), ("h", "h")] {
            assert_eq!(at(host, 1).bare_host(), bare);
        }
    }

    #[test]
    fn what_people_write_is_read_and_displayed_alike() {
        for text in ["h:5432", "10.0.0.1:1", "[::1]:5432", "[fe80::1%eth0]:65535"] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(
                serde_json::to_string(&address).unwrap(),
                format!("\"{text}\"")
            );
        }
        assert_eq!("[::1]:5432".parse::<HostPort>().unwrap().host, "::1");
    }

    #[test]
    fn text_that_is_no_address_is_refused_without_repeating_a_password() {
        for wrong in [
            "",
            "h",
            "h:",
            ":1",
            "h:0",
            "h:65536",
            "h:+1",
            "h:1:2",
            "::1:5432",
            "[::1",
            "[::1]",
            "[::1]5432",
            "[]:1",
            "a b:1",
            "h:-1",
            "h\n:1",
            "h\u{202e}:1",
        ] {
            let error = wrong.parse::<HostPort>().unwrap_err().to_string();
            assert_eq!(text::escape_control(&error), error, "{wrong:?}");
        }
        let error = "u:secret@h".parse::<HostPort>().unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn odd_rows_survive_json() {
        let long = "x".repeat(66_000);
        for (host, port, text) in [
            ("", 5432, ":5432"),
            ("a b", 1, "a b:1"),
            ("[::1]", 5432, "[[::1]]:5432"),
            ("[x]", 5432, "[x]:5432"),
            ("a:b", 0, "[a:b]:0"),
            (&long, 65535, &format!("{long}:65535")),
        ] {
            let address = at(host, port);
            assert_eq!(serde_json::to_value(&address).unwrap(), text);
            assert_eq!(through_json(&address), address, "{host:?}");
        }
    }

    #[test]
    fn json_that_is_no_address_is_refused() {
        for wrong in [
            "\"h\"",
            "\"h:\"",
            "\"h:x\"",
            "\"h:+1\"",
            "\"h:65536\"",
            "\"::1:5432\"",
            "17",
        ] {
            assert!(serde_json::from_str::<HostPort>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_displayed_without_control_characters_and_bounded() {
        assert_eq!(
            at("a\nb\u{1b}\u{202e}", 1).to_string(),
            r"a\nb\u{1b}\u{202e}:1"
        );
        let long = at(&"x".repeat(66_000), 5432).to_string();
        assert!(long.ends_with("x… (66 kB):5432"), "{long}");
        assert!(long.len() < NAME_BYTES + 30, "{} bytes", long.len());
    }

    proptest! {
        #[test]
        fn equality_order_and_hash_agree(
            one in "[\\[\\]:aA1%.]{0,6}", two in "[\\[\\]:aA1%.]{0,6}", three in "[\\[\\]:aA1%.]{0,6}",
        ) {
            let [one, two, three] = [one, two, three].map(|host| at(&host, 1));
            prop_assert_eq!(one == two, one.cmp(&two).is_eq());
            prop_assert_eq!(one.cmp(&two), two.cmp(&one).reverse());
            if one == two {
                prop_assert_eq!(hash(&one), hash(&two));
                prop_assert_eq!(one.cmp(&three), two.cmp(&three));
            }
            if one <= two && two <= three {
                prop_assert!(one <= three);
            }
        }

        #[test]
        fn every_host_and_port_survives_json(
            host in prop_oneof![any::<String>(), "[\\[\\]:a. 0-9]{0,12}"],
            port: u16,
        ) {
            let address = at(&host, port);
            prop_assert_eq!(through_json(&address), address);
        }

        #[test]
        fn what_is_parsed_survives_display(text in "[\\[\\]:a.%0-9]{0,12}") {
            if let Ok(address) = text.parse::<HostPort>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address.clone()));
                prop_assert_eq!(through_json(&address), address);
            }
        }

        #[test]
        fn a_displayed_address_has_no_control_character(host: String, port: u16) {
            let shown = at(&host, port).to_string();
            prop_assert_eq!(text::escape_control(&shown), shown.as_str());
        }
    }
}
