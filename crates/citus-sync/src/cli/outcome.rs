//! What a command came to.

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
