//! The entry nodes of one formation, as the executors know them: the sessions there, and the entry
//! nodes that are still held, of holds that were lost with the coordinator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dcs_watch::HostPort;

use super::held_entry_nodes::HeldEntryNodes;
use crate::session::{EntryNodeSessions, Login, SqlError};

/// Which hold: of which group, in which database.
pub(super) type HoldKey = (i32, Arc<str>);

/// The entry nodes of one formation; cheap to clone.
#[derive(Clone, Debug)]
pub struct EntryNodes {
    sessions: EntryNodeSessions,
    /// Held still, though their hold was lost.
    kept: Arc<Mutex<BTreeMap<HoldKey, HeldEntryNodes>>>,
}

impl EntryNodes {
    /// No session is open yet.
    pub fn new(login: &Login) -> Self {
        Self {
            sessions: EntryNodeSessions::new(login),
            kept: Arc::default(),
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

    /// Lets go of entry nodes that were kept: nothing of this group is to be held.
    pub fn let_go(&self, group: i32) {
        self.all_kept().retain(|key, _| key.0 != group);
    }

    /// Keeps the entry nodes of a hold that was lost, until it is taken again or its group is let
    /// go.
    pub(super) fn keep(&self, key: HoldKey, held: HeldEntryNodes) {
        let before = self.all_kept().insert(key, held);
        drop(before);
    }

    /// The entry nodes that were kept.
    pub(super) fn take_kept(&self, key: &HoldKey) -> Option<HeldEntryNodes> {
        self.all_kept().remove(key)
    }

    fn all_kept(&self) -> MutexGuard<'_, BTreeMap<HoldKey, HeldEntryNodes>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
