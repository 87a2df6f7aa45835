//! What a scenario says of holds and read moves: which member is asked to leave, the position of
//! each member, what is held. Positions are small numbers; a round is what a member's answer is an
//! answer to.

use dcs_watch::{FailoverRequest, Freshness, HostPort, Lsn, SyncState};

use super::super::*;
use super::builders::{Scenario, addr, heard, row, versioned};

/// The failover key's revision, unless a scenario says otherwise.
pub(super) const REQUEST_REVISION: i64 = 50;

/// Why a hold is open in these scenarios: a switchover was asked for.
pub(super) const REQUEST: Reason = Reason::Request {
    revision: REQUEST_REVISION,
};

/// The first (usually only) database's step.
pub(super) fn app(decision: &Decision) -> &Step {
    &decision.steps["app"]
}

/// Why nothing is done in the first database.
pub(super) fn waiting(decision: &Decision) -> &Wait {
    match app(decision) {
        Step::Wait(wait) => wait,
        step => panic!("expected a wait, found {step:?}"),
    }
}

/// Why reads stay where they are while writes are held.
pub(super) fn stay(decision: &Decision) -> &Stay {
    match waiting(decision) {
        Wait::Held {
            stay: Some(stay), ..
        }
        | Wait::Lost { stay, .. } => stay,
        wait => panic!("expected reads to stay for a reason, found {wait:?}"),
    }
}

/// What writes are held for.
pub(super) fn held_for(decision: &Decision) -> Reason {
    match app(decision) {
        Step::Hold(hold) => hold.reason,
        step => panic!("expected a hold, found {step:?}"),
    }
}

/// Where reads are sent.
pub(super) fn reads_to(decision: &Decision) -> HostPort {
    match app(decision) {
        Step::ReadMove(step) => step.to.clone(),
        step => panic!("expected a read move, found {step:?}"),
    }
}

/// Where the row is moved.
pub(super) fn moved_to(decision: &Decision) -> HostPort {
    match app(decision) {
        Step::Move(step) => step.to.clone(),
        step => panic!("expected a move, found {step:?}"),
    }
}

pub(super) fn asks(decision: &Decision) -> Vec<&str> {
    decision
        .ask
        .iter()
        .map(|ask| ask.address.host.as_str())
        .collect()
}

/// Patroni's `failover` key.
pub(super) fn request(leader: Option<&str>, candidate: Option<&str>) -> FailoverRequest {
    FailoverRequest {
        leader: leader.map(str::to_owned),
        candidate: candidate.map(str::to_owned),
        scheduled_at: None,
    }
}

impl Scenario {
    /// pg1 leads and takes writes, pg2 is its synchronous standby, and every row is right.
    pub(crate) fn quiet() -> Self {
        Self::new()
            .leader("pg1")
            .says(ProbeState::Writable)
            .synchronous("pg1", &["pg2"])
    }

    /// A failover request is in etcd, under the usual revision.
    pub(super) fn requested(mut self, request: FailoverRequest) -> Self {
        self.view.failover = Some(versioned(request, REQUEST_REVISION));
        self
    }

    /// pg1 is asked to leave, and that is all.
    pub(super) fn switchover(self) -> Self {
        self.requested(request(Some("pg1"), None))
    }

    /// Patroni's `sync` key.
    pub(super) fn synchronous(mut self, leader: &str, standbys: &[&str]) -> Self {
        let sync = SyncState {
            leader: Some(leader.to_owned()),
            standbys: standbys.iter().map(|name| (*name).to_owned()).collect(),
            quorum: 0,
        };
        self.view.sync = Some(versioned(sync, 20));
        self
    }

    /// … with quorum commit: so many of them a failover must reach.
    pub(super) fn quorum(mut self, quorum: u32) -> Self {
        self.view.sync.as_mut().expect("a sync key").value.quorum = quorum;
        self
    }

    /// A member of whichever kind answers, in a round.
    pub(super) fn answers(
        mut self,
        host: &str,
        state: ProbeState,
        (written, replayed): (Option<u64>, Option<u64>),
        round: u64,
    ) -> Self {
        let probe = Probe {
            position: Position {
                written: written.map(Lsn),
                replayed: replayed.map(Lsn),
                exhausted: false,
            },
            round,
            ..heard(&addr(host), state)
        };
        self.answers.insert(addr(host), probe);
        self
    }

    /// The leader takes writes, and has so much of the log on disk.
    pub(super) fn leader_at(self, written: u64, round: u64) -> Self {
        let name = self.view.leader.as_ref().expect("a leader").value.clone();
        self.answers(&name, ProbeState::Writable, (Some(written), None), round)
    }

    /// A standby has received and replayed so much.
    pub(super) fn standby_at(self, host: &str, written: u64, replayed: u64, round: u64) -> Self {
        let positions = (Some(written), Some(replayed));
        self.answers(host, ProbeState::InRecovery, positions, round)
    }

    /// It has replayed whatever can be.
    pub(super) fn exhausted(mut self, host: &str) -> Self {
        let probe = self.answers.get_mut(&addr(host)).expect("an answer");
        probe.position.exhausted = true;
        self
    }

    /// We lost this member.
    pub(super) fn lost(self, host: &str) -> Self {
        let refused = ProbeState::Unreachable("refused".to_owned());
        self.answers(host, refused, (None, None), 0)
    }

    /// … and the coordinator does not reach it either, since this round.
    pub(super) fn confirmed(mut self, host: &str, round: u64) -> Self {
        self.reachability
            .insert(addr(host), Reachability::Unreachable { round });
        self
    }

    /// … but the coordinator reaches it.
    pub(super) fn reachable(mut self, host: &str) -> Self {
        self.reachability
            .insert(addr(host), Reachability::Reachable);
        self
    }

    /// A hold stands, for this reason.
    pub(super) fn active_hold(mut self, reason: Reason) -> Self {
        self.active_hold = Some(ActiveHold {
            reason,
            expired: false,
        });
        self
    }

    /// Its deadline has passed.
    pub(super) fn expired(mut self) -> Self {
        self.active_hold.as_mut().expect("a hold").expired = true;
        self
    }

    pub(super) fn progress(mut self, database: &str, held: Held) -> Self {
        self.progress.entry(database.to_owned()).or_default().held = held;
        self
    }

    /// Writes are held in every database since round 1, because of the usual request.
    pub(super) fn held(self) -> Self {
        self.held_because(REQUEST)
    }

    pub(super) fn held_because(self, reason: Reason) -> Self {
        let databases: Vec<String> = self.rows.keys().cloned().collect();
        let scenario = self.active_hold(reason);
        let hold = |scenario: Self, name: &String| scenario.progress(name, Held::Yes { round: 1 });
        databases.iter().fold(scenario, hold)
    }

    pub(super) fn owing_a_resync(mut self, database: &str) -> Self {
        self.progress
            .entry(database.to_owned())
            .or_default()
            .owes_resync = true;
        self
    }

    pub(super) fn without_update(mut self, database: &str) -> Self {
        self.progress
            .entry(database.to_owned())
            .or_default()
            .no_read_moves = true;
        self
    }

    /// `citus-sync hold`, when this member led and had been started then.
    pub(super) fn hold_requested(mut self, leader: &str, started: Option<i64>) -> Self {
        self.requested_hold = Some(RequestedHold {
            id: 1,
            leader: leader.to_owned(),
            started,
        });
        self
    }

    /// A member's postmaster was started then.
    pub(super) fn started(mut self, host: &str, started: i64) -> Self {
        self.answers
            .get_mut(&addr(host))
            .expect("an answer")
            .started = Some(started);
        self
    }

    pub(super) fn given_up(mut self, reason: Reason) -> Self {
        self.given_up.push(reason);
        self
    }

    pub(super) fn stale(self) -> Self {
        self.freshness(Freshness::Stale {
            reason: "silent for 7 s".to_owned(),
        })
    }

    /// The primary row of the group, which is the only one of it, points there.
    pub(super) fn row_at(self, host: &str) -> Self {
        self.rows(
            "app",
            Rows::known(vec![row(2, 1, host), row(3, 2, "other")]),
        )
    }

    pub(super) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// `policy.read_move_max_lag`.
    pub(super) fn allowing_lag(self, bytes: u64) -> Self {
        self.limits(|limits| limits.max_lag = Some(bytes))
    }

    /// `policy.hold_on_leader_loss`.
    pub(super) fn holding_on_loss(self) -> Self {
        self.limits(|limits| limits.hold_on_leader_loss = true)
    }

    /// `policy.read_move: false`.
    pub(super) fn keeping_reads(self) -> Self {
        self.limits(|limits| limits.read_move = false)
    }
}
