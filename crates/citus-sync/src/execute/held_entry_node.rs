//! One entry node of a hold: how it is held, and how it is let go.

use std::time::Instant;

use dcs_watch::HostPort;

use super::error::StepError;
use super::locking::lock;
use super::order::{Change, HoldOrder, Inside};
use super::place::Place;
use super::transaction::roll_back;
use crate::session::{Connection, Database, EntryNodeSessions, Share};

/// What holds one entry node.
#[derive(Debug)]
pub(super) struct HeldEntryNode {
    pub(super) entry_node: HostPort,
    /// The order that took it.
    pub(super) order: u64,
    pub(super) session: Connection,
    pub(super) reference_tables: Option<Share>,
}

impl HeldEntryNode {
    /// Holds it; and the sessions that had to be ended for that, in words.
    pub(super) async fn take(
        id: u64,
        database: &Database,
        sessions: &EntryNodeSessions,
        order: &HoldOrder,
        deadline: Instant,
        entry_node: &HostPort,
    ) -> Result<(Self, Vec<String>), StepError> {
        let dialect = database.dialect()?;
        let mut session = sessions.session(entry_node, &database.name).await?;
        let place = place(sessions, entry_node, database);
        let name = order.session_name();
        let locked = lock(
            &mut session,
            &place,
            &order.locks(&dialect, &name, deadline),
        )
        .await?;
        let held = Self {
            entry_node: entry_node.clone(),
            order: id,
            session,
            reference_tables: locked.reference_tables,
        };
        Ok((held, locked.terminated))
    }

    /// Completes when the session that holds it closes.
    pub(super) fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        self.session.closing()
    }

    /// The end of the hold here: with the move of its row, or without.
    pub(super) async fn end(
        self,
        sessions: &EntryNodeSessions,
        database: &Database,
        change: Option<Change<'_>>,
        inside: Inside,
    ) -> Result<(), StepError> {
        let Self {
            entry_node,
            mut session,
            reference_tables,
            ..
        } = self;
        match change {
            None => roll_back(&mut session).await?,
            Some(change) => match change.make(&mut session, inside, || true).await {
                // Started anew meanwhile, which ended the hold there: as one that was never held.
                Err(_) if !session.is_usable() => {
                    session = sessions.session(&entry_node, &database.name).await?;
                    change.make(&mut session, Inside::Own, || true).await?;
                }
                made => made?,
            },
        }
        let place = place(sessions, &entry_node, database);
        place.give_back(session);
        place.leave(reference_tables).await;
        Ok(())
    }
}

/// An entry node as a place of locks.
fn place<'a>(
    sessions: &'a EntryNodeSessions,
    address: &'a HostPort,
    database: &'a Database,
) -> Place<'a> {
    Place::EntryNode {
        sessions,
        address,
        database: &database.name,
    }
}
