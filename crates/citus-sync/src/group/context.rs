//! What the groups of one formation share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use citus_core::plan::Writes;
use citus_core::policy::Policy;
use dcs_watch::client::Confirm;
use tokio::sync::{Semaphore, watch};

use super::neighbourhood::Neighbourhood;
use crate::execute::EntryNodes;
use crate::session::{AddressBook, Database};
use crate::state::StateStore;

/// Questions to the coordinator, ahead of time, that are under way at once in a formation: each is
/// a session there, and one more that it opens to a worker. Hundreds of groups begin at the same moment.
pub const ASKED_AT_ONCE: usize = 2;

/// What the groups of one formation share.
pub struct Context {
    /// Where reports go.
    pub store: StateStore,
    /// Its name.
    pub name: String,
    /// Its policy.
    pub policy: Policy,
    /// Add missing groups.
    pub register: bool,
    /// Whether its rows are ours to write.
    pub writes: Writes,
    /// Its databases.
    pub databases: Vec<Database>,
    /// Asks etcd itself.
    pub confirm: Confirm,
    /// Sessions on its entry nodes.
    pub entry_nodes: EntryNodes,
    /// Wakes when the rows of any of them changed.
    pub rows_changed: watch::Receiver<()>,
    /// Registered addresses, where those are not the advertised ones.
    pub addresses: AddressBook,
    /// What its groups let each other know.
    pub neighbourhood: Neighbourhood,
    /// Questions to the coordinator, ahead of time, that may be under way at once.
    pub asking: Arc<Semaphore>,
    /// Groups whose row follows by itself.
    pub fixed: BTreeSet<i32>,
    /// Groups that are held.
    pub held: Mutex<BTreeSet<i32>>,
}

impl Context {
    pub(super) fn database(&self, name: &str) -> Option<Database> {
        let mut databases = self.databases.iter();
        databases.find(|database| *database.name == *name).cloned()
    }

    /// Whether a group other than this one is held.
    pub(super) fn others_are_held(&self, group: i32) -> bool {
        let held = self.held.lock();
        let held = held.unwrap_or_else(PoisonError::into_inner);
        held.iter().any(|other| *other != group)
    }

    /// Notes whether a group is held.
    pub(super) fn note_held(&self, group: i32, is_held: bool) {
        let held = self.held.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        if is_held {
            held.insert(group);
        } else {
            held.remove(&group);
        }
    }
}
