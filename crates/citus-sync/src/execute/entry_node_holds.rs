//! The entry nodes of one group's holds: the sessions that hold them, and what is under way there.
//!
//! In: an order for one entry node. Out: what came of it, one at a time, and that a session which
//! holds an entry node was closed. An entry node that is slow, silent or busy delays no other
//! (rule 9).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Instant;

use citus_core::entry_node::{EntryNodeAction, EntryNodeAnswer, EntryNodeHeard, EntryNodeOrder};
use dcs_watch::HostPort;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Aborted, abortable};
use futures_util::stream::FuturesUnordered;

use super::entry_node_reads::{catch_up, follow_read_move};
use super::entry_nodes::EntryNodes;
use super::error::StepError;
use super::held_entry_node::HeldEntryNode;
use super::order::HoldOrder;
use crate::session::Database;

/// Where: in which database of which entry node.
type Key = (String, HostPort);

/// What an order is about. At one place one of each kind is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Taking the locks.
    Hold,
    /// Whether the session that has them is closed.
    Watch,
    /// Where its reads go.
    Reads,
}

/// The entry nodes of one group's holds. Dropping it closes the sessions, which ends the holds.
#[derive(Debug)]
pub struct EntryNodeHolds {
    group: i32,
    entry_nodes: EntryNodes,
    held: BTreeMap<Key, HeldEntryNode>,
    under_way: FuturesUnordered<Task>,
    call_off: BTreeMap<(Key, Kind), AbortHandle>,
}

type Task = Pin<Box<dyn Future<Output = Option<Ended>> + Send>>;

/// The end of a task.
struct Ended {
    key: Key,
    order: u64,
    what: What,
}

enum What {
    Taken(Box<Result<(HeldEntryNode, Vec<String>), StepError>>),
    Heard(EntryNodeAnswer),
}

impl EntryNodeHolds {
    /// Nothing is held.
    pub fn new(group: i32, entry_nodes: EntryNodes) -> Self {
        Self {
            group,
            entry_nodes,
            held: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            call_off: BTreeMap::new(),
        }
    }

    /// Begins to carry out an order.
    pub fn carry_out(&mut self, database: &Database, order: EntryNodeOrder) {
        let EntryNodeOrder { id, node, action } = order;
        let key = (database.name.to_string(), node.clone());
        let (database, sessions) = (database.clone(), self.entry_nodes.sessions().clone());
        let group = self.group;
        match action {
            EntryNodeAction::Hold { left, cooldown } => {
                let deadline = Instant::now() + left;
                let order = HoldOrder {
                    group,
                    left,
                    cooldown,
                };
                self.begin(key, id, Kind::Hold, async move {
                    let taken =
                        HeldEntryNode::take(id, &database, &sessions, &order, deadline, &node);
                    What::Taken(Box::new(taken.await))
                });
            }
            EntryNodeAction::CatchUp(step) => self.begin(key, id, Kind::Reads, async move {
                let caught_up = catch_up(&sessions, &database, &step).await;
                What::Heard(match caught_up {
                    Ok(()) => EntryNodeAnswer::CaughtUp,
                    Err(_) => EntryNodeAnswer::CannotTell,
                })
            }),
            EntryNodeAction::Follow(step) => self.begin(key, id, Kind::Reads, async move {
                let moved = follow_read_move(&sessions, &database, group, &node, &step).await;
                What::Heard(match moved {
                    Ok(()) => EntryNodeAnswer::Followed,
                    Err(_) => EntryNodeAnswer::DidNotFollow,
                })
            }),
        }
    }

    /// Whether nothing is under way, so that nothing is to be heard.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// What is heard next; none if what ended was called off, or nothing is under way.
    pub async fn next(&mut self) -> Option<EntryNodeHeard> {
        let Ended { key, order, what } = self.under_way.next().await??;
        let answer = match what {
            What::Heard(answer) => {
                if answer == EntryNodeAnswer::Lost {
                    self.held.remove(&key);
                }
                answer
            }
            What::Taken(taken) => match *taken {
                Ok((held, terminated)) => {
                    self.watch(key.clone(), held);
                    EntryNodeAnswer::Held { terminated }
                }
                Err(error) if error.is_no_entry_node() => EntryNodeAnswer::IsNone,
                Err(error) => EntryNodeAnswer::NotHeld {
                    error: error.to_string(),
                },
            },
        };
        let (database, node) = key;
        Some(EntryNodeHeard {
            database,
            node,
            order,
            answer,
        })
    }

    /// The hold of a database ends: calls off what is under way. The sessions that hold its entry
    /// nodes are the caller's to end.
    pub fn end(&mut self, database: &str) -> HeldSessions {
        self.call_off.retain(|((name, _), _), call_off| {
            let ours = name == database;
            if ours {
                call_off.abort();
            }
            !ours
        });
        let (ours, others) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|((name, _), _)| name == database);
        self.held = others;
        let ours: BTreeMap<Key, HeldEntryNode> = ours;
        let by_node = ours.into_iter().map(|((_, node), held)| (node, held));
        HeldSessions(by_node.collect())
    }

    /// The end of a hold came to nothing: its entry nodes are held as before.
    pub fn keep(&mut self, database: &str, HeldSessions(held): HeldSessions) {
        for (node, held) in held {
            self.watch((database.to_owned(), node), held);
        }
    }

    /// Keeps a session that holds an entry node, and listens to it.
    fn watch(&mut self, key: Key, held: HeldEntryNode) {
        let (closing, order) = (held.closing(), held.order);
        self.held.insert(key.clone(), held);
        self.begin(key, order, Kind::Watch, async move {
            closing.await;
            What::Heard(EntryNodeAnswer::Lost)
        });
    }

    /// Begins a task; it takes the place of one of its kind that is under way there.
    fn begin(
        &mut self,
        key: Key,
        order: u64,
        kind: Kind,
        task: impl Future<Output = What> + Send + 'static,
    ) {
        let (task, call_off) = abortable(task);
        if let Some(before) = self.call_off.insert((key.clone(), kind), call_off) {
            before.abort();
        }
        self.under_way.push(Box::pin(async move {
            match task.await {
                Ok(what) => Some(Ended { key, order, what }),
                Err(Aborted) => None,
            }
        }));
    }
}

/// The sessions that hold the entry nodes of one database. Dropping it closes them, which ends the
/// hold there.
#[derive(Debug, Default)]
pub struct HeldSessions(pub(super) BTreeMap<HostPort, HeldEntryNode>);
