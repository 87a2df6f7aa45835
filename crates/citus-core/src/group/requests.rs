//! Hold requests: what `citus-sync hold` and `release` ask of a group, and when each is answered: when the
//! hold is as complete as it will be, and never later than was asked for.

use std::time::{Duration, Instant};

use super::input::RequestId;
use crate::plan::{Reason, RequestedHold, Situation};

/// When an answer has to be there unless the request says so.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// How much earlier we answer: the answer still has to travel, and a hook that got none knows less than
/// one that was told "not yet".
const MARGIN: Duration = Duration::from_millis(100);

/// How many reasons that were given up are remembered. They go when the group is in sync; this is
/// for a group that never is.
const REMEMBERED: usize = 16;

/// What was asked of one group.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    pending: Option<Pending>,
    /// Reasons whose hold reached its deadline, or was let go by hand: used up.
    given_up: Vec<Reason>,
    waiting: Vec<Waiting>,
    /// Counts what was asked for, so that news of an earlier request is not taken for this one's.
    count: u64,
}

#[derive(Clone, Debug)]
struct Pending {
    hold: RequestedHold,
    timeout: Duration,
    /// When it lapses, unless a hold stands for it by then.
    until: Instant,
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) id: RequestId,
    pub(super) since: Instant,
    /// When it has to be answered.
    pub(super) by: Instant,
    pub(super) wants: Wants,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Hold,
    Release,
}

impl Waiting {
    pub(super) fn new(id: RequestId, wait: Duration, wants: Wants, now: Instant) -> Self {
        Self {
            id,
            since: now,
            by: now + wait.saturating_sub(MARGIN),
            wants,
        }
    }
}

impl Requests {
    pub(super) fn pending(&self) -> Option<&RequestedHold> {
        self.pending.as_ref().map(|pending| &pending.hold)
    }

    /// How long a hold for `reason` may last, with `limit` the policy's.
    pub(super) fn timeout(&self, reason: Reason, limit: Duration) -> Duration {
        match (&self.pending, reason) {
            (Some(pending), Reason::HoldRequest { .. }) => pending.timeout.min(limit),
            _ => limit,
        }
    }

    /// A hold is asked for. Asking again while the same leader leads, and a hold stands, is the same
    /// request.
    pub(super) fn ask(
        &mut self,
        leader: &str,
        started: Option<i64>,
        timeout: Duration,
        stands: bool,
        now: Instant,
    ) {
        let same = self.pending().is_some_and(|hold| hold.leader == leader);
        if same && stands {
            return;
        }
        self.count += 1;
        self.pending = Some(Pending {
            hold: RequestedHold {
                id: self.count,
                leader: leader.to_owned(),
                started,
            },
            timeout,
            until: now + timeout,
        });
    }

    /// Forgets what was asked for so long ago that nobody waits for it any more.
    pub(super) fn lapse(&mut self, stands: bool, now: Instant) {
        if !stands && self.pending.as_ref().is_some_and(|hold| hold.until <= now) {
            self.pending = None;
        }
    }

    /// When what was asked for lapses.
    pub(super) fn lapses(&self, stands: bool) -> Option<Instant> {
        let pending = self.pending.as_ref().filter(|_| !stands)?;
        Some(pending.until)
    }

    /// What was asked for is over, one way or the other. Without the moment at which the leader
    /// was started its new start could not be told: it is learnt as soon as it answers.
    pub(super) fn look(&mut self, situation: &Situation<'_>) {
        let Some(Pending { hold, .. }) = &mut self.pending else {
            return;
        };
        if hold.started.is_none() {
            hold.started = situation.leader_probe().and_then(|probe| probe.started);
        } else if situation.is_fulfilled(hold) {
            self.pending = None;
        }
    }

    /// These reasons are used up, and so is what was asked for.
    pub(super) fn give_up(&mut self, reasons: impl IntoIterator<Item = Reason>) {
        for reason in reasons {
            if !self.given_up.contains(&reason) {
                self.given_up.push(reason);
            }
        }
        let surplus = self.given_up.len().saturating_sub(REMEMBERED);
        self.given_up.drain(..surplus);
        self.pending = None;
    }

    pub(super) fn given_up(&self) -> &[Reason] {
        &self.given_up
    }

    /// The group is in sync. A reason that could still stand stays used up; the others were of a
    /// transition that is over.
    pub(super) fn forget(&mut self, request: Option<i64>) {
        self.given_up.retain(|reason| match reason {
            Reason::Request { revision } => Some(*revision) == request,
            Reason::HoldRequest { .. } | Reason::Promotion { .. } | Reason::Loss { .. } => false,
        });
    }

    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    pub(super) fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// Keeps those that are not answered yet.
    pub(super) fn keep(&mut self, keep: impl FnMut(&Waiting) -> bool) {
        self.waiting.retain(keep);
    }
}
