//! What a command came to.

use std::fmt;

/// What a command came to.
pub(super) type Outcome = Result<Done, Failed>;

/// The command did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// What was asked for is so.
    Yes,
    /// What was asked for is not so.
    No,
}

/// The command could not do its work.
#[derive(Debug)]
pub(super) enum Failed {
    /// The configuration cannot be used; the text may have several lines.
    Configuration(String),
    /// Anything else, as a message.
    Otherwise(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(text) | Self::Otherwise(text) => f.write_str(text),
        }
    }
}
