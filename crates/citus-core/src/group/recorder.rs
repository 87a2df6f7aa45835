//! The transition recorder: what happened to a group, from the first news to the last release, with the
//! time of each phase. Enters: what happens, as it does. Leaves: a [`Transition`].

use std::collections::BTreeMap;
use std::time::Instant;

use dcs_watch::HostPort;

use super::clock::{self, micros};
use super::input::Now;
use crate::event::Whose;
use crate::outcome::{EntryNodeNews, Skipped};
use crate::plan::Reason;
use crate::report::{
    DatabaseTransition, Phase, PhaseTimes, Transition, TransitionKind, TransitionOutcome,
};

/// What somebody asked for. A request to Patroni says more than the hook that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// `citus-sync hold`.
    Hold,
    /// Patroni, for a switchover.
    Switchover,
}

/// A transition under way.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    began: Instant,
    transition: Transition,
    /// The member that led when it began.
    leader: Option<String>,
    /// Whether somebody asked for it.
    asked: Option<Asked>,
    expired: bool,
    /// Something was done to a row or to writes.
    acted: bool,
}

impl Recorder {
    /// Begins now.
    pub(super) fn begin(
        whose: &Whose,
        leader: Option<String>,
        from: Option<HostPort>,
        reason: String,
        now: Now,
    ) -> Self {
        let transition = Transition {
            formation: whose.formation.clone(),
            group: whose.group,
            scope: whose.scope.clone(),
            kind: TransitionKind::Move,
            at: clock::text(now.utc),
            from,
            to: None,
            reason,
            outcome: TransitionOutcome::Kept,
            phases: PhaseTimes::default(),
            databases: BTreeMap::new(),
        };
        Self {
            began: now.instant,
            transition,
            leader,
            asked: None,
            expired: false,
            acted: false,
        }
    }

    /// A hold began to stand.
    pub(super) fn held_for(&mut self, reason: Reason, now: Instant) {
        self.acted = true;
        let asked = match reason {
            Reason::Request { .. } => Asked::Switchover,
            Reason::HoldRequest { .. } => Asked::Hold,
            Reason::Promotion { .. } | Reason::Loss { .. } => return,
        };
        self.asked = self.asked.max(Some(asked));
        self.mark(Phase::Requested, now);
    }

    /// The hold's deadline came first.
    pub(super) fn expire(&mut self) {
        self.expired = true;
    }

    /// The first time counts.
    pub(super) fn mark(&mut self, phase: Phase, now: Instant) {
        let now = micros(now.saturating_duration_since(self.began));
        self.slot(phase).get_or_insert(now);
    }

    /// The last time counts: of what happens in several databases.
    fn mark_last(&mut self, phase: Phase, at: u64) {
        self.acted = true;
        *self.slot(phase) = Some(at);
    }

    fn slot(&mut self, phase: Phase) -> &mut Option<u64> {
        let phases = &mut self.transition.phases;
        match phase {
            Phase::Requested => &mut phases.requested_us,
            Phase::Held => &mut phases.held_us,
            Phase::ReadsMoved => &mut phases.reads_moved_us,
            Phase::LeaderGone => &mut phases.leader_gone_us,
            Phase::LeaderKey => &mut phases.leader_key_us,
            Phase::Writable => &mut phases.writable_us,
            Phase::Committed => &mut phases.committed_us,
            Phase::Released => &mut phases.released_us,
        }
    }

    /// Who leads now, as far as somebody does. News only after the old leader is gone, or when it
    /// is another one.
    pub(super) fn look_at_leader(
        &mut self,
        leader: Option<&str>,
        lost: bool,
        writable: bool,
        now: Instant,
    ) {
        let another = leader.is_some() && leader != self.leader.as_deref();
        if leader.is_none() || lost || another {
            self.mark(Phase::LeaderGone, now);
        }
        if another {
            self.mark(Phase::LeaderKey, now);
        }
        if writable && self.transition.phases.leader_gone_us.is_some() {
            self.mark(Phase::Writable, now);
        }
    }

    fn database(&mut self, name: &str) -> &mut DatabaseTransition {
        self.transition
            .databases
            .entry(name.to_owned())
            .or_default()
    }

    pub(super) fn held(&mut self, database: &str, now: Instant) {
        let now = micros(now.saturating_duration_since(self.began));
        let entry = self.database(database);
        entry.held_us = Some(now);
        entry.error = None;
        entry.entry_nodes = 0;
        entry.skipped.clear();
        self.mark_last(Phase::Held, now);
    }

    /// What became of the entry nodes of a hold since it was last told.
    pub(super) fn entry_nodes(&mut self, database: &str, news: &EntryNodeNews) {
        let entry = self.database(database);
        entry.entry_nodes = entry.entry_nodes.max(news.held);
        add_skipped(entry, &news.skipped);
        entry.terminated.extend_from_slice(&news.terminated);
    }

    pub(super) fn reads_moved(&mut self, database: &str, skipped: &[Skipped], now: Instant) {
        let now = micros(now.saturating_duration_since(self.began));
        let entry = self.database(database);
        entry.reads_moved_us = Some(now);
        add_skipped(entry, skipped);
        self.mark_last(Phase::ReadsMoved, now);
    }

    pub(super) fn committed(
        &mut self,
        database: &str,
        skipped: &[Skipped],
        terminated: &[String],
        now: Instant,
    ) {
        let now = micros(now.saturating_duration_since(self.began));
        let entry = self.database(database);
        entry.committed_us = Some(now);
        entry.error = None;
        add_skipped(entry, skipped);
        entry.terminated.extend_from_slice(terminated);
        self.mark_last(Phase::Committed, now);
    }

    /// Writes go on.
    pub(super) fn released(&mut self, database: &str, now: Instant) {
        let now = micros(now.saturating_duration_since(self.began));
        self.database(database).released_us = Some(now);
        self.mark_last(Phase::Released, now);
    }

    /// Writes go on, and the row is what it was. One that a read move put where the new leader is needs
    /// no move of its own: it is right from that moment.
    pub(super) fn let_go(&mut self, database: &str, now: Instant) {
        let at = micros(now.saturating_duration_since(self.began));
        let leads = self.transition.phases.writable_us;
        let entry = self.database(database);
        if entry.committed_us.is_none() && entry.reads_moved_us.is_some() && leads.is_some() {
            entry.committed_us = Some(at);
            self.mark_last(Phase::Committed, at);
        }
        self.released(database, now);
    }

    pub(super) fn failed(&mut self, database: &str, error: &str) {
        self.database(database).error = Some(error.to_owned());
    }

    /// The group is in sync with this leader: what came of it, if anything was done at all.
    pub(super) fn close(
        mut self,
        leader: Option<&str>,
        to: Option<HostPort>,
    ) -> Option<Transition> {
        if !self.acted {
            return None;
        }
        let another = leader != self.leader.as_deref();
        let gone = self.transition.phases.leader_gone_us.is_some();
        self.transition.kind = match (self.asked, another, gone) {
            (Some(_), true, _) | (Some(Asked::Switchover), _, true) => TransitionKind::Switchover,
            (Some(Asked::Hold), false, true) => TransitionKind::Restart,
            (Some(_), false, false) => TransitionKind::Hold,
            (None, _, true) => TransitionKind::Failover,
            (None, _, false) => TransitionKind::Move,
        };
        self.transition.outcome = if self.expired {
            TransitionOutcome::Expired
        } else if self.transition.from == to {
            TransitionOutcome::Kept
        } else {
            TransitionOutcome::Followed
        };
        self.transition.to = to;
        Some(self.transition)
    }
}

fn add_skipped(entry: &mut DatabaseTransition, skipped: &[Skipped]) {
    for entry_node in skipped.iter().map(ToString::to_string) {
        if !entry.skipped.contains(&entry_node) {
            entry.skipped.push(entry_node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::zero;
    use super::*;

    const REQUEST: Reason = Reason::Request { revision: 7 };
    const ASKED: Reason = Reason::HoldRequest { id: 1 };

    fn now() -> Now {
        Now {
            instant: zero(),
            utc: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    /// What it is called when it was held for these reasons, whether the leader stopped, and who leads
    /// at the end.
    fn kind(reasons: &[Reason], stopped: bool, leads: &str) -> TransitionKind {
        let whose = Whose {
            formation: "cn".to_owned(),
            group: 1,
            scope: "wk1".to_owned(),
        };
        let (before, now) = (Some("wk1-1".to_owned()), now());
        let mut recorder = Recorder::begin(&whose, before, None, String::new(), now);
        let now = now.instant;
        for reason in reasons {
            recorder.held_for(*reason, now);
        }
        recorder.look_at_leader(Some("wk1-1"), stopped, !stopped, now);
        recorder.look_at_leader(Some(leads), false, true, now);
        recorder.released("app", now);
        recorder
            .close(Some(leads), None)
            .expect("a transition")
            .kind
    }

    #[test]
    fn it_is_called_what_it_was() {
        use TransitionKind::{Failover, Hold, Move, Restart, Switchover};
        for (reasons, stopped, leads, expected) in [
            (&[REQUEST][..], true, "wk1-2", Switchover),
            (&[ASKED], true, "wk1-2", Switchover),
            (&[ASKED], true, "wk1-1", Restart),
            (&[ASKED], false, "wk1-1", Hold),
            // Asked for, and it came to nothing: before the leader had stopped, and after.
            (&[REQUEST], false, "wk1-1", Hold),
            (&[REQUEST], true, "wk1-1", Switchover),
            (&[REQUEST, ASKED], true, "wk1-1", Switchover),
            (&[], true, "wk1-1", Failover),
            (&[], true, "wk1-2", Failover),
            (&[], false, "wk1-1", Move),
        ] {
            let found = kind(reasons, stopped, leads);
            assert_eq!(found, expected, "{reasons:?}, stopped {stopped}, {leads}");
        }
    }
}
