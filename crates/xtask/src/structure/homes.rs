//! Libraries that have one home: one file or folder that knows them, so that they can be exchanged
//! there. In: a source file. Out: each line that names such a library elsewhere.

use std::fmt;

use anyhow::{Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

/// Each library with its home in the product crates: a file, or a folder if it ends with `/`.
const HOMES: &[(&str, &str)] = &[
    ("etcd_client", "crates/dcs-watch/src/client/etcd.rs"),
    ("backoff", "crates/dcs-watch/src/client/retry.rs"),
    ("serde_yaml", "crates/citus-core/src/config/yaml.rs"),
    ("tokio_postgres", "crates/citus-sync/src/session/"),
    ("axum", "crates/citus-sync/src/http/"),
    ("hyper", "crates/citus-sync/src/http/"),
];

/// One line that names a library away from its home.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// The file, from the workspace's root.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The library, and where it belongs.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What one file of a product crate, named from the workspace's root, names away from home.
pub fn breaches(file: &str, text: &str) -> Result<Vec<Breach>> {
    let tokens: TokenStream = text
        .parse()
        .map_err(|error| anyhow!("reading {file}: {error}"))?;
    let mut found = Vec::new();
    for (name, line) in libraries(tokens) {
        for (library, home) in HOMES {
            if name == *library && !at_home(file, home) {
                found.push(Breach {
                    file: file.to_owned(),
                    line,
                    what: format!("`{library}` is for {home} alone"),
                });
            }
        }
    }
    Ok(found)
}

fn at_home(file: &str, home: &str) -> bool {
    if home.ends_with('/') {
        // A folder, or the one file that a small folder may still be.
        return file.starts_with(home) || file == format!("{}.rs", home.trim_end_matches('/'));
    }
    file == home
}

/// Every name that may be a crate's, with its line: one that begins a path, or one that is imported
/// as a whole. The same word as a field, a method or the end of a path is not the library's.
fn libraries(tokens: TokenStream) -> Vec<(String, usize)> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => found.extend(libraries(group.stream())),
            TokenTree::Ident(name) => {
                let before = at.checked_sub(1).map(|at| &tokens[at]);
                let begins_path = punctuation(tokens.get(at + 1)) == Some(':')
                    && punctuation(tokens.get(at + 2)) == Some(':')
                    && punctuation(before) != Some('.')
                    && !ends_path(&tokens[..at]);
                let imported = matches!(before, Some(TokenTree::Ident(word)) if word == "use");
                if begins_path || imported {
                    found.push((name.to_string(), name.span().start().line));
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether what comes next continues a path: `a::` does, a leading `::` does not.
fn ends_path(before: &[TokenTree]) -> bool {
    let [.., name, first, second] = before else {
        return false;
    };
    punctuation(Some(first)) == Some(':')
        && punctuation(Some(second)) == Some(':')
        && matches!(name, TokenTree::Ident(word) if word != "use")
}

fn punctuation(token: Option<&TokenTree>) -> Option<char> {
    match token {
        Some(TokenTree::Punct(punctuation)) => Some(punctuation.as_char()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELSEWHERE: &str = "crates/citus-sync/src/daemon.rs";

    fn lines(file: &str, text: &str) -> Vec<usize> {
        let found = breaches(file, text).unwrap();
        found.into_iter().map(|breach| breach.line).collect()
    }

    #[test]
    fn each_library_has_one_home() {
        for (library, home) in HOMES {
            let text = format!("use {library}::X;");
            assert_eq!(lines(ELSEWHERE, &text), [1], "{library} away from home");
            let own = if home.ends_with('/') {
                format!("{home}a.rs")
            } else {
                (*home).into()
            };
            assert_eq!(lines(&own, &text), [0_usize; 0], "{library} at home");
        }
    }

    #[test]
    fn a_library_is_found_however_it_is_named() {
        let text = "use axum;\nfn f() -> ::hyper::Body { tokio_postgres::connect() }\n\
                    fn g() { println!(\"{}\", etcd_client::VERSION); }\npub use serde_yaml as y;";
        assert_eq!(lines(ELSEWHERE, text), [1, 2, 2, 3, 4]);
    }

    #[test]
    fn comments_strings_fields_and_ends_of_paths_are_no_names_of_libraries() {
        let text = "//! axum::\n/* hyper:: */\nfn f() { self.backoff.reset(); g(\"axum::x\"); }\n\
                    use crate::hyper::x;\nlet backoff: u8 = my_hyper::x;";
        assert_eq!(lines(ELSEWHERE, text), [0_usize; 0]);
    }

    #[test]
    fn a_folder_may_still_be_one_file() {
        let text = "use tokio_postgres::Client;";
        assert_eq!(
            lines("crates/citus-sync/src/session.rs", text),
            [0_usize; 0]
        );
    }
}
