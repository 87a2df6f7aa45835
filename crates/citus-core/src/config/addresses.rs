//! What the coordinator calls a member that Patroni advertises under another address.

use std::fmt::Write as _;

use dcs_watch::value::{HostPort, ValueError};
use regex::{Captures, Regex, RegexBuilder};

/// How advertised addresses become registered ones: the first pattern that matches a whole address
/// says what its row has. An address that none matches is registered as it is advertised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules(Vec<AddressRule>);

/// One pattern and what becomes of what it matches.
#[derive(Debug, Clone)]
pub struct AddressRule {
    pattern: String,
    whole: Regex,
    registered: String,
}

impl PartialEq for AddressRule {
    fn eq(&self, other: &Self) -> bool {
        (&self.pattern, &self.registered) == (&other.pattern, &other.registered)
    }
}

impl Eq for AddressRule {}

/// Why a rule cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressRuleError {
    /// The pattern is no regular expression.
    #[error("{0}")]
    Syntax(String),
    /// What is to be registered names a group that the pattern has not.
    #[error("there is no group `{0}` in the pattern")]
    NoGroup(String),
    /// What is to be registered is no address, whatever the groups hold.
    #[error("{0}")]
    NoAddress(ValueError),
}

impl AddressRule {
    /// Compiles `pattern`, which is to match a whole `host:port`, without regard to case.
    ///
    /// # Errors
    ///
    /// [`AddressRuleError`], before any address is seen.
    pub fn new(pattern: &str, registered: &str) -> Result<Self, AddressRuleError> {
        let syntax = |error: &regex::Error| {
            // regex draws the pattern over several lines; its last line says what is wrong.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            AddressRuleError::Syntax(last.trim_start_matches("error: ").to_owned())
        };
        // By itself first: what is wrong with it is told of it as it was written.
        Regex::new(pattern).map_err(|error| syntax(&error))?;
        let whole = RegexBuilder::new(&format!("^(?:{pattern})$"))
            .case_insensitive(true)
            .build()
            .map_err(|error| syntax(&error))?;
        let rule = Self {
            pattern: pattern.to_owned(),
            whole,
            registered: registered.to_owned(),
        };
        rule.tried()?;
        Ok(rule)
    }

    /// Each group holds a digit: what comes of that is an address, unless no match can make one.
    fn tried(&self) -> Result<(), AddressRuleError> {
        let mut text = String::new();
        for piece in pieces(&self.registered) {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Group(name) => {
                    let is_number = name
                        .parse::<usize>()
                        .is_ok_and(|number| number < self.whole.captures_len());
                    let is_name = self.whole.capture_names().flatten().any(|own| own == name);
                    if !is_number && !is_name {
                        return Err(AddressRuleError::NoGroup(name.to_owned()));
                    }
                    // Group 0 is the whole address, which needs no port of its own.
                    text.push_str(if name == "0" { "1:1" } else { "1" });
                }
            }
        }
        let address: Result<HostPort, ValueError> = text.parse();
        address.map(|_| ()).map_err(AddressRuleError::NoAddress)
    }

    fn expanded(&self, found: &Captures<'_>) -> String {
        let mut text = String::new();
        for piece in pieces(&self.registered) {
            let held = match piece {
                Piece::Text(plain) => plain,
                Piece::Group(name) => name
                    .parse()
                    .map_or_else(|_| found.name(name), |number: usize| found.get(number))
                    .map_or("", |held| held.as_str()),
            };
            text.push_str(held);
        }
        text
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// What is registered, as it was written.
    pub fn registered(&self) -> &str {
        &self.registered
    }
}

enum Piece<'a> {
    Text(&'a str),
    Group(&'a str),
}

/// `$1`, `${1}`, `$name` and `${name}` stand for groups; a `$` before anything else for itself, which
/// no host has.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        let (plain, dollar) = rest.split_at(at);
        let after = &dollar[1..];
        let (name, behind) = if let Some(braced) = after.strip_prefix('{') {
            let end = braced.find('}').unwrap_or(braced.len());
            (&braced[..end], braced.get(end + 1..).unwrap_or_default())
        } else {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = after.find(|c| !word(c)).unwrap_or(after.len());
            after.split_at(end)
        };
        pieces.extend([Piece::Text(plain), Piece::Group(name)]);
        rest = behind;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

impl AddressRules {
    /// In the order in which they are tried.
    pub fn new(rules: Vec<AddressRule>) -> Self {
        Self(rules)
    }

    /// The rules in order.
    pub fn iter(&self) -> impl Iterator<Item = &AddressRule> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the coordinator calls the member that is advertised here.
    ///
    /// # Errors
    ///
    /// What the rule makes of this address is no address.
    pub fn registered(&self, advertised: &HostPort) -> Result<HostPort, ValueError> {
        let mut text = String::new();
        // `Display` would cut a very long host.
        let _ = if advertised.host.contains(':') {
            write!(text, "[{}]:{}", advertised.host, advertised.port)
        } else {
            write!(text, "{}:{}", advertised.host, advertised.port)
        };
        let found = (self.0.iter()).find_map(|rule| Some((rule, rule.whole.captures(&text)?)));
        match found {
            Some((rule, found)) => rule.expanded(&found).parse(),
            None => Ok(advertised.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(rules: &[(&str, &str)], advertised: &str) -> Result<String, String> {
        let rules = rules.iter();
        let rules = rules.map(|(pattern, to)| AddressRule::new(pattern, to).expect("a rule"));
        AddressRules::new(rules.collect())
            .registered(&advertised.parse().expect("an address"))
            .map(|address| address.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_pattern_that_matches_the_whole_address_says_what_is_registered() {
        let rules = [
            (r"10\.1\.(.*):5432", "10.2.$1:5432"),
            (
                r"(?<host>pg[0-9]+)\.dc1:(?<port>\d+)",
                "${host}.lan:${port}",
            ),
            (r"\[fd00::(?<end>.*)\]:5432", "[fd01::$end]:5432"),
        ];
        for (advertised, to) in [
            ("10.1.0.7:5432", "10.2.0.7:5432"),
            ("110.1.0.7:5432", "110.1.0.7:5432"),
            ("10.1.0.7:54321", "10.1.0.7:54321"),
            ("PG7.DC1:6000", "PG7.lan:6000"),
            ("[fd00::17]:5432", "[fd01::17]:5432"),
            ("other:5432", "other:5432"),
        ] {
            assert_eq!(registered(&rules, advertised).as_deref(), Ok(to));
        }
    }

    #[test]
    fn what_a_rule_makes_of_an_address_may_be_none() {
        assert!(registered(&[("(x?)pg1:5432", "$1:5432")], "pg1:5432").is_err());
    }

    #[test]
    fn a_rule_that_cannot_serve_is_refused_before_any_address_is_seen() {
        for (pattern, registered, says) in [
            ("10(", "x:1", "unclosed group"),
            ("10.1.(.*):5432", "10.2.$2:5432", "no group `2`"),
            ("10.1.(.*):5432", "10.2.$1a:5432", "no group `1a`"),
            ("(?<host>.*):5432", "${hots}:5432", "no group `hots`"),
            ("(.*):5432", "$1", "no port"),
            ("(.*):5432", "$1:0", "no valid port"),
            ("(.*):5432", "a b:5432", "names no host"),
            ("(.*):5432", "$:5432", "no group ``"),
        ] {
            let error = AddressRule::new(pattern, registered).expect_err(registered);
            assert!(error.to_string().contains(says), "{registered}: {error}");
        }
        assert!(AddressRule::new("a.*", "$0").is_ok());
    }
}
