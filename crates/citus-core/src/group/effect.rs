//! What a group reconciler wants done. Each effect is complete: whoever carries it out makes no choice.

use std::time::{Duration, Instant};

use dcs_watch::HostPort;

use super::input::RequestId;
use super::precondition::{Precondition, ReadPrecondition};
use crate::entry_node::{EntryNodeEnd, EntryNodeOrder};
use crate::event::Event;
use crate::plan::{Ask, Exchange, Move, Neighbour, Register, Repair, Step};
use crate::report::{GroupReport, HoldAnswer};

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Execute this in one database; its end is told as [`Input::Ended`](super::Input::Ended).
    Execute(Order),
    /// Call off the hold that is being taken in this database. Its order ends by itself.
    CallOff {
        /// Which database.
        database: String,
    },
    /// Release a hold that came too late, at the coordinator and at these entry nodes.
    Discard {
        /// In which database.
        database: String,
        /// The entry nodes.
        entry_nodes: Vec<EntryNodeEnd>,
    },
    /// The session that held the coordinator is gone: forget it. Its entry nodes stay held.
    ForgetHold {
        /// In which database.
        database: String,
    },
    /// Do this at an entry node; its end is told as [`Input::EntryNode`](super::Input::EntryNode). An
    /// order for the reads of an entry node takes the place of one that is under way there.
    AtEntryNode {
        /// In which database.
        database: String,
        /// What, and where.
        order: EntryNodeOrder,
    },
    /// Close the sessions that hold entry nodes, and call off what is under way there.
    LetEntryNodesGo {
        /// In which database.
        database: String,
    },
    /// Put these questions to members; those that are not among them may be left alone.
    AskMembers {
        /// The questions.
        questions: Vec<Ask>,
        /// For the leader key of this revision.
        leader_revision: i64,
        /// In this round.
        round: u64,
    },
    /// Ask the coordinator whether it reaches a member.
    AskCoordinator {
        /// Which member.
        address: HostPort,
        /// In which round.
        round: u64,
        /// How often in a row it could not be asked: each time another database is tried.
        attempt: u32,
    },
    /// Ask the coordinator ahead of time whether it reaches an address; its answer is told as
    /// [`Input::ReachHeard`](super::Input::ReachHeard).
    AskReach {
        /// In which database.
        database: String,
        /// Which address.
        address: HostPort,
        /// Names the question.
        number: u64,
    },
    /// Let the other groups of the formation know.
    TellNeighbours(Neighbour),
    /// Read linearizably from etcd at which revisions the scope's `leader` and `sync` keys are; told as
    /// [`Input::KeysRead`](super::Input::KeysRead).
    ReadKeys {
        /// Names what the answer is about.
        number: u64,
    },
    /// Count the group's shards at a server that is not known to have them; the count is told as
    /// [`Input::ShardsCounted`](super::Input::ShardsCounted).
    CountShards {
        /// In which database.
        database: String,
        /// The server.
        address: HostPort,
        /// Names what the count is about.
        number: u64,
    },
    /// Have the leader put its log on its disk, so that a standby can replay all of it.
    FlushLog {
        /// In which database.
        database: String,
        /// The leader.
        leader: HostPort,
    },
    /// Free what a dead session left prepared (citus#1131).
    RecoverPrepared {
        /// In which database.
        database: String,
    },
    /// Get ready to see which statements run at the leader.
    WatchReaders {
        /// Names this look.
        number: u64,
        /// The leader.
        leader: HostPort,
    },
    /// Reads are moved: the watch for statements at the leader begins to look.
    ReadersMoved,
    /// Nobody waits for the end of those statements any more.
    ForgetReaders,
    /// Ask entry nodes where their own metadata has the group.
    QueryMetadata {
        /// In which database.
        database: String,
        /// Which.
        targets: Vec<HostPort>,
    },
    /// Keep sessions on an entry node warm.
    Prewarm {
        /// In which database.
        database: String,
        /// Which.
        node: HostPort,
    },
    /// Answer a request.
    Answer {
        /// Who waits.
        id: RequestId,
        /// The answer.
        answer: HoldAnswer,
    },
    /// Whether a hold of this group stands now.
    HoldStands(bool),
    /// Tell the subscribers.
    Publish(Event),
    /// What the group is like now.
    Report(Box<GroupReport>),
}

/// One thing to execute in one database.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names it.
    pub id: u64,
    /// In which database.
    pub database: String,
    /// The step of the decision, for messages.
    pub step: Step,
    /// The entry nodes that follow it at once, beside the coordinator.
    pub entry_nodes: Vec<HostPort>,
    /// What exactly.
    pub action: Action,
}

/// What exactly is to be executed.
#[derive(Clone, Debug)]
pub enum Action {
    /// Hold the coordinator. Its entry nodes have orders of their own.
    Hold {
        /// What is left until the server ends it.
        left: Duration,
        /// How long sessions in the way are waited for.
        cooldown: Duration,
    },
    /// Let the open hold go.
    Release {
        /// What is to be done at its entry nodes.
        entry_nodes: Vec<EntryNodeEnd>,
    },
    /// Move reads, while a hold is open or after a loss.
    ReadMove {
        /// The move.
        step: Move,
        /// What has to be so right before the rows change.
        precondition: ReadPrecondition,
    },
    /// Have Citus tell its workers.
    Resync(Precondition),
    /// Move the row inside the open hold, which ends with it at the coordinator and at the entry nodes
    /// that are held.
    Finish {
        /// The move.
        step: Move,
        /// Keep the hold where `pg_dist_node` stays locked, so that the move can be tried again.
        keep: bool,
        /// What has to be so right before the rows change.
        precondition: Precondition,
    },
    /// Move the row while nothing is held.
    Move {
        /// The move.
        step: Move,
        /// What has to be so right before the rows change.
        precondition: Precondition,
    },
    /// Add the group's row.
    Register {
        /// The row.
        step: Register,
        /// What has to be so right before the rows change.
        precondition: Precondition,
    },
    /// Give a row its address back.
    Repair {
        /// Which row.
        step: Repair,
        /// What has to be so right before the rows change.
        precondition: Precondition,
    },
    /// Give the rows of several groups each other's addresses.
    Exchange {
        /// The rows.
        step: Exchange,
        /// What has to be so right before the rows change, of this group.
        precondition: Precondition,
    },
}

/// What one step of a group came to.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// To be carried out in this order.
    pub all: Vec<Effect>,
    /// When to step again although nothing was told.
    pub again: Option<Instant>,
    /// What the other groups let this one know next matters.
    pub neighbours: bool,
    /// The group is done: the program may end.
    pub finished: bool,
}
