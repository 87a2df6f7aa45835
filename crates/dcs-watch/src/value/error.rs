//! Why a value could not be read.

use crate::text::excerpt;

/// Bytes of a message: a few quoted pieces and the words around them.
const MESSAGE_BYTES: usize = 500;

/// Why a value could not be read, in one line of text: escaped, and at most some 500 bytes long
/// however long the value is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl ValueError {
    pub(super) fn new(what: impl AsRef<str>) -> Self {
        Self(excerpt(what.as_ref(), MESSAGE_BYTES).into_owned())
    }
}

pub(super) fn wrong<T>(what: impl AsRef<str>) -> Result<T, ValueError> {
    Err(ValueError::new(what))
}
