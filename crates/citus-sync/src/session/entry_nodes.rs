//! Sessions on entry nodes: the worker leaders through which clients send queries, too. They are
//! opened on demand, or in advance, and stay open for a while; an entry node that cannot be reached
//! costs little (rule 9).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use citus_core::group::SPARE;
use citus_core::plan::COORDINATOR_GROUP;
use citus_core::sql::primary_of;
use dcs_watch::HostPort;

use super::connect::{AnswerRow, Connection};
use super::error::SqlError;
use super::login::Login;
use super::reference_tables::ReferenceTables;
use super::warm::{Keep, Key, LINGER, WarmSessions};

/// How long a connect to an entry node may take, and its first answer. An entry node is skipped
/// sooner than it is waited for.
const CONNECT: Duration = Duration::from_millis(300);

/// Their number is bounded by what holds and moves have open at once.
const KEPT_WARM: Keep = Keep {
    at_most: usize::MAX,
    linger: Some(LINGER),
};

/// Sessions on the entry nodes of one formation; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct EntryNodeSessions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    login: Login,
    idle: WarmSessions,
    reference_tables: Mutex<BTreeMap<Key, ReferenceTables>>,
}

impl EntryNodeSessions {
    /// No session is open yet.
    pub(crate) fn new(login: &Login) -> Self {
        Self {
            shared: Arc::new(Shared {
                login: Login {
                    connect_timeout: login.connect_timeout.min(CONNECT),
                    ..login.clone()
                },
                idle: WarmSessions::new(KEPT_WARM),
                reference_tables: Mutex::default(),
            }),
        }
    }

    /// A session on an entry node, warm if there is one.
    ///
    /// # Errors
    ///
    /// The entry node cannot be reached in time; or it is in recovery, and so none for the moment.
    pub(crate) async fn session(
        &self,
        entry_node: &HostPort,
        database: &Arc<str>,
    ) -> Result<Connection, SqlError> {
        if let Some(session) = self.shared.idle.take(entry_node, database) {
            return Ok(session);
        }
        let mut session = self.open(entry_node, database).await?;
        if session.verify_within(CONNECT).await? {
            return Err(SqlError::InRecovery);
        }
        Ok(session)
    }

    /// Opens the sessions in advance that a hold on an entry node and the move of its row take.
    /// They stay open for as long as this is called again in time.
    ///
    /// # Errors
    ///
    /// The entry node cannot be reached, or is none for the moment.
    pub(crate) async fn keep_warm(
        &self,
        entry_node: &HostPort,
        database: &Arc<str>,
    ) -> Result<(), SqlError> {
        let mut sessions = Vec::new();
        while sessions.len() < SPARE {
            let mut session = self.session(entry_node, database).await?;
            // Whether it is alive; and Citus reads on first use what it would have to read later.
            session.rows(&primary_of(COORDINATOR_GROUP)).await?;
            sessions.push(session);
        }
        for session in sessions {
            self.put_back(database, session);
        }
        Ok(())
    }

    /// Runs one query on a session of an entry node, for its rows.
    ///
    /// # Errors
    ///
    /// The entry node cannot be reached, is none for the moment, or refuses.
    pub(crate) async fn ask(
        &self,
        entry_node: &HostPort,
        database: &Arc<str>,
        query: &str,
    ) -> Result<Vec<AnswerRow>, SqlError> {
        let mut session = self.session(entry_node, database).await?;
        let rows = session.rows(query).await?;
        self.put_back(database, session);
        Ok(rows)
    }

    /// A new session on any member.
    pub(crate) async fn open(
        &self,
        member: &HostPort,
        database: &Arc<str>,
    ) -> Result<Connection, SqlError> {
        Connection::open(&self.shared.login, member, database).await
    }

    /// The session that holds the reference tables on an entry node, for the holds of all groups.
    pub(crate) fn reference_tables(
        &self,
        entry_node: &HostPort,
        database: &Arc<str>,
    ) -> ReferenceTables {
        let all = &self.shared.reference_tables;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (entry_node.clone(), database.clone());
        all.entry(key).or_default().clone()
    }

    /// Keeps a session for a while, if it still works.
    pub(crate) fn put_back(&self, database: &Arc<str>, session: Connection) {
        self.shared.idle.put_back(database, session);
    }
}
