//! What is wrong with a key.

use crate::text::{EXCERPT_BYTES, excerpt_bytes};

/// What is wrong with a key. Each variant has the beginning of the key (or of the text that was
/// refused), escaped and at most some [`EXCERPT_BYTES`] bytes long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key lies outside the namespace. A list and a watch of the namespace never deliver one.
    #[error("key \"{0}\" is not in the namespace")]
    Elsewhere(String),
    /// Patroni writes UTF-8 only.
    #[error("key \"{0}\" is not UTF-8")]
    NotUtf8(String),
    /// An empty path segment where the scope's name belongs, or a control character in it.
    #[error("key \"{0}\" names no scope")]
    NoScope(String),
    /// The scope's folder itself: nothing after the scope (or the group).
    #[error("key \"{0}\" names a scope but no field in it")]
    NoField(String),
    /// `members/` with nothing after it, or with a further slash, which Patroni never writes.
    #[error("key \"{0}\" names no member")]
    NoMember(String),
    /// A number where a Citus group belongs, but not one that fits.
    #[error("key \"{0}\" has a group number that is out of range")]
    Group(String),
    /// Text that should be a scope, or scope and group, is neither.
    #[error(
        "\"{0}\" is not a scope: expected a name such as \"wk1\", or name and group as in \"citus/0\""
    )]
    Scope(String),
    /// A namespace with spaces or control characters in it.
    #[error("\"{0}\" is not a namespace: expected a path such as \"/service/\"")]
    Namespace(String),
}

/// The beginning of a key for people: escaped, and cut after [`EXCERPT_BYTES`] bytes.
pub(crate) fn shown(key: &[u8]) -> String {
    excerpt_bytes(key, EXCERPT_BYTES)
}
