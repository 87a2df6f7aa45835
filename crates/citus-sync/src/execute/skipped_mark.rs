//! Marks entry nodes that did not follow a move as out of sync, so that Citus itself tells them
//! within its own interval, whatever becomes of us before the resync that we owe.

use std::time::Duration;

use citus_core::outcome::Skipped;
use citus_core::sql::{Dialect, batch};
use dcs_watch::HostPort;
use tracing::debug;

use super::transaction::UNSYNCED;
use crate::session::{Connection, Database, SqlError};

/// How long the mark may take.
const MARK: Duration = Duration::from_secs(1);
const MARK_LOCK: &str = "SET LOCAL lock_timeout = '50ms'";

/// All others are told by us, and stay unmarked: while any worker is marked, Citus refuses every
/// DDL (`docs/citus.md`).
pub(super) async fn mark_skipped(database: &Database, dialect: &Dialect, skipped: &[Skipped]) {
    let entry_nodes: Vec<HostPort> = skipped.iter().map(|left| left.node.clone()).collect();
    let Some(mark) = dialect.unsync(&entry_nodes) else {
        return;
    };
    let marked = async {
        let (mut session, _) = database.aside().await?;
        let result = write(&mut session, dialect, &mark).await;
        if result.is_ok() {
            database.refresh(&mut session, dialect).await?;
        }
        database.put_back(session);
        result
    };
    if let Err(error) = marked.await {
        debug!(
            database = %database.name,
            "entry nodes that were skipped could not be marked for Citus's own sync: {error}"
        );
    }
}

async fn write(session: &mut Connection, dialect: &Dialect, mark: &str) -> Result<(), SqlError> {
    let mut texts = vec!["BEGIN", UNSYNCED, MARK_LOCK];
    texts.extend(dialect.order_plain());
    texts.extend([mark, "COMMIT"]);
    let result = session.run_within(&batch(texts), MARK).await;
    if result.is_err() && session.is_usable() {
        session.run_within("ROLLBACK", MARK).await?;
    }
    result
}
