//! YAML text to a plain tree, and a place in the tree back to a line. The only file that names
//! `serde_yaml`, which is no longer maintained: its replacement replaces this file.
//!
//! The tree keeps what the checks need and serde's own `deny_unknown_fields` would lose: keys given
//! twice, several problems in one go, and the key path of each.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// A YAML value. Keys keep their order and may come twice.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value under `key`, the last one if it comes twice, as `PyYAML` has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map(|e| &e.1),
            _ => None,
        }
    }
}

/// A line and a column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

/// The text is no YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) location: Option<Location>,
    pub(super) message: String,
}

/// One step down the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// What to point at in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The value at the path.
    Value,
    /// The last key of the path.
    Key,
    /// The last key of the path where it comes for the second time.
    SecondKey,
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    NodeSeed
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| SyntaxError {
            location: location(&error),
            message: plain(&error.to_string()),
        })
}

/// Where in `text` the place `steps` leads to is written. `None` when there is no such place, which
/// also goes for what came in through a merge key (`<<`).
pub(super) fn locate(text: &str, steps: &[Step], target: Target) -> Option<Location> {
    // serde_yaml knows positions only of errors, so the seeker walks to the place and fails there.
    let sought = Seek { steps, target }.deserialize(serde_yaml::Deserializer::from_str(text));
    sought.err().as_ref().and_then(location)
}

fn location(error: &serde_yaml::Error) -> Option<Location> {
    let at = error.location()?;
    Some(Location {
        line: at.line(),
        column: at.column(),
    })
}

/// Takes out the first " at line 3 column 7", which is the place that is said elsewhere. A second
/// one is where the part that is not closed begins, and stays.
fn plain(message: &str) -> String {
    let Some(start) = message.find(" at line ") else {
        return message.to_owned();
    };
    let end = message[start..]
        .find(',')
        .map_or(message.len(), |i| start + i);
    format!("{}{}", &message[..start], &message[end..])
}

struct NodeSeed;

impl<'de> DeserializeSeed<'de> for NodeSeed {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Int(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(NodeSeed)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        while let Some(key) = map.next_key_seed(NodeSeed)? {
            let value = map.next_value_seed(NodeSeed)?;
            match (key_text(key), value) {
                (key, Node::Map(theirs)) if key == "<<" => merged.extend(theirs),
                (key, Node::List(maps))
                    if key == "<<" && maps.iter().all(|m| matches!(m, Node::Map(_))) =>
                {
                    merged.extend(maps.into_iter().flat_map(|m| match m {
                        Node::Map(theirs) => theirs,
                        _ => Vec::new(),
                    }));
                }
                entry => entries.push(entry),
            }
        }
        // What is written out goes before what is merged in, earlier merges before later ones.
        for (key, value) in merged {
            if !entries.iter().any(|(name, _)| *name == key) {
                entries.push((key, value));
            }
        }
        Ok(Node::Map(entries))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(de::Error::custom(
            "a tag such as `!name` has no meaning here",
        ))
    }
}

/// Keys that are no text are compared by what they look like; only Patroni's file may hold some.
fn key_text(key: Node) -> String {
    match key {
        Node::Text(text) => text,
        Node::Int(number) => number.to_string(),
        Node::Bool(flag) => flag.to_string(),
        Node::Float(number) => number.to_string(),
        Node::Null => "null".to_owned(),
        Node::List(_) => "(a list)".to_owned(),
        Node::Map(_) => "(a mapping)".to_owned(),
    }
}

/// Walks down `steps` and fails where they end.
#[derive(Clone, Copy)]
struct Seek<'a> {
    steps: &'a [Step],
    target: Target,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.steps.is_empty() {
            deserializer.deserialize_any(Here)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the place looked for")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.steps.split_first() else {
            return Err(de::Error::custom("no such place"));
        };
        for _ in 0..*wanted {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Seek {
            steps: rest,
            ..self
        })?;
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.steps.split_first() else {
            return Err(de::Error::custom("no such place"));
        };
        let mut fail_at = match self.target {
            Target::Key if rest.is_empty() => Some(1),
            Target::SecondKey if rest.is_empty() => Some(2),
            _ => None,
        };
        while let Some(found) = map.next_key_seed(SeekKey {
            wanted,
            fail: fail_at == Some(1),
        })? {
            if !found || fail_at.is_some() {
                map.next_value::<IgnoredAny>()?;
                if found {
                    fail_at = fail_at.map(|n| n - 1);
                }
            } else {
                map.next_value_seed(Seek {
                    steps: rest,
                    ..self
                })?;
            }
        }
        Ok(())
    }
}

/// Compares a key, and fails on the wanted one if told to: the error then carries its position.
struct SeekKey<'a> {
    wanted: &'a str,
    fail: bool,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl SeekKey<'_> {
    fn compare<E: de::Error>(&self, key: Node) -> Result<bool, E> {
        let found = key_text(key) == self.wanted;
        if found && self.fail {
            Err(E::custom("here"))
        } else {
            Ok(found)
        }
    }
}

impl<'de> Visitor<'de> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
        self.compare(Node::Null)
    }
    fn visit_none<E: de::Error>(self) -> Result<bool, E> {
        self.compare(Node::Null)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
        self.compare(Node::Bool(value))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<bool, E> {
        self.compare(Node::Int(value.into()))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<bool, E> {
        self.compare(Node::Int(value.into()))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<bool, E> {
        self.compare(Node::Float(value))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<bool, E> {
        self.compare(Node::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}

/// Takes nothing: every value is an error, and the error knows where it is.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\nb:\n  - x: [p, q]\n    y: null\n  - {x: 2, x: 3}\n";

    fn at(steps: &[Step], target: Target) -> Option<(usize, usize)> {
        locate(TEXT, steps, target).map(|l| (l.line, l.column))
    }
    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    #[test]
    fn every_value_has_its_line_and_column() {
        assert_eq!(at(&[key("a")], Target::Value), Some((1, 4)));
        assert_eq!(at(&[key("b")], Target::Key), Some((2, 1)));
        let q = [key("b"), Step::Index(0), key("x"), Step::Index(1)];
        assert_eq!(at(&q, Target::Value), Some((3, 12)));
        let y = [key("b"), Step::Index(0), key("y")];
        assert_eq!(at(&y, Target::Value), Some((4, 8)));
        let x = [key("b"), Step::Index(1), key("x")];
        assert_eq!(at(&x, Target::Key), Some((5, 6)));
        assert_eq!(at(&x, Target::SecondKey), Some((5, 12)));
        assert_eq!(at(&[key("nowhere")], Target::Value), None);
    }

    #[test]
    fn merge_keys_are_merged_and_keys_written_out_win() {
        let node = parse("base: &b {p: 1, q: 2}\nhost:\n  <<: *b\n  q: 3\n").unwrap();
        let host = node.get("host").unwrap();
        assert_eq!(host.get("p"), Some(&Node::Int(1)));
        assert_eq!(host.get("q"), Some(&Node::Int(3)));
    }

    #[test]
    fn a_text_that_is_no_yaml_is_an_error_with_a_place() {
        let error = parse("a: [1\nb: 2\n").unwrap_err();
        assert_eq!(error.location.map(|l| l.line), Some(2));
        assert!(parse("a: 1\n---\nb: 2\n").is_err());
        assert!(parse("a: !tag 1\n").unwrap_err().message.contains("tag"));
    }
}
