//! The wall between pure files and edges. In: the product crates' sources. Out:
//! each line that breaks it, and files too long without saying why.
//!
//! A file under `src/edge/` is an edge, and so is `main.rs`; every other file
//! of a product crate is pure. Only comments may name what is on the other
//! side.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The crates that the wall runs through.
const PRODUCT: &[&str] = &["dcs-watch", "citus-core", "citus-sync"];
/// A longer file says why in its head comment, with the word "lines" in it.
const LONG: usize = 500;

/// What no pure file names.
const IMPURE: &[&str] = &[
    "tokio",
    "etcd_client",
    "tokio_postgres",
    "axum",
    "hyper",
    "Instant::now",
    "SystemTime::now",
    "crate::edge",
    "super::edge",
];

/// What only one place names, pure or edge. `backoff::` and not `backoff`: the
/// word itself is a fine name for a field.
const HOMES: &[(&str, &str)] = &[
    ("etcd_client", "crates/dcs-watch/src/edge/etcd.rs"),
    ("backoff::", "crates/dcs-watch/src/edge/retry.rs"),
    ("serde_yaml", "crates/citus-core/src/config/yaml.rs"),
    ("tokio_postgres", "crates/citus-sync/src/session/"),
    ("axum", "crates/citus-sync/src/edge/http/"),
    ("hyper", "crates/citus-sync/src/edge/http/"),
];

/// One line that is on the wrong side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// The file, from the workspace's root.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// These fail the check.
    pub breaches: Vec<Breach>,
    /// These are worth a look.
    pub warnings: Vec<String>,
    /// How many files were read: none would be no proof of anything.
    pub files: usize,
}

/// Reads every source file of the workspace at `root`.
pub fn scan(root: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    for file in sources(&root.join("crates"))? {
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .to_string_lossy()
            .replace('\\', "/");
        findings.files += 1;
        findings.breaches.extend(breaches(&name, &text));
        findings.warnings.extend(too_long(&name, &text));
    }
    findings.breaches.sort();
    Ok(findings)
}

/// What breaks the wall in one file, named from the workspace's root.
pub fn breaches(file: &str, text: &str) -> Vec<Breach> {
    let Some(inside) = inside_product(file) else {
        return Vec::new();
    };
    let edges = ["edge/", "session/", "execute/", "main.rs"];
    let pure = !edges.iter().any(|edge| inside.starts_with(edge));
    let mut found = Vec::new();
    for (index, line) in without_comments(text).lines().enumerate() {
        let mut report = |what: String| {
            found.push(Breach {
                file: file.to_owned(),
                line: index + 1,
                what,
            });
        };
        for word in IMPURE.iter().filter(|word| pure && names(line, word)) {
            report(format!(
                "`{word}` in a pure file; edges live under src/edge/"
            ));
        }
        for (word, home) in HOMES {
            if !at_home(file, home) && names(line, word) {
                report(format!(
                    "`{}` is for {home} alone",
                    word.trim_end_matches(':')
                ));
            }
        }
    }
    found
}

/// A complaint about a long file that does not say why it is long.
pub fn too_long(file: &str, text: &str) -> Option<String> {
    let length = text.lines().count();
    let head = text.lines().take_while(|line| line.starts_with("//!"));
    let says_why = head.clone().any(|line| line.contains("lines"));
    (length > LONG && !says_why)
        .then(|| format!("{file}: {length} lines, and its head comment does not say why"))
}

/// `edge/sql/mod.rs` for `crates/citus-sync/src/edge/sql/mod.rs`.
fn inside_product(file: &str) -> Option<&str> {
    let rest = file.strip_prefix("crates/")?;
    let (name, rest) = rest.split_once('/')?;
    PRODUCT.contains(&name).then(|| rest.strip_prefix("src/"))?
}

fn at_home(file: &str, home: &str) -> bool {
    if home.ends_with('/') {
        // A folder, or the one file that a small folder may still be.
        return file.starts_with(home) || file == format!("{}.rs", home.trim_end_matches('/'));
    }
    file == home
}

/// True if `line` has `word` as a word of its own.
fn names(line: &str, word: &str) -> bool {
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part_of_a_word)
            && (word.ends_with(':') || !after.is_some_and(part_of_a_word))
    })
}

/// The text with its comments blanked out, line for line.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (length, keep) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (block_comment(rest), false)
        } else if let Some(length) = raw_string(rest, code.chars().next_back()) {
            (length, true)
        } else if c == '"' {
            (string(rest), true)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\''") {
            // The two characters that would otherwise open something.
            (rest[1..].find('\'').map_or(1, |at| at + 2).max(3), true)
        } else {
            (c.len_utf8(), true)
        };
        let (piece, tail) = rest.split_at(length);
        if keep {
            code.push_str(piece);
        } else {
            code.extend(piece.chars().filter(|c| *c == '\n'));
        }
        rest = tail;
    }
    code
}

/// The length of the block comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string that `text` begins with, if it does.
fn raw_string(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() && c != 'b' || c == '_') {
        return None; // the last letter of a name
    }
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(1 + hashes + 1 + length)
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("listing {}", folder.display()))?
            .path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURE: &str = "crates/citus-sync/src/plan/decide.rs";
    const EDGE: &str = "crates/citus-sync/src/edge/keeper/mod.rs";

    fn lines(file: &str, text: &str) -> Vec<usize> {
        breaches(file, text)
            .into_iter()
            .map(|breach| breach.line)
            .collect()
    }

    #[test]
    fn a_pure_file_names_nothing_impure() {
        for word in IMPURE {
            let text = format!("//! Head.\nuse {word}::x;\n");
            assert!(lines(PURE, &text).contains(&2), "{word}");
        }
        assert_eq!(lines(PURE, "let now = std::time::Instant::now();"), [1]);
        assert_eq!(
            lines(PURE, "#[cfg(test)]\nmod t {\n use tokio::test;\n}"),
            [3]
        );
        assert_eq!(
            lines("crates/dcs-watch/src/key.rs", "use crate::edge::etcd;"),
            [1]
        );
    }

    #[test]
    fn edges_and_other_crates_may() {
        let text = "use tokio::time; let now = Instant::now(); use crate::edge::sql;";
        assert_eq!(lines(EDGE, text), [0_usize; 0]);
        assert_eq!(
            lines("crates/citus-sync/src/main.rs", "tokio::run()"),
            [0_usize; 0]
        );
        assert_eq!(
            lines("crates/citus-sync/tests/e2e/main.rs", text),
            [0_usize; 0]
        );
        assert_eq!(lines("crates/lab/src/wait.rs", text), [0_usize; 0]);
    }

    #[test]
    fn each_client_has_one_home() {
        for (word, home) in HOMES {
            let text = format!("use {}::X;", word.trim_end_matches(':'));
            assert_eq!(lines(EDGE, &text), [1], "{word} away from home");
            let own = if home.ends_with('/') {
                format!("{home}a.rs")
            } else {
                (*home).into()
            };
            assert_eq!(lines(&own, &text), [0_usize; 0], "{word} at home");
        }
        assert_eq!(
            lines(
                "crates/citus-sync/src/session.rs",
                "use tokio_postgres::Client;"
            ),
            [0_usize; 0]
        );
        assert_eq!(
            lines(EDGE, "self.backoff.reset(); retry::next_backoff();"),
            [0_usize; 0]
        );
    }

    #[test]
    fn only_comments_are_exempt() {
        let innocent = "//! tokio\n/// `crate::edge`\nfn f() {} // axum\n/* hyper\n /* tokio */ tokio */\nlet tokios = my_tokio;\n";
        assert_eq!(lines(PURE, innocent), [0_usize; 0]);
        let guilty = "let url = \"http://x\"; tokio::spawn();\n/* a */ tokio::spawn();\n";
        assert_eq!(lines(PURE, guilty), [1, 2]);
        let quotes = "let q = '\"'; tokio::a(); let r = r#\"//\"#; tokio::b();\nlet e = \"\\\"//\"; tokio::c();\nlet l: &'static str = x; tokio::d();\nlet a = '\\''; tokio::e();";
        assert_eq!(lines(PURE, quotes), [1, 2, 3, 4]);
    }

    #[test]
    fn a_long_file_gives_a_reason() {
        let long = "x\n".repeat(LONG + 1);
        assert!(too_long("a.rs", &long).is_some());
        assert!(
            too_long(
                "a.rs",
                &format!("//! Many lines, for it is a table.\n{long}")
            )
            .is_none()
        );
        assert!(too_long("a.rs", "x\n").is_none());
    }
}
