//! The entry nodes of a hold that is being taken, from its beginning to the moment that the
//! coordinator is held.

use std::sync::Arc;
use std::time::Instant;

use citus_core::sql::Dialect;

use super::entry_nodes::{EntryNodes, HoldKey};
use super::held_entry_nodes::HeldEntryNodes;
use super::order::HoldOrder;
use crate::session::Database;

/// The entry nodes of a hold that is being taken. Unless it is taken, those of a hold that was lost
/// before are kept on.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    entry_nodes: &'a EntryNodes,
    key: HoldKey,
    were_kept: bool,
    held: HeldEntryNodes,
}

impl<'a> Taking<'a> {
    pub(super) fn begin(
        database: &Database,
        entry_nodes: &'a EntryNodes,
        dialect: &Arc<Dialect>,
        order: &HoldOrder,
        deadline: Instant,
    ) -> Self {
        let key = (order.group, database.name.clone());
        let kept = entry_nodes.take_kept(&key);
        Self {
            entry_nodes,
            key,
            were_kept: kept.is_some(),
            held: HeldEntryNodes::take(
                kept,
                database,
                entry_nodes.sessions(),
                dialect,
                order,
                deadline,
            ),
        }
    }

    /// The coordinator is held.
    pub(super) fn taken(mut self) -> HeldEntryNodes {
        self.were_kept = false;
        std::mem::replace(&mut self.held, HeldEntryNodes::none())
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if self.were_kept {
            let held = std::mem::replace(&mut self.held, HeldEntryNodes::none());
            self.entry_nodes.keep(self.key.clone(), held);
        }
    }
}
