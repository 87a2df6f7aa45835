//! One look at a server, for commands that look once and end: a member's probe, a database's rows,
//! and the questions that only `check` asks. Nothing here changes anything.

use std::collections::BTreeMap;

use dcs_watch::HostPort;
use dcs_watch::text::excerpt;

use super::catalogue::{detect, read_rows};
use super::connect::{AnswerRow, Connection};
use super::error::SqlError;
use super::login::Login;
use super::member::{MemberAnswer, ask_first};
use super::reachability::reach_on;
use super::shards::count_shards;
use citus_core::plan::{Reach, Row, ShardCount};
use citus_core::sql::{Dialect, IN_RECOVERY};

/// Asks a member what it is. The databases are tried in turn while only the database is at fault: the
/// question is about the server.
///
/// # Errors
///
/// What the last database tried said.
pub async fn member(
    login: &Login,
    address: &HostPort,
    databases: &[String],
) -> Result<MemberAnswer, SqlError> {
    let mut error = SqlError::Answer("no database is configured".to_owned());
    for database in databases {
        match member_by(login, address, database).await {
            Err(found) if found.is_about_the_database() => error = found,
            answer => return answer,
        }
    }
    Err(error)
}

async fn member_by(
    login: &Login,
    address: &HostPort,
    database: &str,
) -> Result<MemberAnswer, SqlError> {
    ask_first(&mut Connection::open(login, address, database).await?).await
}

/// Counts a group's shards at a server, in one database, by what the coordinator says belongs there.
///
/// # Errors
///
/// One of the two cannot be asked.
pub async fn shards(
    login: &Login,
    coordinator: &HostPort,
    server: &HostPort,
    database: &str,
    group: i32,
) -> Result<ShardCount, SqlError> {
    let mut coordinator = Connection::open(login, coordinator, database).await?;
    let mut server = Connection::open(login, server, database).await?;
    count_shards(&mut coordinator, &mut server, group).await
}

/// Reads the rows of one database of the coordinator leader.
///
/// # Errors
///
/// The server cannot be asked, is in recovery, or has no Citus in this database.
pub async fn rows(login: &Login, address: &HostPort, database: &str) -> Result<Vec<Row>, SqlError> {
    let mut session = Connection::open(login, address, database).await?;
    if session.boolean(IN_RECOVERY).await? {
        return Err(SqlError::Answer(
            "the server is still in recovery".to_owned(),
        ));
    }
    let dialect = detect(&mut session).await?;
    read_rows(&mut session, &dialect).await
}

/// What one database of the coordinator leader says of itself.
#[derive(Debug)]
pub struct Facts {
    /// Whether our role may do everything.
    pub superuser: bool,
    /// Whether our role may end sessions of others, but for superusers' if it is none.
    pub signals: bool,
    /// Settings in force in our session, by name: `pg_settings.setting`, in the setting's own
    /// unit. Those that our role may not see, and those of an extension that is not loaded, are
    /// absent.
    pub settings: BTreeMap<String, String>,
    /// Whether our role sees every setting, so that an absent one is not set.
    pub sees_settings: bool,
    /// Background workers that are running; none if our role may not see them.
    pub workers_running: Option<u64>,
    /// What Citus says, or why it says nothing.
    pub citus: Result<CitusFacts, SqlError>,
}

/// What Citus says of one database.
#[derive(Debug)]
pub struct CitusFacts {
    /// Which Citus it is.
    pub dialect: Dialect,
    /// The rows of `pg_dist_node`.
    pub rows: Vec<Row>,
    /// The functions that we call, and whether our role may.
    pub functions: Vec<CallableFunction>,
    /// The worker group with the most shards, and how many: a move locks each of them.
    pub most_shards: Option<(i32, u64)>,
    /// Owners of Citus tables, quoted where need be, whose rights our role does not have:
    /// `lock_shard_metadata` locks for the owner alone.
    pub other_owners: Vec<String>,
}

/// A function that we call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallableFunction {
    /// Its name.
    pub name: String,
    /// The name with its argument types, as GRANT wants it.
    pub signature: String,
    /// Whether our role may execute it.
    pub allowed: bool,
}

/// What our role may do in one database of a worker leader through which clients enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// Each bool is a right of its own.
#[allow(clippy::struct_excessive_bools)]
pub struct EntryNodeFacts {
    /// It takes no writes, so that no hold is needed there.
    pub in_recovery: bool,
    /// Everything.
    pub superuser: bool,
    /// End sessions of others, but for superusers' if it is none.
    pub signals: bool,
    /// UPDATE on `pg_dist_node`.
    pub updates: bool,
    /// EXECUTE on `lock_shard_metadata`.
    pub locks: bool,
}

/// The settings that are in [`Facts`].
const SETTINGS: &str = "SELECT name, COALESCE(setting, '') FROM pg_catalog.pg_settings \
     WHERE name IN ('citus.node_conninfo', 'citus.node_connection_timeout', \
     'default_transaction_read_only', 'idle_in_transaction_session_timeout', \
     'idle_session_timeout', 'lock_timeout', 'max_connections', 'max_locks_per_transaction', \
     'max_prepared_transactions', 'max_worker_processes', 'statement_timeout', \
     'transaction_timeout')";

/// Our role's rights: superuser, whether it sees all settings and all of `pg_stat_activity`, and
/// whether it may end sessions.
const ROLE: &str = "SELECT r.rolsuper, \
     r.rolsuper OR pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE'), \
     r.rolsuper OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), \
     r.rolsuper OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') \
     FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// Processes that take a slot of `max_worker_processes`: everything but clients and those the
/// server always has. What an extension starts bears a name of the extension's choice.
const WORKERS: &str = "SELECT count(*) FROM pg_catalog.pg_stat_activity \
     WHERE backend_type NOT IN ('autovacuum launcher', 'autovacuum worker', 'client backend', \
     'background writer', 'checkpointer', 'archiver', 'startup', 'walreceiver', 'walsender', \
     'walwriter', 'walsummarizer', 'logger', 'slotsync worker', 'io worker', \
     'standalone backend')";

/// The functions that a hold, a move or a registration calls. They change the rows with rights of
/// their own, so EXECUTE is all that our role needs; Citus revokes it from PUBLIC.
const CALLS: &str = "SELECT proname, oid::regprocedure::text, \
     pg_catalog.has_function_privilege(oid, 'EXECUTE') FROM pg_catalog.pg_proc \
     WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN ('citus_update_node', \
     'master_update_node', 'citus_pause_node_within_txn', 'lock_shard_metadata', \
     'citus_add_node', 'master_add_node', 'citus_check_connection_to_node', \
     'recover_prepared_transactions') ORDER BY 1, 2";

/// What our role may do on an entry node, superuser first: read whether it is in recovery, end
/// sessions, change `pg_dist_node`, lock shards.
const ENTRY_NODE: &str = "SELECT pg_catalog.pg_is_in_recovery(), r.rolsuper, \
     r.rolsuper OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'), \
     COALESCE(pg_catalog.has_table_privilege(to_regclass('pg_catalog.pg_dist_node'), 'UPDATE'), \
     false), COALESCE((SELECT bool_and(pg_catalog.has_function_privilege(oid, 'EXECUTE')) \
     FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace \
     AND proname = 'lock_shard_metadata'), false) \
     FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// The worker group with the most shards.
const MOST_SHARDS: &str = "SELECT groupid::int4, count(*) FROM pg_catalog.pg_dist_placement \
     GROUP BY groupid ORDER BY 2 DESC, 1 LIMIT 1";

/// The owners of Citus tables that are not our role, nor roles that it has the rights of.
const OTHER_OWNERS: &str = "SELECT DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)) \
     FROM pg_catalog.pg_dist_partition p JOIN pg_catalog.pg_class c ON c.oid = p.logicalrelid \
     WHERE NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY 1";

/// Asks one database of the coordinator leader everything that `check` wants to know.
///
/// # Errors
///
/// The server cannot be asked at all. That there is no Citus is among the facts.
pub async fn database(login: &Login, address: &HostPort, name: &str) -> Result<Facts, SqlError> {
    let mut session = Connection::open(login, address, name).await?;
    let role = session.rows(ROLE).await?;
    let says = |column| role.first().and_then(|row| row.get(column)) == Some("t");
    let (superuser, sees_settings, sees_workers) = (says(0), says(1), says(2));
    let signals = says(3);
    let settings = session
        .rows(SETTINGS)
        .await?
        .iter()
        .map(|row| (cell(row, 0), cell(row, 1)))
        .collect();
    let workers_running = if sees_workers {
        session
            .rows(WORKERS)
            .await?
            .first()
            .and_then(|row| cell(row, 0).parse().ok())
    } else {
        None
    };
    let citus = ask_citus(&mut session).await;
    Ok(Facts {
        superuser,
        signals,
        settings,
        sees_settings,
        workers_running,
        citus,
    })
}

async fn ask_citus(session: &mut Connection) -> Result<CitusFacts, SqlError> {
    let dialect = detect(session).await?;
    let rows = read_rows(session, &dialect).await?;
    let functions = session
        .rows(CALLS)
        .await?
        .iter()
        .map(|row| CallableFunction {
            name: cell(row, 0),
            signature: cell(row, 1),
            allowed: row.get(2) == Some("t"),
        })
        .collect();
    // Before Citus 7 there was no such table, and a role may lack the right to read it: then
    // neither the size of the lock table nor the owners are judged.
    let most_shards = session.rows(MOST_SHARDS).await.ok();
    let most_shards = most_shards.and_then(|rows| {
        let row = rows.first()?;
        Some((cell(row, 0).parse().ok()?, cell(row, 1).parse().ok()?))
    });
    let other_owners = session.rows(OTHER_OWNERS).await.unwrap_or_default();
    let other_owners = other_owners.iter().map(|row| cell(row, 0));
    Ok(CitusFacts {
        dialect,
        rows,
        functions,
        most_shards,
        other_owners: other_owners.collect(),
    })
}

/// Asks one database of a worker leader what our role may do there.
///
/// # Errors
///
/// It cannot be asked.
pub async fn entry_node(
    login: &Login,
    address: &HostPort,
    name: &str,
) -> Result<EntryNodeFacts, SqlError> {
    let mut session = Connection::open(login, address, name).await?;
    let row = session.rows(ENTRY_NODE).await?;
    let says = |column| row.first().and_then(|row| row.get(column)) == Some("t");
    Ok(EntryNodeFacts {
        in_recovery: says(0),
        superuser: says(1),
        signals: says(2),
        updates: says(3),
        locks: says(4),
    })
}

/// What a column says, fit to be shown: a setting or a name may hold anything.
fn cell(row: &AnswerRow, column: usize) -> String {
    excerpt(row.get(column).unwrap_or_default(), CELL).into_owned()
}

/// The longest value of a setting that `check` judges, in bytes.
const CELL: usize = 1 << 10;

/// Whether one database of the coordinator leader itself reaches an address, why not, and which server
/// is there; on a session of its own, because Citus may wait for a silent host until our deadline.
/// `None` where this Citus cannot say.
///
/// # Errors
///
/// No answer in time, or the coordinator cannot be asked.
pub async fn reaches(
    login: &Login,
    coordinator: &HostPort,
    database: &str,
    to: &HostPort,
) -> Result<Option<Reach>, SqlError> {
    let mut session = Connection::open(login, coordinator, database).await?;
    let dialect = detect(&mut session).await?;
    if !dialect.checks_connections {
        return Ok(None);
    }
    reach_on(&mut session, &dialect, to).await.map(Some)
}
