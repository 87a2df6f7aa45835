//! What an etcd path names: which scope, and which of Patroni's keys in it.
//!
//! Enters: raw key bytes. Leaves: a [`ScopeId`] and a [`Field`], or a [`KeyError`] that says what
//! is wrong with the key. Both layouts are understood: `/service/<scope>/leader`, and
//! `/service/<scope>/<group>/leader` of Patroni's own Citus support.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::{EXCERPT_BYTES, NAME_BYTES, excerpt, excerpt_bytes};

/// The folder in etcd under which Patroni keeps its scopes; always begins and ends with a slash.
/// `Display` escapes control characters and cuts after [`NAME_BYTES`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Normalises as Patroni does: slashes are added at both ends and repeated ones collapse, so
    /// `service`, `/service` and `//service/` are the same folder. Refuses spaces and control
    /// characters with [`KeyError::Namespace`].
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(KeyError::Namespace(shown(text.as_bytes())));
        }
        let mut normal = String::from("/");
        for part in text.split('/').filter(|part| !part.is_empty()) {
            normal.push_str(part);
            normal.push('/');
        }
        Ok(Self(normal.into()))
    }

    /// The folder with its slashes, exact: the prefix of every key in it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    /// Patroni's default, `/service/`.
    fn default() -> Self {
        Self("/service/".into())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&excerpt(&self.0, NAME_BYTES))
    }
}

impl FromStr for Namespace {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

/// A Patroni cluster: its scope, and the group where Patroni's own Citus support adds one.
///
/// As text it is `wk1`, or `citus/0` with a group. `Display` escapes control characters and cuts
/// the name after [`NAME_BYTES`] bytes; [`path`](Self::path) and JSON are exact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId {
    /// The scope's name, one path segment.
    pub name: Arc<str>,
    /// The Citus group in the layout of Patroni's own Citus support, else none.
    pub group: Option<u32>,
}

impl ScopeId {
    /// A scope of the ordinary layout. The name is taken as it is; text from outside goes through
    /// [`FromStr`], which checks it.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            group: None,
        }
    }

    /// The scope as it stands in the path of its keys, exact: `wk1`, or `citus/0` with a group.
    pub fn path(&self) -> Cow<'_, str> {
        match self.group {
            None => Cow::Borrowed(&self.name),
            Some(group) => Cow::Owned(format!("{}/{group}", self.name)),
        }
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&excerpt(&self.name, NAME_BYTES))?;
        match self.group {
            None => Ok(()),
            Some(group) => write!(f, "/{group}"),
        }
    }
}

impl FromStr for ScopeId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError::Scope(shown(text.as_bytes()));
        let (name, group) = match text.split_once('/') {
            None => (text, None),
            Some((name, digits)) => (name, Some(group_number(digits).ok_or_else(wrong)?)),
        };
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(wrong());
        }
        Ok(Self {
            name: name.into(),
            group,
        })
    }
}

impl Serialize for ScopeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.path())
    }
}

impl<'de> Deserialize<'de> for ScopeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which of Patroni's keys it is.
///
/// `Display` writes the rest of the key's path, as in `members/pg1`, with control characters escaped
/// and a name cut after [`NAME_BYTES`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `leader`: the name of the member that holds the leader lock.
    Leader,
    /// `members/<name>`: what a member says of itself.
    Member(String),
    /// `sync`: the synchronous standbys.
    Sync,
    /// `failover`: a switchover or failover that was requested.
    Failover,
    /// `config`: the dynamic configuration, `pause` among it.
    Config,
    /// `status`: positions in the write-ahead log, the leader's among them; changes all the time.
    Status,
    /// `optime/leader`: the leader's position, where Patroni before 2.1 wrote it, and newer
    /// Patroni does for as long as such a member is in the cluster.
    Optime,
    /// `history`: past timelines.
    History,
    /// `initialize`: the system identifier, empty while the first member bootstraps.
    Initialize,
    /// `failsafe`: the members that may vouch for the leader while etcd is away.
    Failsafe,
    /// Anything else in the scope's folder; ignored, and no problem.
    Other(String),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Member(name) => write!(f, "members/{}", excerpt(name, NAME_BYTES)),
            Self::Sync => f.write_str("sync"),
            Self::Failover => f.write_str("failover"),
            Self::Config => f.write_str("config"),
            Self::Status => f.write_str("status"),
            Self::Optime => f.write_str("optime/leader"),
            Self::History => f.write_str("history"),
            Self::Initialize => f.write_str("initialize"),
            Self::Failsafe => f.write_str("failsafe"),
            Self::Other(rest) => f.write_str(&excerpt(rest, NAME_BYTES)),
        }
    }
}

/// What is wrong with a key. Each variant has the beginning of the key (or of the text that was
/// refused), escaped and at most some [`EXCERPT_BYTES`] bytes long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key lies outside the namespace. A list and a watch of the namespace never deliver one.
    #[error("key \"{0}\" is not in the namespace")]
    Elsewhere(String),
    /// Patroni writes UTF-8 only.
    #[error("key \"{0}\" is not UTF-8")]
    NotUtf8(String),
    /// An empty path segment where the scope's name belongs, or a control character in it.
    #[error("key \"{0}\" names no scope")]
    NoScope(String),
    /// The scope's folder itself: nothing after the scope (or the group).
    #[error("key \"{0}\" names a scope but no field in it")]
    NoField(String),
    /// `members/` with nothing after it, or with a further slash, which Patroni never writes.
    #[error("key \"{0}\" names no member")]
    NoMember(String),
    /// A number where a Citus group belongs, but not one that fits.
    #[error("key \"{0}\" has a group number that is out of range")]
    Group(String),
    /// Text that should be a scope, or scope and group, is neither.
    #[error(
        "\"{0}\" is not a scope: expected a name such as \"wk1\", or name and group as in \"citus/0\""
    )]
    Scope(String),
    /// A namespace with spaces or control characters in it.
    #[error("\"{0}\" is not a namespace: expected a path such as \"/service/\"")]
    Namespace(String),
}

/// The parts of a key, borrowed: for the fold, which must not allocate for the heartbeat of every
/// member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRef<'a> {
    /// Scope and group as they stand in the path, as in [`ScopeId::path`].
    pub(crate) scope: &'a str,
    pub(crate) name: &'a str,
    pub(crate) group: Option<u32>,
    pub(crate) field: FieldRef<'a>,
}

/// [`Field`], borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldRef<'a> {
    Leader,
    Member(&'a str),
    Sync,
    Failover,
    Config,
    Status,
    Optime,
    History,
    Initialize,
    Failsafe,
    Other(&'a str),
}

impl KeyRef<'_> {
    pub(crate) fn id(&self) -> ScopeId {
        ScopeId {
            name: self.name.into(),
            group: self.group,
        }
    }
}

impl FieldRef<'_> {
    fn to_field(self) -> Field {
        match self {
            Self::Leader => Field::Leader,
            Self::Member(name) => Field::Member(name.to_owned()),
            Self::Sync => Field::Sync,
            Self::Failover => Field::Failover,
            Self::Config => Field::Config,
            Self::Status => Field::Status,
            Self::Optime => Field::Optime,
            Self::History => Field::History,
            Self::Initialize => Field::Initialize,
            Self::Failsafe => Field::Failsafe,
            Self::Other(rest) => Field::Other(rest.to_owned()),
        }
    }
}

/// The scope and the field of a key, or what is wrong with the key.
pub fn parse(ns: &Namespace, key: &[u8]) -> Result<(ScopeId, Field), KeyError> {
    let key = parse_ref(ns, key)?;
    Ok((key.id(), key.field.to_field()))
}

pub(crate) fn parse_ref<'a>(ns: &Namespace, key: &'a [u8]) -> Result<KeyRef<'a>, KeyError> {
    let wrong = |error: fn(String) -> KeyError| error(shown(key));
    let rest = key
        .strip_prefix(ns.as_str().as_bytes())
        .ok_or_else(|| wrong(KeyError::Elsewhere))?;
    let rest = std::str::from_utf8(rest).map_err(|_| wrong(KeyError::NotUtf8))?;
    let (name, below) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(wrong(KeyError::NoScope));
    }
    // A first segment of digits is a group only when something follows it: Patroni itself
    // never names a field with a number.
    let (group, scope, field) = match below.split_once('/') {
        Some((digits, field)) if is_group(digits) => {
            let group = group_number(digits).ok_or_else(|| wrong(KeyError::Group))?;
            (Some(group), &rest[..name.len() + 1 + digits.len()], field)
        }
        _ => (None, name, below),
    };
    let field = match field {
        "" => return Err(wrong(KeyError::NoField)),
        "leader" => FieldRef::Leader,
        "sync" => FieldRef::Sync,
        "failover" => FieldRef::Failover,
        "config" => FieldRef::Config,
        "status" => FieldRef::Status,
        "optime/leader" => FieldRef::Optime,
        "history" => FieldRef::History,
        "initialize" => FieldRef::Initialize,
        "failsafe" => FieldRef::Failsafe,
        other => match other.strip_prefix("members/") {
            Some(member) if member.is_empty() || member.contains('/') => {
                return Err(wrong(KeyError::NoMember));
            }
            Some(member) => FieldRef::Member(member),
            None => FieldRef::Other(other),
        },
    };
    Ok(KeyRef {
        scope,
        name,
        group,
        field,
    })
}

/// The scope in whose folder a key lies, even when the rest of the key is malformed; none when the
/// scope's name cannot be read either.
pub(crate) fn folder(ns: &Namespace, key: &[u8]) -> Option<ScopeId> {
    let rest = key.strip_prefix(ns.as_str().as_bytes())?;
    let name = rest.split(|byte| *byte == b'/').next()?;
    let name = std::str::from_utf8(name).ok()?;
    (!name.is_empty() && !name.chars().any(char::is_control)).then(|| ScopeId::new(name))
}

/// Patroni's own rule for a group folder: a number without leading zeros.
fn is_group(segment: &str) -> bool {
    !segment.is_empty()
        && segment.bytes().all(|byte| byte.is_ascii_digit())
        && (segment == "0" || !segment.starts_with('0'))
}

fn group_number(segment: &str) -> Option<u32> {
    // Citus keeps groupid as a signed 32-bit integer.
    let group: i32 = if is_group(segment) {
        segment.parse().ok()?
    } else {
        return None;
    };
    u32::try_from(group).ok()
}

/// The beginning of a key for people: escaped, and cut after [`EXCERPT_BYTES`] bytes.
pub(crate) fn shown(key: &[u8]) -> String {
    excerpt_bytes(key, EXCERPT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<(ScopeId, Field), KeyError> {
        parse(&Namespace::default(), text.as_bytes())
    }

    fn ok(text: &str) -> (String, Field) {
        let (scope, field) = key(text).unwrap();
        (scope.to_string(), field)
    }

    #[test]
    fn a_namespace_is_normalised_as_patroni_does_it() {
        for text in ["service", "/service", "service/", "//service//"] {
            assert_eq!(
                Namespace::new(text).unwrap(),
                Namespace::default(),
                "{text}"
            );
        }
        assert_eq!(Namespace::new("/a//b").unwrap().as_str(), "/a/b/");
        assert_eq!(Namespace::new("").unwrap().as_str(), "/");
        assert_eq!(Namespace::new("/").unwrap().as_str(), "/");
        assert!(Namespace::new("/ser vice/").is_err());
        assert!(Namespace::new("/ser\0vice/").is_err());
    }

    #[test]
    fn every_key_of_the_ordinary_layout_has_its_field() {
        for (rest, field) in [
            ("leader", Field::Leader),
            ("members/pg1", Field::Member("pg1".into())),
            ("sync", Field::Sync),
            ("failover", Field::Failover),
            ("config", Field::Config),
            ("status", Field::Status),
            ("optime/leader", Field::Optime),
            ("history", Field::History),
            ("initialize", Field::Initialize),
            ("failsafe", Field::Failsafe),
            ("something/new", Field::Other("something/new".into())),
        ] {
            assert_eq!(ok(&format!("/service/wk1/{rest}")), ("wk1".into(), field));
        }
    }

    #[test]
    fn the_layout_of_patronis_citus_support_names_the_group() {
        assert_eq!(
            ok("/service/citus/0/leader"),
            ("citus/0".into(), Field::Leader)
        );
        assert_eq!(
            ok("/service/citus/12/members/wk2-1"),
            ("citus/12".into(), Field::Member("wk2-1".into()))
        );
        // A leading zero is not how Patroni writes a group, so it is an unknown field.
        assert_eq!(
            ok("/service/citus/01/leader").1,
            Field::Other("01/leader".into())
        );
        assert_eq!(ok("/service/citus/7").1, Field::Other("7".into()));
    }

    #[test]
    fn a_scope_may_itself_look_like_a_number_or_a_field() {
        assert_eq!(ok("/service/42/leader"), ("42".into(), Field::Leader));
        assert_eq!(
            ok("/service/leader/leader"),
            ("leader".into(), Field::Leader)
        );
        assert_eq!(ok("/service/blå/members/én").1, Field::Member("én".into()));
    }

    #[test]
    fn malformed_keys_are_named_for_what_they_are() {
        assert!(matches!(
            key("/other/wk1/leader"),
            Err(KeyError::Elsewhere(_))
        ));
        assert!(matches!(key("/service/"), Err(KeyError::NoScope(_))));
        assert!(matches!(key("/service//leader"), Err(KeyError::NoScope(_))));
        assert!(matches!(
            key("/service/w\u{7}k/leader"),
            Err(KeyError::NoScope(_))
        ));
        assert!(matches!(key("/service/wk1"), Err(KeyError::NoField(_))));
        assert!(matches!(key("/service/wk1/"), Err(KeyError::NoField(_))));
        assert!(matches!(
            key("/service/citus/0/"),
            Err(KeyError::NoField(_))
        ));
        assert!(matches!(
            key("/service/wk1/members/"),
            Err(KeyError::NoMember(_))
        ));
        assert!(matches!(
            key("/service/wk1/members/a/b"),
            Err(KeyError::NoMember(_))
        ));
        assert!(matches!(
            key("/service/citus/4294967296/leader"),
            Err(KeyError::Group(_))
        ));
        assert!(matches!(
            key("/service/citus/2147483648/leader"),
            Err(KeyError::Group(_))
        ));
        assert!(matches!(
            parse(&Namespace::default(), b"/service/wk1/members/\xff"),
            Err(KeyError::NotUtf8(_))
        ));
    }

    #[test]
    fn an_error_quotes_only_the_beginning_of_a_huge_key() {
        let huge = format!("/service/wk1/members/{}/x", "m".repeat(100_000));
        let message = key(&huge).unwrap_err().to_string();
        assert!(message.len() < 300, "{}", message.len());
    }

    #[test]
    fn the_scope_of_a_malformed_key_is_still_known() {
        let ns = Namespace::default();
        assert_eq!(
            folder(&ns, b"/service/wk1/members/\xff"),
            Some(ScopeId::new("wk1"))
        );
        assert_eq!(folder(&ns, b"/service/wk1"), Some(ScopeId::new("wk1")));
        assert_eq!(folder(&ns, b"/service/\xff/leader"), None);
        assert_eq!(folder(&ns, b"/service//leader"), None);
        assert_eq!(folder(&ns, b"/elsewhere/wk1"), None);
    }

    #[test]
    fn names_are_displayed_without_control_characters_and_bounded() {
        let hostile = format!("w\u{202e}k\u{9b}{}", "x".repeat(66_000));
        let id = ScopeId {
            name: hostile.as_str().into(),
            group: Some(7),
        };
        let fields = [
            Field::Member(hostile.clone()),
            Field::Other(hostile.clone()),
        ];
        let namespace = Namespace::new(&hostile.replace('\u{9b}', "")).unwrap();
        let texts = fields.iter().map(ToString::to_string);
        for text in texts.chain([id.to_string(), namespace.to_string()]) {
            assert!(!text.contains(crate::text::is_control), "{text:?}");
            assert!(text.len() < 300, "{} bytes", text.len());
        }
        assert!(id.to_string().ends_with(" kB)/7"), "the group is shown");
        // Between programs nothing is lost.
        assert_eq!(id.path(), format!("{hostile}/7"));
        assert_eq!(serde_json::to_value(&id).unwrap(), id.path().as_ref());
    }

    #[test]
    fn a_scope_is_read_and_written_as_text() {
        let citus = ScopeId {
            name: "citus".into(),
            group: Some(0),
        };
        assert_eq!("citus/0".parse::<ScopeId>().unwrap(), citus);
        assert_eq!(citus.to_string(), "citus/0");
        assert_eq!(serde_json::to_string(&citus).unwrap(), "\"citus/0\"");
        assert_eq!(
            serde_json::from_str::<ScopeId>("\"wk1\"").unwrap(),
            ScopeId::new("wk1")
        );
        for wrong in ["", "/0", "a/", "a/x", "a/0/1", "a/01", "a\n"] {
            assert!(wrong.parse::<ScopeId>().is_err(), "{wrong:?}");
        }
    }
}
