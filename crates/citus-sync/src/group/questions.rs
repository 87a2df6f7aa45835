//! What is asked and done beside a group's orders; none of it holds up a decision.

use std::sync::Arc;

use citus_core::group::Input;
use dcs_watch::client::Confirm;
use dcs_watch::{HostPort, ScopeId};
use tokio::sync::{Semaphore, watch};
use tracing::debug;

use crate::execute::{
    EntryNodes, ask_entry_nodes, count_at, flush_log, readers_are_gone, recover_prepared,
};
use crate::session::{Database, can_reach, reach};

/// Asks the coordinator whether it reaches a member.
pub(super) async fn ask_coordinator(database: Database, address: HostPort, round: u64) -> Input {
    let answer = can_reach(&database, &address).await;
    Input::CoordinatorSaid {
        address,
        round,
        answer: answer.map_err(|error| error.to_string()),
    }
}

/// Reads from etcd itself at which revisions the scope's `leader` and `sync` keys are.
pub(super) async fn read_keys(confirm: Confirm, scope: ScopeId, number: u64) -> Input {
    let answer = confirm.keys(&scope).await;
    Input::KeysRead { number, answer }
}

/// Counts the group's shards at a server.
pub(super) async fn count_shards(
    database: Database,
    entry_nodes: EntryNodes,
    address: HostPort,
    group: i32,
    number: u64,
) -> Input {
    let answer = count_at(&database, &entry_nodes, &address, group).await;
    Input::ShardsCounted {
        database: database.name.to_string(),
        address,
        number,
        answer: answer.map_err(|error| error.to_string()),
    }
}

/// Has the leader put its log on its disk. The standby's next answer tells what came of it.
pub(super) async fn flush(database: Database, entry_nodes: EntryNodes, leader: HostPort) {
    if let Err(error) = flush_log(&entry_nodes, &leader, &database.name).await {
        debug!(database = %database.name, %leader, "having the log flushed: {error}");
    }
}

/// Asks the coordinator ahead of time whether it reaches an address, after `turn` came.
pub(super) async fn ask_reach(
    database: Option<Database>,
    address: HostPort,
    number: u64,
    turn: Arc<Semaphore>,
) -> Input {
    let Some(database) = database else {
        let answer = Err("the database is not connected".to_owned());
        return Input::ReachHeard { number, answer };
    };
    // Closed by nobody; without a turn the question is put all the same.
    let _turn = turn.acquire().await;
    let answer = reach(&database, &address).await;
    if let Err(error) = &answer {
        debug!(database = %database.name, %address, "whether the coordinator reaches it: {error}");
    }
    Input::ReachHeard {
        number,
        answer: answer.map_err(|error| error.to_string()),
    }
}

/// Frees what a dead coordinator session or the old primary left prepared, so that it does not keep rows
/// locked for a minute (citus#1131).
pub(super) async fn recover(database: Database) -> Input {
    let result = recover_prepared(&database).await;
    Input::Recovered {
        database: database.name.to_string(),
        result: result
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(|error| error.to_string()),
    }
}

/// Waits until the statements that Citus runs at the leader have ended, from the moment `moved` says.
pub(super) async fn watch_readers(
    database: Database,
    entry_nodes: EntryNodes,
    leader: HostPort,
    moved: watch::Receiver<bool>,
    number: u64,
) -> Input {
    // A leader that cannot be asked is not waited for.
    if let Err(error) = readers_are_gone(&database, &entry_nodes, &leader, moved).await {
        debug!(database = %database.name, %leader, "statements at the leader: {error}");
    }
    Input::ReadersGone { number }
}

/// Asks entry nodes where their own metadata has the group.
pub(super) async fn query_metadata(
    database: Database,
    entry_nodes: EntryNodes,
    targets: Vec<HostPort>,
    group: i32,
) -> Input {
    let answers = ask_entry_nodes(&database, &entry_nodes, &targets, group).await;
    let answers = answers.into_iter();
    Input::MetadataQueried {
        database: database.name.to_string(),
        answers: answers
            .map(|(node, answer)| (node, answer.map_err(|error| error.to_string())))
            .collect(),
    }
}

/// Keeps sessions on an entry node warm.
pub(super) async fn prewarm(database: Database, entry_nodes: EntryNodes, node: HostPort) {
    if let Err(error) = entry_nodes.keep_warm(&node, &database.name).await {
        debug!(database = %database.name, entry_node = %node, "keeping sessions warm: {error}");
    }
}
