//! The hold of one group: since when and until when it stands, how far each database is, who
//! asked for it, and which reasons are used up. State only: what is to be done was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::AbortHandle;
use tokio::sync::oneshot;

use crate::edge::store::now_text;
use crate::execute::Hold;
use citus_core::plan::{ActiveHold, Held, PendingHold, Progress, Reason, Situation};

/// How much earlier than the server we end a hold: with the row's move, and with a word about it.
/// At the deadline itself the server ends it, whatever we do.
fn margin(timeout: Duration) -> Duration {
    (timeout / 10).min(Duration::from_millis(500))
}

/// How many reasons that were given up are remembered. They go when the group is in sync; this is
/// for a group that never is.
const REMEMBERED: usize = 16;

#[derive(Default)]
pub(super) struct Holds {
    active_hold: Option<Stood>,
    slots: BTreeMap<String, Slot>,
    asked: Option<PendingHoldFor>,
    given_up: Vec<Reason>,
    /// Databases in which a row was changed by a plain UPDATE, of which Citus told nobody.
    owes_resync: BTreeSet<String>,
    /// Counts holds and askings, so that news of an earlier one is not taken for this one's.
    count: u64,
}

/// A hold that is open in some database, or was and is being taken again.
#[derive(Clone, Debug)]
pub(super) struct Stood {
    pub(super) reason: Reason,
    pub(super) since: Instant,
    pub(super) since_text: String,
    /// When we end it.
    pub(super) deadline: Instant,
    /// When the server does.
    pub(super) server_deadline: Instant,
    /// Somebody let it go before its deadline.
    pub(super) by_hand: bool,
    /// Some database was held at some time.
    pub(super) taken: bool,
}

struct PendingHoldFor {
    asked: PendingHold,
    timeout: Duration,
    /// When it lapses, unless a hold stands for it by then.
    until: Instant,
}

/// One database.
enum Slot {
    Taking(AbortHandle),
    Open {
        hold: Box<Hold>,
        round: u64,
        id: u64,
        /// Its end ends the watch for the coordinator closing the session.
        _alive: oneshot::Sender<()>,
    },
    /// Being let go, or moved.
    Ending,
}

impl Holds {
    pub(super) fn active_hold(&self, now: Instant) -> Option<ActiveHold> {
        self.active_hold.as_ref().map(|stood| ActiveHold {
            reason: stood.reason,
            expired: stood.by_hand || stood.deadline <= now,
        })
    }

    pub(super) fn stood(&self) -> Option<&Stood> {
        self.active_hold.as_ref()
    }

    /// Begins to stand, unless it does; what is left until the server ends it.
    pub(super) fn stand(&mut self, reason: Reason, limit: Duration) -> Duration {
        let now = Instant::now();
        let timeout = match (&self.asked, reason) {
            (Some(asked), Reason::PendingHold { .. }) => asked.timeout.min(limit),
            _ => limit,
        };
        let stood = self.active_hold.get_or_insert_with(|| Stood {
            reason,
            since: now,
            since_text: now_text(),
            deadline: now + timeout.saturating_sub(margin(timeout)),
            server_deadline: now + timeout,
            by_hand: false,
            taken: false,
        });
        stood.server_deadline.saturating_duration_since(now)
    }

    /// Nothing is held or wanted any more.
    pub(super) fn fall(&mut self) -> Option<Stood> {
        self.active_hold.take()
    }

    /// The deadline has passed: this reason, and what else stands now, is used up.
    pub(super) fn give_up(&mut self, reasons: impl IntoIterator<Item = Reason>) {
        let own = self.active_hold.as_ref().map(|stood| stood.reason);
        for reason in own.into_iter().chain(reasons) {
            if !self.given_up.contains(&reason) {
                self.given_up.push(reason);
            }
        }
        let surplus = self.given_up.len().saturating_sub(REMEMBERED);
        self.given_up.drain(..surplus);
        self.asked = None;
    }

    pub(super) fn given_up(&self) -> &[Reason] {
        &self.given_up
    }

    /// The group is in sync. A reason that could still stand stays used up; the others were of a
    /// scenario that is over.
    pub(super) fn forget(&mut self, request: Option<i64>) {
        self.given_up.retain(|reason| match reason {
            Reason::Request { revision } => Some(*revision) == request,
            Reason::PendingHold { .. } | Reason::Promotion { .. } | Reason::Loss { .. } => false,
        });
    }

    pub(super) fn progress(&self, no_read_moves: &BTreeSet<String>) -> BTreeMap<String, Progress> {
        let names = (self.slots.keys())
            .chain(&self.owes_resync)
            .chain(no_read_moves);
        names
            .map(|name| {
                let progress = Progress {
                    held: self.held(name),
                    owes_resync: self.owes_resync.contains(name),
                    no_read_moves: no_read_moves.contains(name),
                };
                (name.clone(), progress)
            })
            .collect()
    }

    pub(super) fn held(&self, database: &str) -> Held {
        match self.slots.get(database) {
            None => Held::No,
            Some(Slot::Taking(_) | Slot::Ending) => Held::Taking,
            Some(Slot::Open { round, .. }) => Held::Yes { round: *round },
        }
    }

    /// Whether no database is held, or being held or let go.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn taking(&mut self, database: &str, abort: AbortHandle) {
        self.slots.insert(database.to_owned(), Slot::Taking(abort));
    }

    /// Keeps a hold that was taken, unless it is not wanted any more; its number, and what tells
    /// that it is over.
    pub(super) fn open(
        &mut self,
        database: &str,
        hold: Box<Hold>,
        round: u64,
    ) -> Result<(u64, oneshot::Receiver<()>), Box<Hold>> {
        match self.slots.get_mut(database) {
            Some(slot @ Slot::Taking(_)) => {
                self.count += 1;
                let id = self.count;
                let (alive, over) = oneshot::channel();
                *slot = Slot::Open {
                    hold,
                    round,
                    id,
                    _alive: alive,
                };
                if let Some(stood) = &mut self.active_hold {
                    stood.taken = true;
                }
                Ok((id, over))
            }
            _ => Err(hold),
        }
    }

    /// Calls off a hold that is still being taken; whether there is one. Its step ends by itself.
    pub(super) fn call_off(&mut self, database: &str) -> bool {
        match self.slots.get_mut(database) {
            Some(slot @ Slot::Taking(_)) => {
                if let Slot::Taking(abort) = std::mem::replace(slot, Slot::Ending) {
                    abort.abort();
                }
                true
            }
            _ => false,
        }
    }

    /// Begins the end of an open hold, which is to be let go or moved.
    pub(super) fn end(&mut self, database: &str) -> Option<Box<Hold>> {
        let slot = self.slots.get_mut(database)?;
        match std::mem::replace(slot, Slot::Ending) {
            Slot::Open { hold, .. } => Some(hold),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// The end has come.
    pub(super) fn ended(&mut self, database: &str) {
        self.slots.remove(database);
    }

    /// The coordinator closed the holding session of this hold; the hold, if it was still ours.
    pub(super) fn lost(&mut self, database: &str, id: u64) -> Option<Box<Hold>> {
        let ours =
            matches!(self.slots.get(database), Some(Slot::Open { id: open, .. }) if *open == id);
        match ours.then(|| self.slots.remove(database))?? {
            Slot::Open { hold, .. } => Some(hold),
            _ => None,
        }
    }

    /// Which databases are held, and which entry nodes with each.
    pub(super) fn open_holds(&self) -> impl Iterator<Item = (&str, &Hold)> {
        self.slots.iter().filter_map(|(name, slot)| match slot {
            Slot::Open { hold, .. } => Some((name.as_str(), &**hold)),
            _ => None,
        })
    }

    /// Each database's word for reports.
    pub(super) fn words(&self) -> BTreeMap<String, String> {
        let word = |slot: &Slot| match slot {
            Slot::Taking(_) => "taking",
            Slot::Open { .. } => "held",
            Slot::Ending => "letting go",
        };
        self.slots
            .iter()
            .map(|(name, slot)| (name.clone(), word(slot).to_owned()))
            .collect()
    }

    pub(super) fn owe_resync(&mut self, database: &str) {
        self.owes_resync.insert(database.to_owned());
    }

    pub(super) fn resynced(&mut self, database: &str) {
        self.owes_resync.remove(database);
    }

    pub(super) fn asked(&self) -> Option<&PendingHold> {
        self.asked.as_ref().map(|asked| &asked.asked)
    }

    /// Somebody asks. Asking again while the same leader leads is the same asking.
    pub(super) fn ask(&mut self, leader: &str, started: Option<i64>, timeout: Duration) {
        let same = self.asked().is_some_and(|asked| asked.leader == leader);
        if same && self.active_hold.is_some() {
            return;
        }
        self.count += 1;
        self.asked = Some(PendingHoldFor {
            asked: PendingHold {
                id: self.count,
                leader: leader.to_owned(),
                started,
            },
            timeout,
            until: Instant::now() + timeout,
        });
    }

    /// Forgets what was asked for so long ago that whoever asked does not wait any more.
    pub(super) fn lapse(&mut self, now: Instant) {
        if self.active_hold.is_none() && self.asked.as_ref().is_some_and(|asked| asked.until <= now)
        {
            self.asked = None;
        }
    }

    /// When what was asked for lapses.
    pub(super) fn asked_until(&self) -> Option<Instant> {
        let asked = self.asked.as_ref().filter(|_| self.active_hold.is_none())?;
        Some(asked.until)
    }

    /// What was asked for is over, one way or the other. Without the moment at which the leader
    /// was started its new start could not be told: it is learnt as soon as it answers.
    pub(super) fn look_at_asked(&mut self, situation: &Situation<'_>) {
        let Some(PendingHoldFor { asked, .. }) = &mut self.asked else {
            return;
        };
        if asked.started.is_none() {
            asked.started = situation.leader_probe().and_then(|probe| probe.started);
        } else if situation.is_fulfilled(asked) {
            self.asked = None;
        }
    }

    /// Somebody wants writes to go on now, whatever they are held for.
    pub(super) fn let_go_by_hand(&mut self) {
        if let Some(stood) = &mut self.active_hold {
            stood.by_hand = true;
        }
    }
}
