//! The way from the bytes of a key to its scope and its field.

use super::error::{KeyError, shown};
use super::field::{Field, FieldRef};
use super::namespace::Namespace;
use super::scope::{ScopeId, group_number, is_group};

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

impl KeyRef<'_> {
    pub(crate) fn id(&self) -> ScopeId {
        ScopeId {
            name: self.name.into(),
            group: self.group,
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
}
