//! Which request to hold stands: a failover request in etcd, or a hold that was asked for with
//! `citus-sync hold`.
//!
//! A request stands until it is fulfilled or withdrawn, or until the hold for it has reached its
//! deadline. Nothing here looks at a clock.

use std::time::Duration;

use dcs_watch::FailoverRequest;

use super::{ProbeState, Reason, RequestedHold, Situation};

/// How long before its time a scheduled switchover counts as due. Patroni begins at the very
/// second by its host's clock; a tenth of a second covers the hold and a little of the clocks'
/// difference.
const LEAD: time::Duration = time::Duration::milliseconds(100);

/// How long after its time a scheduled switchover that did not happen still counts as due. Patroni
/// drops one that is late by 1.5 `loop_wait` (`ha.py`, `should_run_scheduled_action`).
const STALE: time::Duration = time::Duration::seconds(30);

impl Situation<'_> {
    /// The request to hold this group that stands: the failover request before `citus-sync hold`.
    /// `None` also while this program stops, and for a group that cannot be held.
    pub fn reason_to_hold(&self) -> Option<Reason> {
        if self.stopping || !self.can_be_held() {
            return None;
        }
        let mut reasons = self
            .failover_request_stands()
            .into_iter()
            .chain(self.hold_request_stands());
        reasons.find(|reason| !self.is_given_up(*reason))
    }

    /// Whether a hold for this reason has reached its deadline.
    pub fn is_given_up(&self, reason: Reason) -> bool {
        self.given_up.contains(&reason)
    }

    fn failover_request_stands(&self) -> Option<Reason> {
        let request = self.view.failover.as_ref()?;
        if !self.limits.hold_on_request {
            return None;
        }
        let leader = &self.view.leader.as_ref()?.value;
        let leaves = match (&request.value.leader, &request.value.candidate) {
            (_, Some(candidate)) if candidate == leader => false,
            (Some(leaving), _) => leaving == leader,
            // `patronictl failover` on a healthy cluster names a candidate and no leader.
            (None, Some(_)) => true,
            (None, None) => false,
        };
        let revision = request.mod_revision;
        (leaves && self.is_due(&request.value)).then_some(Reason::Request { revision })
    }

    /// Whether Patroni acts on a request now. While it is paused it does so only if a candidate is
    /// named, and never on a schedule (`ha.py`, `process_manual_failover_from_leader`).
    fn is_due(&self, request: &FailoverRequest) -> bool {
        let paused = self.view.is_paused();
        match request.scheduled_at {
            None => !paused || request.candidate.is_some(),
            Some(at) => {
                !paused
                    && self.now.saturating_add(LEAD) >= at
                    && self.now <= at.saturating_add(STALE)
            }
        }
    }

    /// How long until a scheduled request becomes due, or until one that Patroni did not act on is
    /// over; `None` when neither lies ahead. etcd sends no news of either.
    pub fn until_due(&self) -> Option<Duration> {
        let at = self.view.failover.as_ref()?.value.scheduled_at?;
        let over = at.saturating_add(STALE + time::Duration::milliseconds(1));
        let mut moments = [at.saturating_sub(LEAD), over].into_iter();
        moments.find_map(|moment| {
            let left = Duration::try_from(moment - self.now).ok()?;
            (!left.is_zero()).then_some(left)
        })
    }

    fn hold_request_stands(&self) -> Option<Reason> {
        let requested = self.requested_hold?;
        let id = requested.id;
        (!self.is_fulfilled(requested)).then_some(Reason::HoldRequest { id })
    }

    /// Whether a hold that was asked for has served its purpose: another member leads, or the
    /// leader was started anew and takes writes.
    pub fn is_fulfilled(&self, requested: &RequestedHold) -> bool {
        let changed_hands =
            (self.view.leader.as_ref()).is_some_and(|leader| leader.value != requested.leader);
        let started_anew = self.leader_probe().is_some_and(|probe| {
            probe.state == ProbeState::Writable
                && requested.started.is_some()
                && probe.started.is_some()
                && probe.started != requested.started
        });
        changed_hands || started_anew
    }
}
