//! Why writes are held, how far that is, and when a reason is over.
//!
//! A reason is a fact of the view or a wish of a person; it stands until it is fulfilled,
//! withdrawn, or given up at the deadline. Nothing here looks at a clock.

use std::fmt;
use std::time::Duration;

use dcs_watch::FailoverRequest;
use serde::{Deserialize, Serialize};

use super::{ProbeState, Situation};

/// How long before its time a scheduled switchover counts as due. Patroni begins at the very
/// second by its host's clock; a tenth of a second covers the hold and a little of the clocks'
/// difference.
const LEAD: time::Duration = time::Duration::milliseconds(100);

/// How long after its time a scheduled switchover that did not happen still counts as due. Patroni
/// drops one that is late by 1.5 `loop_wait` (`ha.py`, `should_run_scheduled_action`).
const STALE: time::Duration = time::Duration::seconds(30);

/// Why writes to a group are held. Each names the fact it comes from, so that a hold that reached
/// its deadline is never taken again for the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Reason {
    /// Patroni was asked for a switchover.
    Request {
        /// `mod_revision` of the failover key.
        revision: i64,
    },
    /// `citus-sync hold`, or Patroni's `before_stop` by way of it.
    PendingHold {
        /// Counts what was asked for since this program started.
        id: u64,
    },
    /// The leader key names a member that is still in recovery.
    Promotion {
        /// `mod_revision` of the leader key.
        revision: i64,
    },
    /// The leader is gone, and the policy wants writes to wait for the next.
    Loss {
        /// `mod_revision` of the leader key; 0 once it is gone.
        revision: i64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { .. } => f.write_str("a switchover was asked for"),
            Self::PendingHold { .. } => f.write_str("`citus-sync hold` asked for it"),
            Self::Promotion { .. } => f.write_str("the new leader is being promoted"),
            Self::Loss { .. } => f.write_str("the leader is lost"),
        }
    }
}

/// A hold that is open in some database, or being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveHold {
    /// What it was taken for first; what keeps it may be another reason by now.
    pub reason: Reason,
    /// Its deadline has passed.
    pub expired: bool,
}

/// What somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingHold {
    /// Which asking this is.
    pub id: u64,
    /// The member that led when it was asked.
    pub leader: String,
    /// When that member's postmaster had been started (see [`super::Probe::started`]).
    pub started: Option<i64>,
}

/// How far one database is in a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// No hold.
    #[default]
    No,
    /// Its locks are being waited for.
    Taking,
    /// Writes wait.
    Yes {
        /// The round that began when it was complete: positions asked for earlier do not count.
        round: u64,
    },
}

/// How far one database is with one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The hold.
    pub held: Held,
    /// A row was changed by a plain UPDATE, of which Citus has not told every worker.
    pub owes_resync: bool,
    /// Our role may not update `pg_dist_node`, so reads cannot be moved.
    pub no_read_moves: bool,
}

impl Situation<'_> {
    /// The reason that a request or a person gives to hold this group, if one stands.
    pub fn reason_to_hold(&self) -> Option<Reason> {
        if self.stopping || !self.can_be_held() {
            return None;
        }
        let mut reasons = self
            .request_stands()
            .into_iter()
            .chain(self.asking_stands());
        reasons.find(|reason| !self.is_given_up(*reason))
    }

    /// Whether a hold for this reason reached its deadline.
    pub fn is_given_up(&self, reason: Reason) -> bool {
        self.given_up.contains(&reason)
    }

    fn request_stands(&self) -> Option<Reason> {
        let request = self.view.failover.as_ref()?;
        if !self.limits.hold_on_request {
            return None;
        }
        let leader = &self.view.leader.as_ref()?.value;
        let leaves = match (&request.value.leader, &request.value.candidate) {
            (_, Some(candidate)) if candidate == leader => false,
            (Some(leaving), _) => leaving == leader,
            // `patronictl failover` on a healthy cluster names nobody who leaves.
            (None, Some(_)) => true,
            (None, None) => false,
        };
        let revision = request.mod_revision;
        (leaves && self.is_due(&request.value)).then_some(Reason::Request { revision })
    }

    /// Whether Patroni acts on a request now: a paused one only with a candidate, and on no
    /// schedule (`ha.py`, `process_manual_failover_from_leader`).
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

    /// How long until a scheduled request becomes due, or is over because nobody acted on it;
    /// `None` when neither lies ahead. No news tells of either.
    pub fn until_due(&self) -> Option<Duration> {
        let at = self.view.failover.as_ref()?.value.scheduled_at?;
        let over = at.saturating_add(STALE + time::Duration::milliseconds(1));
        let mut moments = [at.saturating_sub(LEAD), over].into_iter();
        moments.find_map(|moment| {
            let left = Duration::try_from(moment - self.now).ok()?;
            (!left.is_zero()).then_some(left)
        })
    }

    fn asking_stands(&self) -> Option<Reason> {
        let asked = self.asked?;
        (!self.is_fulfilled(asked)).then_some(Reason::PendingHold { id: asked.id })
    }

    /// Whether what was asked for has come about: the key changed hands, or the leader was
    /// started anew and takes writes.
    pub fn is_fulfilled(&self, asked: &PendingHold) -> bool {
        let changed_hands =
            (self.view.leader.as_ref()).is_some_and(|leader| leader.value != asked.leader);
        let started_anew = self.leader_probe().is_some_and(|probe| {
            probe.state == ProbeState::Writable
                && asked.started.is_some()
                && probe.started.is_some()
                && probe.started != asked.started
        });
        changed_hands || started_anew
    }
}
