//! Why a step was not carried out.

use thiserror::Error;

use crate::session::SqlError;

/// Why a step was not carried out.
#[derive(Debug, Error)]
pub enum StepError {
    /// News came while we waited; the next decision knows them.
    #[error("the situation changed before the rows did")]
    Superseded,
    /// Nothing was changed.
    #[error("{0}")]
    Sql(#[from] SqlError),
    /// The answer to the commit did not arrive: the rows must be read again.
    #[error("the answer to COMMIT did not arrive, the rows are read again: {0}")]
    Ambiguous(SqlError),
    /// Our role may not change the rows itself.
    #[error(
        "our role may not change pg_dist_node itself: GRANT INSERT, UPDATE, DELETE ON \
         pg_catalog.pg_dist_node TO it, in this database of the coordinator's members and workers"
    )]
    NoRights,
    /// This Citus has no function for the step.
    #[error("this Citus ({0}) has no function for it: do it by hand")]
    Unsupported(String),
}

impl StepError {
    /// Whether an entry node is none for the moment: reads of its own group are at a standby. That
    /// has no copy of the metadata that could be changed, and its clients cannot write. We change
    /// nothing there, and do not mark it either: a mark would have Citus refuse every DDL. Its
    /// group's next leader learns of the move by the resync that is owed after each plain move.
    pub(super) fn is_no_entry_node(&self) -> bool {
        matches!(self, Self::Sql(SqlError::InRecovery))
    }

    /// Whether a lock was not to be had, and nothing else is wrong.
    pub(super) fn is_about_locks(&self) -> bool {
        matches!(self, Self::Sql(error) if error.is_lock_timeout() || error.is_deadlock())
    }
}
