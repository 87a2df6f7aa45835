//! A server where locks are taken: the coordinator, or an entry node. Out: further sessions there,
//! and where they are given back.

use std::sync::Arc;

use dcs_watch::HostPort;

use crate::session::{Connection, Database, EntryNodeSessions, ReferenceTables, Share, SqlError};

/// Where a lock is wanted, and where a second session there comes from.
pub(super) enum Place<'a> {
    Coordinator(&'a Database),
    EntryNode {
        sessions: &'a EntryNodeSessions,
        address: &'a HostPort,
        database: &'a Arc<str>,
    },
}

impl Place<'_> {
    pub(super) async fn second_session(&self) -> Result<Connection, SqlError> {
        match self {
            Self::Coordinator(database) => database.aside().await.map(|(session, _)| session),
            Self::EntryNode {
                sessions,
                address,
                database,
            } => sessions.session(address, database).await,
        }
    }

    pub(super) fn reference_tables(&self) -> ReferenceTables {
        match self {
            Self::Coordinator(database) => database.reference_tables().clone(),
            Self::EntryNode {
                sessions,
                address,
                database,
            } => sessions.reference_tables(address, database),
        }
    }

    pub(super) fn give_back(&self, session: Connection) {
        match self {
            Self::Coordinator(database) => database.put_back(session),
            Self::EntryNode {
                sessions, database, ..
            } => sessions.put_back(database, session),
        }
    }

    /// Gives up a hold's share in the session that holds the reference tables here.
    pub(super) async fn leave(&self, share: Option<Share>) {
        if let Some(share) = share
            && let Some(session) = share.leave().await
        {
            self.give_back(session);
        }
    }

    pub(super) fn database(&self) -> &str {
        match self {
            Self::Coordinator(database) => &database.name,
            Self::EntryNode { database, .. } => database,
        }
    }
}
