//! A file with a token, and commands that are given it.

use crate::fixture::{Ran, command, run};

/// A token file. It is removed when this value is dropped.
pub(crate) struct Token(tempfile::TempDir);

pub(crate) fn token() -> Token {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "0123456789abcdef\n").unwrap();
    Token(folder)
}

impl Token {
    pub(crate) fn path(&self) -> String {
        self.0.path().join("token").to_str().unwrap().to_owned()
    }
}

/// Runs `citus-sync ARGUMENTS… --token-file FILE`.
pub(crate) fn ask(arguments: &[&str]) -> Ran {
    let token = token();
    let path = token.path();
    let mut all = arguments.to_vec();
    all.extend(["--token-file", &path]);
    run(command(&all))
}
