//! The entry nodes of one formation, as the executors know them: the sessions there.

use std::sync::Arc;

use dcs_watch::HostPort;

use crate::session::{EntryNodeSessions, Login, SqlError};

/// The entry nodes of one formation; cheap to clone.
#[derive(Clone, Debug)]
pub struct EntryNodes {
    sessions: EntryNodeSessions,
}

impl EntryNodes {
    /// No session is open yet.
    pub fn new(login: &Login) -> Self {
        Self {
            sessions: EntryNodeSessions::new(login),
        }
    }

    pub(super) fn sessions(&self) -> &EntryNodeSessions {
        &self.sessions
    }

    /// Opens the sessions in advance that a hold on an entry node and the move of its row take.
    /// They stay open for as long as this is called again in time.
    ///
    /// # Errors
    ///
    /// The entry node cannot be reached, or is none for the moment.
    pub async fn keep_warm(
        &self,
        entry_node: &HostPort,
        database: &Arc<str>,
    ) -> Result<(), SqlError> {
        self.sessions.keep_warm(entry_node, database).await
    }
}
