//! Which member a Patroni is: its name and its scope, from its command line, its environment and
//! its files.
//!
//! Pure: the words and texts enter, a [`Member`] leaves. A script that Patroni runs learns so who
//! is about to stop, without being told.

use std::path::Path;

use super::yaml::{self, Node};

/// What a Patroni calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The member's name, as in `/service/<scope>/members/<name>`.
    pub name: Option<String>,
    /// Its scope, with the group behind it where Patroni itself manages Citus: `citus/1`.
    pub scope: Option<String>,
}

impl Member {
    /// What is known here, and otherwise there.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            name: self.name.or(other.name),
            scope: self.scope.or(other.scope),
        }
    }
}

/// The member that `env` and `files` describe, as Patroni reads them: the environment goes before
/// the files, a later file before an earlier one. `PATRONI_CONFIGURATION` counts when there is no
/// file.
///
/// # Errors
///
/// A text that is no YAML, with the name it was given.
pub fn member(
    env: &dyn Fn(&str) -> Option<String>,
    files: &[(String, String)],
) -> Result<Member, String> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let variable = "PATRONI_CONFIGURATION";
    let inline = if files.is_empty() {
        env(variable)
    } else {
        None
    };
    let inline = inline.map(|text| (variable.to_owned(), text));
    let mut nodes = Vec::new();
    for (name, text) in files.iter().chain(&inline) {
        let node = yaml::parse(text).map_err(|error| {
            let place = error
                .location
                .map_or(String::new(), |at| format!(":{}:{}", at.line, at.column));
            format!("{name}{place}: text that is no YAML ({})", error.message)
        })?;
        nodes.push(node);
    }
    let of = |keys: &[&str]| nodes.iter().rev().find_map(|node| word(node, keys));
    let name = env("PATRONI_NAME")
        .or_else(|| of(&["name"]))
        .or_else(|| of(&["postgresql", "name"]));
    let scope = env("PATRONI_SCOPE").or_else(|| of(&["scope"]));
    // Patroni leaves the section alone unless it has both.
    let group = env("PATRONI_CITUS_GROUP").or_else(|| of(&["citus", "group"]));
    let database = env("PATRONI_CITUS_DATABASE").or_else(|| of(&["citus", "database"]));
    let scope = match (scope, group, database) {
        (Some(scope), Some(group), Some(_)) => Some(format!("{scope}/{group}")),
        (scope, _, _) => scope,
    };
    Ok(Member { name, scope })
}

/// The text, or the number that is meant as one, at the end of `keys`.
fn word(node: &Node, keys: &[&str]) -> Option<String> {
    let mut node = node;
    for key in keys {
        node = node.get(key)?;
    }
    match node {
        Node::Text(text) if !text.is_empty() => Some(text.clone()),
        Node::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// If this is the command line of a Patroni: the arguments that may name its configuration.
///
/// Patroni is run as `patroni FILE`, `python3 /usr/bin/patroni FILE`, `python3 -m patroni FILE`
/// and more; `patronictl`, which people run, is none.
pub fn patronis_arguments(command: &[String]) -> Option<Vec<&str>> {
    let program = command.iter().position(|word| is_patroni(word))?;
    let arguments = command[program + 1..].iter().map(String::as_str);
    Some(arguments.filter(|word| !word.starts_with('-')).collect())
}

fn is_patroni(word: &str) -> bool {
    // A script of a shell's `-c` is no program, and may well speak of Patroni.
    if word.contains(char::is_whitespace) || is_yaml(word) {
        return false;
    }
    let path = Path::new(word);
    let file = match path.file_name() {
        Some(name) if name == "__main__.py" => path.parent().and_then(Path::file_name),
        name => name,
    };
    file.and_then(|name| name.to_str())
        .is_some_and(|name| name.contains("patroni") && !name.contains("patronictl"))
}

/// Whether Patroni would read this file of a folder.
pub fn is_yaml(file: &str) -> bool {
    Path::new(file)
        .extension()
        .is_some_and(|extension| extension == "yml" || extension == "yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(env: &[(&str, &str)], files: &[&str]) -> (Option<String>, Option<String>) {
        let env = |name: &str| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let files: Vec<(String, String)> = files
            .iter()
            .enumerate()
            .map(|(number, text)| (format!("{number}.yml"), (*text).to_owned()))
            .collect();
        let member = member(&env, &files).unwrap();
        (member.name, member.scope)
    }

    fn some(name: &str, scope: &str) -> (Option<String>, Option<String>) {
        (Some(name.to_owned()), Some(scope.to_owned()))
    }

    #[test]
    fn a_member_is_found_where_patroni_looks() {
        let file = "scope: wk1\nname: wk1-2\nrestapi: {listen: '0:8008'}\n";
        assert_eq!(of(&[], &[file]), some("wk1-2", "wk1"));
        assert_eq!(of(&[], &[]), (None, None));
        assert_eq!(of(&[], &["a: 1"]), (None, None));
        let env = [("PATRONI_NAME", "other"), ("PATRONI_SCOPE", "")];
        assert_eq!(
            of(&env, &[file]),
            some("other", "wk1"),
            "the environment first"
        );
        assert_eq!(
            of(&[], &[file, "name: wk1-9", "scope:"]),
            some("wk1-9", "wk1"),
            "a later file first, and nothing is no name"
        );
        assert_eq!(
            of(&[], &["scope: 7\npostgresql: {name: 8}"]),
            some("8", "7"),
            "numbers, and where Patroni 1 had the name"
        );
        let inline = [("PATRONI_CONFIGURATION", file)];
        assert_eq!(of(&inline, &[]), some("wk1-2", "wk1"));
        assert_eq!(of(&inline, &["scope: cn\nname: cn-1"]), some("cn-1", "cn"));
    }

    #[test]
    fn patronis_own_citus_scopes_have_their_group() {
        let citus = "scope: citus\nname: a\ncitus: {group: 1, database: app}\n";
        assert_eq!(of(&[], &[citus]), some("a", "citus/1"));
        let scripts = "scope: cn\nname: a\ncitus: {databases: [app], workers: []}\n";
        assert_eq!(
            of(&[], &[scripts]),
            some("a", "cn"),
            "the old script's section"
        );
        let half = "scope: cn\nname: a\ncitus: {group: 1}\n";
        assert_eq!(of(&[], &[half]), some("a", "cn"));
        let env = [
            ("PATRONI_CITUS_GROUP", "2"),
            ("PATRONI_CITUS_DATABASE", "app"),
        ];
        assert_eq!(of(&env, &[half]), some("a", "cn/2"));
    }

    #[test]
    fn a_file_that_is_no_yaml_is_named() {
        let files = [("/etc/p.yml".to_owned(), "a: [1\nb: 2".to_owned())];
        let error = member(&|_| None, &files).unwrap_err();
        assert!(error.starts_with("/etc/p.yml:2:"), "{error}");
    }

    #[test]
    fn patroni_is_known_by_its_command_line() {
        let arguments = |line: &str| -> Option<Vec<String>> {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found = patronis_arguments(&words)?;
            Some(found.into_iter().map(str::to_owned).collect())
        };
        for line in [
            "patroni /etc/patroni.yml",
            "/usr/bin/python3 /usr/bin/patroni /etc/patroni.yml",
            "python3 -m patroni /etc/patroni.yml",
            "/opt/patroni/bin/python /opt/patroni/lib/patroni/__main__.py /etc/patroni.yml",
            "/bin/sh /tmp/patroni --some-flag /etc/patroni.yml",
            "/usr/local/bin/patroni-3.2 /etc/patroni.yml",
        ] {
            assert_eq!(
                arguments(line),
                Some(vec!["/etc/patroni.yml".to_owned()]),
                "{line}"
            );
        }
        assert_eq!(arguments("patroni"), Some(vec![]));
        for line in [
            "vim /etc/patroni.yml",
            "patronictl -c /etc/patroni.yml restart wk1",
            "/usr/lib/systemd/systemd --user",
            "-bash",
        ] {
            assert_eq!(arguments(line), None, "{line}");
        }
        let script = ["sh", "-c", "hold --token-file /etc/patroni-token"].map(str::to_owned);
        assert_eq!(patronis_arguments(&script), None);
    }
}
