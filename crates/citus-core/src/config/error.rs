//! What is wrong with a configuration, said so that the person who reads it can fix it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::yaml::Location;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error("{}: cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file was read and is wrong; every problem is listed, in the order of the file.
    #[error("{}", Listing { file, problems })]
    Invalid {
        /// The file.
        file: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is written, as far as that is known.
    pub location: Option<Location>,
    /// The key's path, like `workers[1].group`; empty for the file as a whole.
    pub key: String,
    /// What was found there.
    pub found: String,
    /// What was expected there.
    pub expected: String,
    /// What to do about it.
    pub fix: Option<String>,
}

struct Listing<'a> {
    file: &'a Path,
    problems: &'a [Problem],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            // file:line:column first: editors and people know how to jump there.
            write!(f, "{}", self.file.display())?;
            if let Some(Location { line, column }) = problem.location {
                write!(f, ":{line}:{column}")?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(
                f,
                ": found {}; expected {}",
                problem.found, problem.expected
            )?;
            if let Some(fix) = &problem.fix {
                write!(f, "\n    {fix}")?;
            }
        }
        Ok(())
    }
}
