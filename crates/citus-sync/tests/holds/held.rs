//! A hold as the daemon has it: the coordinator's, and the entry nodes', whose state is the product's
//! own. Here it is driven by the scenario, one hold at a time.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use citus_core::entry_node::{EntryNodeAction, EntryNodeOrder};
use citus_core::group::HeldEntryNodes;
use citus_core::outcome::{EntryNodeNews, Finished, Skipped};
use citus_core::plan::Move;
use citus_sync::execute::{
    EntryNodeHolds, EntryNodes, Finish, Hold, HoldOrder, NotFinished, StepError, move_reads,
};
use citus_sync::session::Database;
use dcs_watch::HostPort;
use tokio::time::timeout;

/// How long the daemon waits for entry nodes that are just about done.
const GRACE: Duration = Duration::from_millis(30);

/// What is to be held.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) group: i32,
    pub(crate) left: Duration,
    pub(crate) cooldown: Duration,
    pub(crate) entry_nodes: Vec<HostPort>,
}

/// The sessions that holds are taken on.
#[derive(Clone, Copy)]
pub(crate) struct Sessions<'a> {
    pub(crate) database: &'a Database,
    pub(crate) entry_nodes: &'a EntryNodes,
}

/// An open hold.
#[derive(Debug)]
pub(crate) struct Held {
    hold: Hold,
    at_entry_nodes: AtEntryNodes,
    round: u64,
}

/// The entry nodes of a hold.
#[derive(Debug)]
pub(crate) struct AtEntryNodes {
    nodes: HeldEntryNodes,
    holds: EntryNodeHolds,
    database: Database,
    /// Counts orders.
    orders: u64,
    /// Rises when the hold is complete.
    round: u64,
    terminated: Vec<String>,
    untold: EntryNodeNews,
}

impl AtEntryNodes {
    pub(crate) fn new(sessions: Sessions<'_>, group: i32) -> Self {
        Self {
            nodes: HeldEntryNodes::default(),
            holds: EntryNodeHolds::new(group, sessions.entry_nodes.clone()),
            database: sessions.database.clone(),
            orders: 0,
            round: 0,
            terminated: Vec::new(),
            untold: EntryNodeNews::default(),
        }
    }

    fn begin(&mut self, order: &Order) {
        let action = EntryNodeAction::Hold {
            left: order.left,
            cooldown: order.cooldown,
        };
        let orders = &mut self.orders;
        let id = || next(orders);
        let begin = self
            .nodes
            .begin(&order.entry_nodes, &action, Instant::now(), id);
        self.carry_out(begin);
    }

    fn carry_out(&mut self, orders: Vec<EntryNodeOrder>) {
        for order in orders {
            self.holds.carry_out(&self.database, order);
        }
    }

    fn start_what_is_due(&mut self) {
        let orders = &mut self.orders;
        let due = self.nodes.due(None, None, None, || next(orders));
        self.carry_out(due);
    }

    /// Takes in what is heard, for ever.
    async fn drive(&mut self) -> Infallible {
        loop {
            self.hear().await;
        }
    }

    async fn hear(&mut self) {
        if self.holds.is_idle() {
            std::future::pending::<()>().await;
        }
        if let Some(heard) = self.holds.next().await {
            self.nodes
                .hear(&heard.node, heard.order, heard.answer, self.round);
            self.keep_news();
        }
        self.start_what_is_due();
    }

    async fn drive_until(&mut self, done: impl Fn(&HeldEntryNodes) -> bool) {
        self.start_what_is_due();
        while !done(&self.nodes) {
            self.hear().await;
        }
    }

    fn keep_news(&mut self) {
        let news = self.nodes.news();
        self.terminated.extend_from_slice(&news.terminated);
        self.untold.terminated.extend(news.terminated);
        self.untold.skipped.extend(news.skipped);
        self.untold.held = news.held;
    }

    fn last_news(mut self, not_followed: Vec<Skipped>) -> EntryNodeNews {
        let news = self.nodes.last_news(not_followed);
        let mut untold = self.untold;
        untold.held = news.held;
        untold.skipped.extend(news.skipped);
        untold.terminated.extend(news.terminated);
        untold
    }
}

impl Held {
    /// Holds the coordinator, and the entry nodes beside it. It is there as soon as the coordinator
    /// is held and those that are just about done had a moment. Where it cannot be taken, the entry
    /// nodes of a hold that was lost are given back.
    pub(crate) async fn take(
        sessions: Sessions<'_>,
        mut at_entry_nodes: AtEntryNodes,
        order: &Order,
    ) -> Result<Self, (StepError, Option<AtEntryNodes>)> {
        at_entry_nodes.begin(order);
        let coordinator = HoldOrder {
            group: order.group,
            left: order.left,
            cooldown: order.cooldown,
        };
        let taken = tokio::select! {
            biased;
            taken = Hold::take(sessions.database, &coordinator) => taken,
            never = at_entry_nodes.drive() => match never {},
        };
        let hold = match taken {
            Ok(hold) => hold,
            Err(error) => {
                let kept = at_entry_nodes.nodes.are_kept();
                return Err((error, kept.then_some(at_entry_nodes)));
            }
        };
        let known = at_entry_nodes.drive_until(HeldEntryNodes::are_known);
        // Those that take longer come later.
        let _ = timeout(GRACE, known).await;
        at_entry_nodes.round += 1;
        at_entry_nodes.nodes.stand();
        Ok(Self {
            hold,
            round: at_entry_nodes.round,
            at_entry_nodes,
        })
    }

    /// The entry nodes that are held by now.
    pub(crate) fn entry_nodes(&self) -> Vec<HostPort> {
        self.at_entry_nodes.nodes.status().held
    }

    /// Those that could not be held, and why.
    pub(crate) fn skipped(&self) -> Vec<Skipped> {
        self.at_entry_nodes.nodes.status().skipped
    }

    /// Those that are being held.
    pub(crate) fn under_way(&self) -> Vec<HostPort> {
        self.at_entry_nodes.nodes.status().under_way
    }

    /// Whether no entry node is about to be held, or about to follow a read move.
    pub(crate) fn is_quiet(&self) -> bool {
        self.at_entry_nodes.nodes.status().quiet
    }

    /// The sessions that had to be ended, in words.
    pub(crate) fn terminated(&self) -> Vec<String> {
        let coordinator = self.hold.terminated().iter();
        let all = coordinator.chain(&self.at_entry_nodes.terminated);
        all.cloned().collect()
    }

    /// What became of the entry nodes since this was last asked.
    pub(crate) fn news(&mut self) -> EntryNodeNews {
        self.at_entry_nodes.keep_news();
        std::mem::take(&mut self.at_entry_nodes.untold)
    }

    /// Turns until it is known of each entry node whether it is held.
    pub(crate) async fn known(&mut self) {
        let known = HeldEntryNodes::are_known;
        self.at_entry_nodes.drive_until(known).await;
    }

    /// Turns until none is about to be held, or about to follow.
    pub(crate) async fn quiet(&mut self) {
        let quiet = |nodes: &HeldEntryNodes| nodes.status().quiet;
        self.at_entry_nodes.drive_until(quiet).await;
    }

    /// Turns until something is heard of an entry node, or for a second. What is under way has
    /// deadlines of its own, and would miss them if the runtime stood still.
    pub(crate) async fn turn(&mut self) {
        let _ = timeout(Duration::from_secs(1), self.at_entry_nodes.hear()).await;
    }

    /// The leader takes no writes any more.
    pub(crate) fn leader_is_gone(&mut self) {
        self.at_entry_nodes.nodes.leader_is_gone(true);
        self.at_entry_nodes.start_what_is_due();
    }

    /// Moves reads; no entry node is skipped.
    pub(crate) async fn move_reads(
        &mut self,
        sessions: Sessions<'_>,
        targets: &[HostPort],
        step: &Move,
    ) {
        let nodes = &mut self.at_entry_nodes.nodes;
        let at_once = nodes.move_reads(targets.to_vec(), self.round);
        let (database, entry_nodes) = (sessions.database, sessions.entry_nodes);
        let moved = move_reads(database, entry_nodes, &at_once, 1, step, || true).await;
        assert_eq!(moved.expect("reads are moved").skipped, []);
        nodes.reads_moved(step, &[]);
        self.at_entry_nodes.start_what_is_due();
    }

    /// Completes when the coordinator's session closes.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + 'static {
        self.hold.closing()
    }

    /// The coordinator closed its session: the entry nodes stay held, for the next hold.
    pub(crate) fn lost(self) -> AtEntryNodes {
        let mut at_entry_nodes = self.at_entry_nodes;
        at_entry_nodes.nodes.keep();
        at_entry_nodes
    }

    /// Lets go. What was not told yet.
    pub(crate) async fn release(self, sessions: Sessions<'_>) -> EntryNodeNews {
        let mut at_entry_nodes = self.at_entry_nodes;
        let ends = at_entry_nodes.nodes.end(None, Instant::now());
        let held = at_entry_nodes.holds.end(&sessions.database.name);
        let (database, entry_nodes) = (sessions.database, sessions.entry_nodes);
        let released = self.hold.release(database, entry_nodes, held, &ends);
        at_entry_nodes.last_news(released.await)
    }

    /// Ends with the move of the row.
    pub(crate) async fn finish(
        self,
        sessions: Sessions<'_>,
        targets: &[HostPort],
        step: &Move,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, StepError> {
        let keep = false;
        let finish = Finish {
            targets,
            step,
            keep,
        };
        let finished = self.finish_or_keep(sessions, finish, still_right).await;
        finished.map_err(|(error, _)| error)
    }

    /// The same; where the hold stands on, it is given back.
    pub(crate) async fn finish_or_keep(
        self,
        sessions: Sessions<'_>,
        finish: Finish<'_>,
        still_right: impl Fn() -> bool,
    ) -> Result<Finished, (StepError, Option<Self>)> {
        let (round, mut at_entry_nodes) = (self.round, self.at_entry_nodes);
        at_entry_nodes.nodes.stop_taking(Instant::now());
        let held = at_entry_nodes.holds.end(&sessions.database.name);
        let (database, entry_nodes) = (sessions.database, sessions.entry_nodes);
        let finished = self
            .hold
            .finish(database, entry_nodes, held, finish, still_right);
        match finished.await {
            Ok(mut finished) => {
                let news = at_entry_nodes.last_news(std::mem::take(&mut finished.skipped));
                finished.skipped = news.skipped;
                finished.terminated = news.terminated;
                Ok(finished)
            }
            Err(NotFinished { error, kept }) => {
                let kept = kept.map(|(hold, held)| {
                    at_entry_nodes.holds.keep(&database.name, held);
                    at_entry_nodes.nodes.resume();
                    Self {
                        hold,
                        at_entry_nodes,
                        round,
                    }
                });
                Err((error, kept))
            }
        }
    }
}

fn next(orders: &mut u64) -> u64 {
    *orders += 1;
    *orders
}
