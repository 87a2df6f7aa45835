//! What a reader of a configuration may ask for besides the file: environment variables and the
//! contents of other files, passed in so that reading stays pure.

use std::io;
use std::path::{Path, PathBuf};

/// The file that is read, and a way to everything that it leads to.
pub(super) struct Environment<'a> {
    /// The path of the configuration file.
    pub(super) file: &'a Path,
    /// Yields environment variables, empty ones too.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Yields the contents of a file.
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Environment<'_> {
    /// An environment variable; an empty one counts as unset, as libpq has it.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// A path of the file, relative to the file's own folder.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }
}
