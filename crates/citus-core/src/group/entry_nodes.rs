//! The entry nodes of one database's hold: which of them are held, which have yet to follow a read
//! move, and what is to be done at each. State only: orders leave, answers enter.
//!
//! 1. They begin to be held with the coordinator. One that is slow, silent or busy delays no other
//!    (rule 9): the hold stands without it, and it joins when it is held.
//! 2. When reads are moved, those that were held in time follow at once. At one that was not, writes
//!    would go to the standby with the reads, and fail: its row stays for as long as the leader is
//!    there, which serves both.
//! 3. One that was held late follows when the standby shows whatever was written through it before,
//!    or when the leader is gone; one that is not held, when the leader is gone.
//! 4. At the end of the hold all that are behind follow.
//!
//! The group's own leader is an entry node, too, where it has the metadata. Its row is of no matter:
//! it reads its own shards itself, and it is about to stop. But what is written through it while the
//! hold stands must not be acknowledged once reads have moved: reads move only when it is held.
//!
//! A hold that is lost with the coordinator does not let its entry nodes go: their rows may point at
//! a standby, where their writes would fail. They are kept for the hold that is taken again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dcs_watch::HostPort;

use crate::entry_node::{
    EntryNodeAction, EntryNodeAnswer, EntryNodeEnd, EntryNodeFacts, EntryNodeOrder, EntryNodeStatus,
};
use crate::outcome::{EntryNodeNews, Skipped};
use crate::plan::Move;

/// How long entry nodes have to be held before one that is not done at the end is told of: it had no
/// time, and is not at fault.
const TIME_TO_BE_HELD: Duration = Duration::from_millis(300);

/// How often the session that holds an entry node may be closed before the hold goes on without it.
const LOSSES: u32 = 2;

/// The entry nodes of one database's hold.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a thing that happened to the hold, in any order"
)]
pub struct HeldEntryNodes {
    begun: Option<Instant>,
    nodes: BTreeMap<HostPort, EntryNode>,
    /// The leader that reads are taken from takes no writes any more.
    leader_is_gone: bool,
    /// Their hold was lost with the coordinator's session.
    kept: bool,
    /// The hold stands without some, of which it is not known yet whether they can be held.
    joining: bool,
    /// Those that a read move under way leaves for later, and those that it takes along.
    later: Vec<HostPort>,
    at_once: Vec<HostPort>,
    /// When the hold was about to end, it had had time enough to hold all of them.
    had_time: bool,
    untold: EntryNodeNews,
}

/// How often the group's own leader may say that it takes no writes, or close its session, while it is
/// known to take writes. The two are heard in any order when it changes its mind.
const TRIES_AT_OWN: u32 = 8;

#[derive(Clone, Debug, Default)]
struct EntryNode {
    grip: Grip,
    /// It is the group's own leader.
    own: bool,
    losses: u32,
    /// The hold that was about to end stands on: it is to be taken after all.
    again: bool,
    /// It has followed a read move although it was held late.
    followed: bool,
    /// The standby that shows whatever was written through it before it was held.
    shown_by: Option<HostPort>,
    behind: Option<Behind>,
    /// An order to follow is under way: the next one has to wait for its end, so that the older row
    /// does not come last.
    following: Option<u64>,
}

/// Whether writes through an entry node wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Grip {
    /// It was not asked for.
    #[default]
    None,
    Taking(u64),
    Held {
        order: u64,
        /// The group's round when that was heard.
        round: u64,
    },
    Skipped(String),
    /// It is no entry node for the moment.
    NotOne,
    /// Taking it was called off, because the hold was about to end.
    CalledOff,
}

/// The coordinator's row was moved, and the one at the entry node was not.
#[derive(Clone, Debug)]
struct Behind {
    step: Move,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// For the entry node to be held, or for the leader to be gone.
    Waiting,
    CatchingUp(u64),
    /// The standby cannot be compared: only the leader's end, or the hold's, helps.
    CannotTell,
    CaughtUp,
    Following(u64),
    /// Tried again at the end of the hold.
    Failed,
}

impl HeldEntryNodes {
    /// A hold begins, or begins again: which entry nodes have to be taken. Those that were held for a
    /// hold that was lost are held already.
    pub fn begin(
        &mut self,
        wanted: &[HostPort],
        action: &EntryNodeAction,
        now: Instant,
        mut id: impl FnMut() -> u64,
    ) -> Vec<EntryNodeOrder> {
        self.begun.get_or_insert(now);
        let mut orders = Vec::new();
        for address in wanted {
            let node = self.nodes.entry(address.clone()).or_default();
            if node.grip == Grip::None {
                orders.push(node.take(address, action, id()));
            }
        }
        orders
    }

    /// Takes in what is heard of an entry node. `round` is the group's present one: positions that
    /// were asked for in an earlier one say nothing of what was written through it.
    pub fn hear(&mut self, address: &HostPort, order: u64, answer: EntryNodeAnswer, round: u64) {
        let Some(node) = self.nodes.get_mut(address) else {
            return;
        };
        match answer {
            EntryNodeAnswer::Held { terminated } if node.grip == Grip::Taking(order) => {
                node.grip = Grip::Held { order, round };
                let named = terminated.into_iter();
                let named = named.map(|session| format!("{session} at entry node {address}"));
                self.untold.terminated.extend(named);
            }
            EntryNodeAnswer::IsNone if node.grip == Grip::Taking(order) => {
                node.grip = Grip::NotOne;
                node.losses += u32::from(node.own);
            }
            EntryNodeAnswer::NotHeld { error } if node.grip == Grip::Taking(order) => {
                node.grip = Grip::Skipped(error.clone());
                // A leader that stops closes its session, and is not to be had again.
                if !(node.own && node.losses > 0) {
                    self.untold.skipped.push(Skipped {
                        node: address.clone(),
                        error,
                    });
                }
            }
            EntryNodeAnswer::Lost if matches!(node.grip, Grip::Held { order: own, .. } if own == order) =>
            {
                node.lost();
            }
            EntryNodeAnswer::CaughtUp => node.caught_up(order, How::CaughtUp),
            EntryNodeAnswer::CannotTell => node.caught_up(order, How::CannotTell),
            EntryNodeAnswer::Followed => node.followed(order, true),
            EntryNodeAnswer::DidNotFollow => node.followed(order, false),
            _ => {}
        }
    }

    /// Whether the leader takes no writes any more: then nothing keeps an entry node there.
    pub fn leader_is_gone(&mut self, gone: bool) {
        self.leader_is_gone = gone;
    }

    /// What is to be done now: `hold`, if that is still wanted, at the group's own leader and at entry
    /// nodes whose session was closed; and at those that are behind, as long as the coordinator's row,
    /// where it is known, is where they are to follow.
    pub fn due(
        &mut self,
        hold: Option<&EntryNodeAction>,
        own: Option<&HostPort>,
        row: Option<&HostPort>,
        mut id: impl FnMut() -> u64,
    ) -> Vec<EntryNodeOrder> {
        let mut orders = Vec::new();
        if let (Some(own), Some(hold)) = (own, hold) {
            let node = self.nodes.entry(own.clone()).or_default();
            node.own = true;
            // It takes writes: that it was none a moment ago says nothing.
            let is_free = matches!(node.grip, Grip::None | Grip::NotOne);
            if is_free && node.losses < TRIES_AT_OWN {
                orders.push(node.take(own, hold, id()));
            }
        }
        for (address, node) in &mut self.nodes {
            if let Some(hold) = hold
                && node.grip == Grip::None
                && (node.losses > 0 || node.again)
                && !node.own
            {
                node.again = false;
                orders.push(node.take(address, hold, id()));
            }
            let behind = node.behind.as_ref();
            let is_at = |behind: &Behind| row.is_none_or(|row| *row == behind.step.to);
            if behind.is_some_and(is_at) {
                let to_leader = behind.is_some_and(|behind| own == Some(&behind.step.to));
                let at_once = self.leader_is_gone || to_leader;
                orders.extend(node.follow(address, at_once, &mut id));
            }
        }
        orders
    }

    /// Reads are about to be moved: which of these entry nodes follow at once. `round` is that of the
    /// open hold.
    pub fn move_reads(&mut self, targets: Vec<HostPort>, round: u64) -> Vec<HostPort> {
        let (at_once, later): (Vec<_>, _) = targets.into_iter().partition(|target| {
            let node = self.nodes.get(target);
            // An older move that is under way there must not come last.
            let is_busy = node.is_some_and(|node| node.following.is_some());
            let in_time = node.is_some_and(|node| node.follows_at_once(round));
            !is_busy && (self.leader_is_gone || in_time)
        });
        self.later = later;
        self.at_once.clone_from(&at_once);
        at_once
    }

    /// The coordinator's row is moved: those that did not follow at once do later, and those that were
    /// skipped at the end of the hold.
    pub fn reads_moved(&mut self, step: &Move, skipped: &[Skipped]) {
        for address in std::mem::take(&mut self.at_once) {
            if let Some(node) = self.nodes.get_mut(&address) {
                let failed = skipped.iter().any(|skipped| skipped.node == address);
                node.behind = failed.then(|| Behind {
                    step: step.clone(),
                    how: How::Failed,
                });
            }
        }
        for address in std::mem::take(&mut self.later) {
            let node = self.nodes.entry(address).or_default();
            node.behind = Some(Behind {
                step: step.clone(),
                how: How::Waiting,
            });
        }
    }

    /// The hold was lost with the coordinator: the entry nodes stay held.
    pub fn keep(&mut self) {
        self.kept = true;
        self.joining = false;
    }

    /// The hold stands; what became of its entry nodes so far.
    pub fn stand(&mut self) -> EntryNodeNews {
        self.kept = false;
        self.joining = !self.are_known();
        self.news()
    }

    /// What became of those that took longer than the coordinator, once it is known of each.
    pub fn joined(&mut self) -> Option<EntryNodeNews> {
        let joined = self.joining && self.are_known();
        joined.then(|| {
            self.joining = false;
            self.news()
        })
    }

    /// Whether these are of a hold that was lost.
    pub fn are_kept(&self) -> bool {
        self.kept
    }

    /// Whether it is known of each whether it is held.
    pub fn are_known(&self) -> bool {
        let mut nodes = self.nodes.values();
        nodes.all(|node| !matches!(node.grip, Grip::Taking(_)))
    }

    /// Whether it is known of the group's own leader whether it is held.
    pub fn own_is_known(&self) -> bool {
        let mut own = self.nodes.values().filter(|node| node.own);
        self.leader_is_gone || own.all(|node| !matches!(node.grip, Grip::Taking(_)))
    }

    /// Whether clients can write through the group's own leader, because that is not held.
    pub fn is_open(&self, own: &HostPort) -> bool {
        let node = self.nodes.get(own);
        !node.is_some_and(|node| matches!(node.grip, Grip::Held { .. }))
    }

    /// Whether an order is that which holds the group's own leader.
    pub fn holds_own(&self, address: &HostPort, order: u64) -> bool {
        let node = self.nodes.get(address).filter(|node| node.own);
        node.is_some_and(|node| matches!(node.grip, Grip::Held { order: own, .. } if own == order))
    }

    /// Sessions had to be ended on the coordinator, too.
    pub fn also_terminated(&mut self, terminated: Vec<String>) {
        self.untold.terminated.extend(terminated);
    }

    /// What was not told yet.
    pub fn news(&mut self) -> EntryNodeNews {
        EntryNodeNews {
            held: self.held().count(),
            ..std::mem::take(&mut self.untold)
        }
    }

    /// The hold is about to end: those that are still being taken are called off.
    pub fn stop_taking(&mut self, now: Instant) {
        self.had_time = self
            .begun
            .is_some_and(|begun| now.saturating_duration_since(begun) >= TIME_TO_BE_HELD);
        for node in self.nodes.values_mut() {
            if matches!(node.grip, Grip::Taking(_)) {
                node.grip = Grip::CalledOff;
            }
        }
    }

    /// The hold is over: those that were not held in all its time are told of. One that had no time
    /// is not at fault, and the group's own leader has no clients left.
    fn tell_called_off(&mut self) {
        for (address, node) in &mut self.nodes {
            if node.grip == Grip::CalledOff && self.had_time && !node.own {
                let error = "was not held before the hold ended".to_owned();
                self.untold.skipped.push(Skipped {
                    node: address.clone(),
                    error: error.clone(),
                });
                node.grip = Grip::Skipped(error);
            }
        }
    }

    /// The hold did not end after all: what was under way at those that are behind was called off, and
    /// begins again.
    pub fn resume(&mut self) {
        for node in self.nodes.values_mut() {
            if node.grip == Grip::CalledOff {
                node.grip = Grip::None;
                node.again = true;
            }
            node.following = None;
            if let Some(behind) = &mut node.behind
                && matches!(
                    behind.how,
                    How::CatchingUp(_) | How::CaughtUp | How::Following(_)
                )
            {
                behind.how = How::Waiting;
            }
        }
    }

    /// The hold ends: what is to be done at each; none follows where the coordinator's `row`, while it
    /// is known, is not any more. The coordinator's part is not waited for.
    pub fn end(&mut self, row: Option<&HostPort>, now: Instant) -> Vec<EntryNodeEnd> {
        self.stop_taking(now);
        let mut ends = Vec::new();
        for (address, node) in &mut self.nodes {
            let behind = node.behind.take();
            let behind = behind.filter(|behind| row.is_none_or(|row| *row == behind.step.to));
            let follow = behind.map(|behind| behind.step);
            if follow.is_some() || node.held_in().is_some() {
                ends.push(EntryNodeEnd {
                    node: address.clone(),
                    follow,
                });
            }
        }
        ends
    }

    /// What is to be told at the end: what was not told yet, and those that did not follow, unless
    /// they were told before.
    pub fn last_news(&mut self, not_followed: Vec<Skipped>) -> EntryNodeNews {
        self.tell_called_off();
        let mut news = self.news();
        for skipped in not_followed {
            let node = self.nodes.get(&skipped.node);
            if !node.is_some_and(|node| matches!(node.grip, Grip::Skipped(_))) {
                news.skipped.push(skipped);
            }
        }
        news
    }

    /// How they are.
    pub fn status(&self) -> EntryNodeStatus {
        let nodes = || self.nodes.iter();
        let skipped = nodes().filter_map(|(address, node)| match &node.grip {
            Grip::Skipped(error) => Some(Skipped {
                node: address.clone(),
                error: error.clone(),
            }),
            _ => None,
        });
        let under_way = nodes().filter(|(_, node)| matches!(node.grip, Grip::Taking(_)));
        EntryNodeStatus {
            quiet: nodes().all(|(_, node)| node.is_quiet()),
            held: self.held().cloned().collect(),
            skipped: skipped.collect(),
            under_way: under_way.map(|(address, _)| address.clone()).collect(),
        }
    }

    /// What was seen of one.
    pub fn facts(&self, address: &HostPort) -> EntryNodeFacts {
        let Some(node) = self.nodes.get(address) else {
            return EntryNodeFacts::default();
        };
        EntryNodeFacts {
            held_in: node.held_in(),
            followed: node.followed,
            shown_by: node.shown_by.clone(),
        }
    }

    /// Those that are held, but for the group's own leader, whose clients end with it.
    fn held(&self) -> impl Iterator<Item = &HostPort> {
        let nodes = self.nodes.iter().filter(|(_, node)| !node.own);
        nodes.filter_map(|(address, node)| node.held_in().map(|_| address))
    }
}

impl EntryNode {
    fn held_in(&self) -> Option<u64> {
        match self.grip {
            Grip::Held { round, .. } => Some(round),
            _ => None,
        }
    }

    fn take(&mut self, address: &HostPort, action: &EntryNodeAction, id: u64) -> EntryNodeOrder {
        self.grip = Grip::Taking(id);
        EntryNodeOrder {
            id,
            node: address.clone(),
            action: action.clone(),
        }
    }

    /// Its session was closed: it is taken again, unless that has happened too often.
    fn lost(&mut self) {
        self.losses += 1;
        self.grip = if self.losses < LOSSES || self.own {
            Grip::None
        } else {
            Grip::Skipped("it closed the session that held it, again".to_owned())
        };
        self.followed = false;
        self.shown_by = None;
        if let Some(behind) = &mut self.behind
            && matches!(
                behind.how,
                How::CatchingUp(_) | How::CannotTell | How::CaughtUp
            )
        {
            behind.how = How::Waiting;
        }
    }

    fn follows_at_once(&self, round: u64) -> bool {
        let in_time = self.held_in().is_some_and(|held_in| held_in < round);
        self.behind.is_none() && (in_time || self.followed)
    }

    /// What it takes for it to follow.
    fn follow(
        &mut self,
        address: &HostPort,
        at_once: bool,
        id: &mut impl FnMut() -> u64,
    ) -> Option<EntryNodeOrder> {
        let is_held = self.held_in().is_some();
        let behind = self.behind.as_mut()?;
        if self.following.is_some() {
            return None;
        }
        let action = match behind.how {
            How::Following(_) | How::Failed => return None,
            _ if at_once => EntryNodeAction::Follow(behind.step.clone()),
            How::CaughtUp => EntryNodeAction::Follow(behind.step.clone()),
            How::Waiting if is_held => EntryNodeAction::CatchUp(behind.step.clone()),
            How::Waiting | How::CatchingUp(_) | How::CannotTell => return None,
        };
        let id = id();
        behind.how = if matches!(action, EntryNodeAction::Follow(_)) {
            self.following = Some(id);
            How::Following(id)
        } else {
            How::CatchingUp(id)
        };
        Some(EntryNodeOrder {
            id,
            node: address.clone(),
            action,
        })
    }

    fn caught_up(&mut self, order: u64, how: How) {
        if let Some(behind) = &mut self.behind
            && behind.how == How::CatchingUp(order)
        {
            behind.how = how;
            self.shown_by = (how == How::CaughtUp).then(|| behind.step.to.clone());
        }
    }

    fn followed(&mut self, order: u64, moved: bool) {
        if self.following != Some(order) {
            return;
        }
        self.following = None;
        let Some(behind) = &mut self.behind else {
            return;
        };
        // Unless reads were moved once more meanwhile.
        if behind.how != How::Following(order) {
            return;
        }
        if moved {
            self.behind = None;
            self.followed = true;
        } else {
            behind.how = How::Failed;
        }
    }

    /// Nothing is about to change: it is not being taken, and if it is held it is not about to follow.
    fn is_quiet(&self) -> bool {
        let taking = matches!(self.grip, Grip::Taking(_));
        let behind = self.behind.as_ref();
        let is_to_follow = behind.is_some_and(|behind| behind.how != How::Failed);
        let follows = is_to_follow && self.held_in().is_some();
        !taking && !follows
    }
}
