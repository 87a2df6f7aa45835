//! What is known of a hold's entry nodes, without any of the doing: which are held, which are being
//! taken or skipped, and which have yet to follow a read move.
//!
//! In: what became of each entry node, where reads were sent, and that the leader is gone. Out:
//! which of them follow when, what was not reported yet, and what is left at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use citus_core::outcome::{EntryNodeNews, Skipped};
use citus_core::plan::Move;
use dcs_watch::HostPort;
use tokio::sync::watch;

use super::error::StepError;
use super::held_entry_node::HeldEntryNode;

/// What is known of them; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<watch::Sender<State>>);

/// All of it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Those that are being taken.
    pub(super) under_way: Vec<HostPort>,
    pub(super) held: Vec<HeldEntryNode>,
    /// Those that were held when the hold was complete, which is when the leader is asked how much
    /// a standby has to have; and those that came later and have followed.
    pub(super) in_time: Vec<HostPort>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) terminated: Vec<String>,
    /// How many of `skipped` and of `terminated` were reported.
    reported: (usize, usize),
    /// Entry nodes that were not held in time when reads were moved, and where their row is to be.
    pub(super) behind: BTreeMap<HostPort, Behind>,
    /// The leader that reads were taken from takes no writes any more.
    pub(super) leader_is_gone: bool,
    /// The hold is.
    pub(super) over: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Behind {
    pub(super) step: Move,
    /// It was begun once.
    pub(super) tried: bool,
    /// It did not come to anything, and is tried again at the end of the hold.
    pub(super) failed: bool,
}

/// The entry nodes at the end of a hold.
#[derive(Default)]
pub(super) struct LastState {
    /// The caller's to end.
    pub(super) held: Vec<HeldEntryNode>,
    /// Those whose row has yet to be moved.
    pub(super) behind: BTreeMap<HostPort, Move>,
    /// Those that were reported as skipped before.
    pub(super) named: Vec<HostPort>,
    pub(super) news: EntryNodeNews,
}

impl State {
    pub(super) fn news(&mut self) -> EntryNodeNews {
        let (skipped, terminated) = self.reported;
        self.reported = (self.skipped.len(), self.terminated.len());
        EntryNodeNews {
            held: self.held.len(),
            skipped: self.skipped[skipped..].to_vec(),
            terminated: self.terminated[terminated..].to_vec(),
        }
    }

    /// An entry node was taken, or could not be.
    pub(super) fn note(
        &mut self,
        entry_node: HostPort,
        taken: Result<(HeldEntryNode, Vec<String>), StepError>,
    ) {
        if self.over {
            return;
        }
        self.under_way.retain(|other| *other != entry_node);
        match taken {
            Ok((held, terminated)) => {
                let named = terminated
                    .into_iter()
                    .map(|session| format!("{session} at entry node {entry_node}"));
                self.terminated.extend(named);
                self.held.push(held);
            }
            Err(error) if error.is_no_entry_node() => {}
            Err(error) => self.skipped.push(Skipped {
                node: entry_node,
                error: error.to_string(),
            }),
        }
    }

    fn holds(&self, entry_node: &HostPort) -> bool {
        self.held.iter().any(|held| held.entry_node == *entry_node)
    }

    /// Whether this entry node is held, being taken, or known not to be had.
    pub(super) fn knows(&self, entry_node: &HostPort) -> bool {
        self.holds(entry_node)
            || self.under_way.contains(entry_node)
            || self.skipped.iter().any(|left| left.node == *entry_node)
    }

    /// Whether nothing is about to change: no entry node is being taken, and none that is held is
    /// about to follow a read move.
    pub(super) fn is_quiet(&self) -> bool {
        let mut behind = self.behind.iter();
        self.under_way.is_empty()
            && behind.all(|(entry_node, behind)| behind.failed || !self.holds(entry_node))
    }

    /// The hold is over: what is left, which is the caller's to end. Entry nodes that are still
    /// being taken are skipped, if they had time enough.
    pub(super) fn end(&mut self, had_time: bool) -> LastState {
        self.over = true;
        let named = self.skipped.iter().map(|left| left.node.clone());
        let named = named.collect();
        // One that had no time to be held is not at fault, and needs no looking after.
        for entry_node in self.under_way.drain(..).filter(|_| had_time) {
            self.skipped.push(Skipped {
                node: entry_node,
                error: "was not held before the hold ended".to_owned(),
            });
        }
        let news = self.news();
        let behind = std::mem::take(&mut self.behind).into_iter();
        LastState {
            held: std::mem::take(&mut self.held),
            behind: behind
                .map(|(entry_node, behind)| (entry_node, behind.step))
                .collect(),
            named,
            news,
        }
    }

    /// Whether this entry node is to follow now.
    pub(super) fn is_due(&self, entry_node: &HostPort) -> bool {
        self.behind
            .get(entry_node)
            .is_some_and(|behind| !behind.tried)
            && (self.leader_is_gone || self.holds(entry_node))
    }
}

impl Known {
    pub(super) fn look(&self) -> watch::Ref<'_, State> {
        self.0.borrow()
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut State)) {
        self.0.send_modify(change);
    }

    /// Completes when it is so, or when the hold is over.
    pub(super) async fn wait_for(&self, so: impl Fn(&State) -> bool) {
        let mut news = self.0.subscribe();
        // This is a sender itself, so there is one.
        let _ = news.wait_for(|state| state.over || so(state)).await;
    }

    /// The leader takes no writes any more: nothing keeps an entry node there.
    pub(super) fn leader_is_gone(&self) {
        self.0.send_if_modified(|state| {
            let news = !state.leader_is_gone;
            state.leader_is_gone = true;
            news
        });
    }

    /// Which of these entry nodes follow a read move at once: those that were held in time.
    ///
    /// At one that is not held, writes would go to the standby with the reads, and fail. So its row
    /// stays for as long as the leader is there, which serves both. It follows when it is held, and
    /// the standby has what had been written through it; when the leader is gone; or at the end of
    /// the hold.
    pub(super) fn at_once(&self, targets: &[HostPort]) -> Vec<HostPort> {
        let state = self.look();
        let follows = |entry_node: &&HostPort| {
            let in_time = state.in_time.contains(entry_node);
            state.leader_is_gone || in_time && !state.behind.contains_key(*entry_node)
        };
        targets.iter().filter(follows).cloned().collect()
    }

    /// The coordinator's row is moved; these entry nodes follow later.
    pub(super) fn follow_later(
        &self,
        entry_nodes: impl IntoIterator<Item = HostPort>,
        step: &Move,
    ) {
        let behind = Behind {
            step: step.clone(),
            tried: false,
            failed: false,
        };
        let entry_nodes = entry_nodes
            .into_iter()
            .map(|entry_node| (entry_node, behind.clone()));
        self.tell(|state| state.behind.extend(entry_nodes));
    }
}

/// Adds entry nodes that did not follow to those that are to be reported, unless they were before.
pub(super) fn name_once(news: &mut Vec<Skipped>, skipped: Vec<Skipped>, named: &[HostPort]) {
    for left in skipped {
        if !named.contains(&left.node) && !news.iter().any(|other| other.node == left.node) {
            news.push(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SqlError;

    fn at(port: u16) -> HostPort {
        let host = "entry-node".to_owned();
        HostPort { host, port }
    }

    /// Reads were moved, and this entry node follows later.
    fn with_one_behind(entry_node: u16) -> Known {
        let step = Move {
            nodeid: 2,
            from: at(1),
            to: at(2),
            make_way: None,
        };
        let known = Known::default();
        known.follow_later([at(entry_node)], &step);
        known
    }

    #[test]
    fn an_entry_node_that_had_no_time_to_be_held_is_not_named_at_the_end() {
        let named = |had_time| {
            let mut state = State::default();
            state.under_way.push(at(7));
            let last = state.end(had_time);
            assert_eq!(last.named, []);
            let skipped = last.news.skipped.into_iter();
            skipped.map(|left| left.node).collect::<Vec<_>>()
        };
        assert_eq!(named(false), []);
        assert_eq!(named(true), [at(7)]);
    }

    #[test]
    fn an_entry_node_that_is_not_held_follows_once_when_the_leader_is_gone() {
        let known = with_one_behind(7);
        assert!(!known.look().is_due(&at(7)), "the leader serves it");
        known.leader_is_gone();
        assert!(known.look().is_due(&at(7)));
        assert!(!known.look().is_due(&at(8)), "it is where it should be");
        known.tell(|state| state.behind.get_mut(&at(7)).expect("behind").tried = true);
        assert!(!known.look().is_due(&at(7)), "it was begun");
    }

    #[test]
    fn only_entry_nodes_that_were_held_in_time_follow_reads_at_once_while_the_leader_is_there() {
        let known = with_one_behind(8);
        let all = [at(7), at(8), at(9)];
        known.tell(|state| state.in_time = vec![at(7), at(8)]);
        assert_eq!(known.at_once(&all), [at(7)]);
        known.leader_is_gone();
        assert_eq!(known.at_once(&all), all);
    }

    #[test]
    fn it_is_quiet_when_nothing_is_being_taken_or_about_to_follow() {
        assert!(State::default().is_quiet());
        // Not held, so it waits for the leader's end, or the hold's.
        let known = with_one_behind(7);
        assert!(known.look().is_quiet());
        known.tell(|state| state.under_way.push(at(8)));
        assert!(!known.look().is_quiet());
    }

    #[test]
    fn an_entry_node_that_cannot_be_held_is_reported_once_and_one_that_leads_nothing_never() {
        let mut state = State {
            under_way: vec![at(7), at(8), at(9)],
            ..State::default()
        };
        let gone = SqlError::Io("gone".to_owned());
        state.note(at(7), Err(gone.into()));
        // Reads of its own group are at a standby: its clients cannot write.
        state.note(at(8), Err(SqlError::InRecovery.into()));
        let news = state.news();
        let entry_nodes = news.skipped.iter().map(|left| left.node.clone());
        assert_eq!(entry_nodes.collect::<Vec<_>>(), [at(7)]);
        assert_eq!(state.news(), EntryNodeNews::default());
        assert_eq!(state.under_way, [at(9)]);
        // What comes after the end is not reported any more.
        state.over = true;
        let late = SqlError::Io("late".to_owned());
        state.note(at(9), Err(late.into()));
        assert_eq!(state.news(), EntryNodeNews::default());
    }
}
