//! Typed reading of a YAML tree: every value knows its key path, every problem is noted and reading
//! goes on, so that one run names all of them.
//!
//! A reader that yields `None` has noted why; the caller has nothing to add.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use strsim::levenshtein;

use super::error::Problem;
use super::yaml::{self, Node, Step, Target};

/// The text being read and what was found wrong with it so far.
pub(super) struct Doc<'a> {
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<String>>,
}

impl<'a> Doc<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Notes something that is accepted and yet worth saying.
    pub(super) fn warn(&self, text: String) {
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// The warnings, or every problem in the order of the file.
    pub(super) fn finish(self) -> Result<Vec<String>, Vec<Problem>> {
        let mut problems = self.problems.into_inner();
        if problems.is_empty() {
            return Ok(self.warnings.into_inner());
        }
        problems.sort_by_key(|problem| problem.location);
        Err(problems)
    }
}

/// A path of keys, printed like `workers[1].group`.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyPath(Vec<Step>);

impl KeyPath {
    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct At<'a> {
    pub(super) doc: &'a Doc<'a>,
    pub(super) path: KeyPath,
    pub(super) node: &'a Node,
}

impl<'a> At<'a> {
    /// The whole document.
    pub(super) fn root(doc: &'a Doc<'a>, node: &'a Node) -> Self {
        Self {
            doc,
            path: KeyPath::default(),
            node,
        }
    }

    /// Whether this is the whole document.
    pub(super) fn is_root(&self) -> bool {
        self.path.0.is_empty()
    }

    fn note(&self, path: &KeyPath, target: Target, found: String, expected: &str, fix: &str) {
        self.doc.problems.borrow_mut().push(Problem {
            location: yaml::locate(self.doc.text, &path.0, target),
            key: path.to_string(),
            found,
            expected: expected.to_owned(),
            fix: (!fix.is_empty()).then(|| fix.to_owned()),
        });
    }

    /// Notes that this value is not what was expected. An empty `fix` is left out.
    pub(super) fn bad(&self, expected: &str, fix: &str) {
        self.bad_found(&describe(self.node), expected, fix);
    }

    /// As [`At::bad`], with other words for what was found (a secret must not be shown).
    pub(super) fn bad_found(&self, found: &str, expected: &str, fix: &str) {
        self.note(&self.path, Target::Value, found.to_owned(), expected, fix);
    }

    /// Notes that this key should not be here.
    pub(super) fn bad_key(&self, found: &str, expected: &str, fix: &str) {
        self.note(&self.path, Target::Key, found.to_owned(), expected, fix);
    }

    /// A text that is not empty.
    pub(super) fn text(&self, expected: &str) -> Option<&'a str> {
        match self.node {
            Node::Text(text) if !text.trim().is_empty() => Some(text),
            Node::Int(_) | Node::Float(_) | Node::Bool(_) => {
                self.bad(expected, "put it in quotes if it is meant as text");
                None
            }
            _ => {
                self.bad(expected, "");
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(&self, range: &RangeInclusive<u32>, what: &str) -> Option<u32> {
        let expected = format!(
            "{what}, a whole number from {} to {}",
            range.start(),
            range.end()
        );
        let number = match self.node {
            Node::Int(number) => u32::try_from(*number).ok().filter(|n| range.contains(n)),
            Node::Text(text) if text.parse::<u32>().is_ok() => {
                self.bad(&expected, &format!("write it without quotes: {text}"));
                return None;
            }
            _ => None,
        };
        if number.is_none() {
            self.bad(&expected, "");
        }
        number
    }

    /// `true` or `false`, or the words that older YAML readers take for them.
    pub(super) fn flag(&self) -> Option<bool> {
        match self.node {
            Node::Bool(flag) => Some(*flag),
            Node::Text(text) if ["on", "yes"].contains(&text.to_ascii_lowercase().as_str()) => {
                Some(true)
            }
            Node::Text(text) if ["off", "no"].contains(&text.to_ascii_lowercase().as_str()) => {
                Some(false)
            }
            _ => {
                self.bad("true or false (on and off will do)", "");
                None
            }
        }
    }

    /// A duration with its unit, within `range`.
    pub(super) fn duration(&self, range: (Duration, Duration)) -> Option<Duration> {
        let (least, greatest) = range;
        let expected = format!(
            "a duration from {} to {}, such as 30s, 500ms or 2m",
            humantime::format_duration(least),
            humantime::format_duration(greatest)
        );
        let text = match self.node {
            Node::Text(text) => text.trim(),
            Node::Int(number) => {
                self.bad(
                    &expected,
                    &format!("add the unit: {number}s if seconds are meant"),
                );
                return None;
            }
            _ => {
                self.bad(&expected, "");
                return None;
            }
        };
        let duration = match humantime::parse_duration(text) {
            Ok(duration) => duration,
            Err(_) if text.parse::<f64>().is_ok() => {
                self.bad(
                    &expected,
                    &format!("add the unit: {text}s if seconds are meant"),
                );
                return None;
            }
            Err(error) => {
                self.bad(&expected, &error.to_string());
                return None;
            }
        };
        if (least..=greatest).contains(&duration) {
            return Some(duration);
        }
        self.bad(
            &expected,
            if duration.is_zero() {
                "zero would mean at once, always"
            } else {
                ""
            },
        );
        None
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let found = match self.node {
            Node::Text(text) => words.iter().find(|(word, _)| word == text),
            // `off` is a boolean to older YAML readers, and to people who write `false` for it.
            Node::Bool(false) => words.iter().find(|(word, _)| *word == "off"),
            _ => None,
        };
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.bad(&format!("one of {}", known.join(", ")), "");
        }
        found.map(|(_, value)| *value)
    }

    /// The items of a list.
    pub(super) fn list(&self, expected: &str, fix: &str) -> Option<Vec<At<'a>>> {
        let Node::List(items) = self.node else {
            self.bad(expected, fix);
            return None;
        };
        Some(
            items
                .iter()
                .enumerate()
                .map(|(i, node)| At {
                    doc: self.doc,
                    path: self.path.with(Step::Index(i)),
                    node,
                })
                .collect(),
        )
    }

    /// The entries of a mapping that may have the `known` keys only, each once.
    pub(super) fn fields(&self, known: &[&str], expected: &str) -> Option<Fields<'a>> {
        let fields = self.open_fields(expected)?;
        let Node::Map(entries) = self.node else {
            return None;
        };
        for (i, (key, _)) in entries.iter().enumerate() {
            let path = self.path.with(Step::Key(key.clone()));
            let before = entries[..i]
                .iter()
                .filter(|(other, _)| other == key)
                .count();
            if !known.contains(&key.as_str()) {
                let fix = nearest(key, known).map(|near| format!("did you mean `{near}`?"));
                let one_of = format!("one of {}", known.join(", "));
                let found = format!("the unknown key `{key}`");
                self.note(&path, Target::Key, found, &one_of, &fix.unwrap_or_default());
            } else if before == 1 {
                let found = format!("the key `{key}` twice");
                self.note(
                    &path,
                    Target::SecondKey,
                    found,
                    "it once",
                    "keep one of them",
                );
            }
        }
        Some(fields)
    }

    /// The entries of a mapping that may have any keys.
    pub(super) fn open_fields(&self, expected: &str) -> Option<Fields<'a>> {
        if matches!(self.node, Node::Map(_)) {
            return Some(Fields { at: self.clone() });
        }
        self.bad(expected, "");
        None
    }
}

/// The entries of a mapping.
pub(super) struct Fields<'a> {
    pub(super) at: At<'a>,
}

impl<'a> Fields<'a> {
    /// The value under `key`, if the key is there.
    pub(super) fn get(&self, key: &str) -> Option<At<'a>> {
        let node = self.at.node.get(key)?;
        Some(At {
            doc: self.at.doc,
            path: self.at.path.with(Step::Key(key.to_owned())),
            node,
        })
    }

    /// Whether `key` is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.at.node.get(key).is_some()
    }

    /// As [`Fields::get`], but a key without a value counts as absent, as it does to Patroni.
    pub(super) fn given(&self, key: &str) -> Option<At<'a>> {
        self.get(key).filter(|at| *at.node != Node::Null)
    }

    /// The value under `key`; its absence is noted.
    pub(super) fn require(&self, key: &str, expected: &str, fix: &str) -> Option<At<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.missing(key, expected, fix);
        }
        value
    }

    /// Notes that `key` is not there. The place shown is that of the mapping.
    pub(super) fn missing(&self, key: &str, expected: &str, fix: &str) {
        let at = &self.at;
        at.doc.problems.borrow_mut().push(Problem {
            location: yaml::locate(at.doc.text, &at.path.0, Target::Value),
            key: at.path.with(Step::Key(key.to_owned())).to_string(),
            found: "nothing".to_owned(),
            expected: expected.to_owned(),
            fix: (!fix.is_empty()).then(|| fix.to_owned()),
        });
    }
}

/// Names a value for a person; long texts are cut.
fn describe(node: &Node) -> String {
    match node {
        Node::Null => "nothing".to_owned(),
        Node::Bool(flag) => format!("`{flag}`"),
        Node::Int(number) => format!("the number {number}"),
        Node::Float(number) => format!("the number {number}"),
        Node::Text(text) if text.chars().count() > 60 => {
            format!("the text {:?}…", text.chars().take(60).collect::<String>())
        }
        Node::Text(text) => format!("the text {text:?}"),
        Node::List(items) if items.is_empty() => "an empty list".to_owned(),
        Node::List(_) => "a list".to_owned(),
        Node::Map(_) => "a mapping".to_owned(),
    }
}

/// Words people bring along from other files, and the key they mean here.
const MEANT: &[(&str, &str)] = &[
    ("host", "endpoints"),
    ("hosts", "endpoints"),
    ("url", "endpoints"),
    ("username", "user"),
    ("user", "username"),
    ("dbname", "databases"),
    ("pgpass", "passfile"),
    ("nodes", "scope"),
    ("cluster", "scope"),
    ("cacert", "ca"),
];

/// The known key that `key` was most likely meant to be.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let meant = MEANT
        .iter()
        .find(|(word, means)| *word == key && known.contains(means));
    if let Some((_, means)) = meant {
        return known.iter().find(|k| *k == means).copied();
    }
    let folded = key.to_ascii_lowercase().replace('-', "_");
    let begins = |long: &str, short: &str| short.len() >= 3 && long.starts_with(short);
    if let Some(k) = known
        .iter()
        .find(|k| begins(&folded, k) || begins(k, &folded))
    {
        return Some(k);
    }
    known
        .iter()
        .map(|k| (levenshtein(&folded, k), *k))
        .filter(|(far, k)| *far <= if k.len() > 3 { 2 } else { 1 })
        .min()
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_gets_the_nearest_known_key() {
        let known = ["group", "scope"];
        assert_eq!(nearest("groupid", &known), Some("group"));
        assert_eq!(nearest("gruop", &known), Some("group"));
        assert_eq!(nearest("groups", &known), Some("group"));
        assert_eq!(nearest("Scope", &known), Some("scope"));
        assert_eq!(
            nearest("hosts", &["endpoints", "username"]),
            Some("endpoints")
        );
        assert_eq!(
            nearest("lock-cooldown", &["lock_cooldown"]),
            Some("lock_cooldown")
        );
        assert_eq!(nearest("zebra", &known), None);
    }

    #[test]
    fn a_long_key_may_be_two_mistakes_away_and_a_short_one_only_one() {
        assert_eq!(nearest("kitten", &["mitton"]), Some("mitton"));
        assert_eq!(nearest("kitten", &["sitting"]), None);
        assert_eq!(nearest("cb", &["ca"]), Some("ca"));
        assert_eq!(nearest("db", &["ca"]), None);
        assert_eq!(nearest("uesr", &["user"]), Some("user"));
        assert_eq!(nearest("", &["ca"]), None);
    }
}
