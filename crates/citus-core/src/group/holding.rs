//! The hold of one group: since when and until when it stands, and how far each database is. State
//! only: what is to be done was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use time::OffsetDateTime;

use super::entry_nodes::HeldEntryNodes;
use super::input::Now;
use crate::entry_node::{EntryNodeAction, EntryNodeOrder, EntryNodeStatus};
use crate::plan::{ActiveHold, Held, Progress, Reason};

/// How much earlier than the server we end a hold: with the row's move, and with a word about it.
/// At the deadline itself the server ends it, whatever we do.
fn margin(timeout: Duration) -> Duration {
    (timeout / 10).min(Duration::from_millis(500))
}

/// A hold that is open in some database, or was and is being taken again.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a thing that happened to it, in any order"
)]
pub(super) struct Hold {
    pub(super) reason: Reason,
    pub(super) since: Instant,
    pub(super) since_utc: OffsetDateTime,
    /// When we end it.
    pub(super) deadline: Instant,
    /// When the server does.
    pub(super) server_deadline: Instant,
    /// `citus-sync release` let it go before its deadline.
    pub(super) by_hand: bool,
    /// Some database was held at some time.
    pub(super) taken: bool,
    /// The deadline has passed, and that was told.
    pub(super) expired: bool,
    /// The last decision knew that the deadline has passed.
    pub(super) deadline_seen: bool,
    /// Since when every database is held.
    pub(super) complete_since: Option<Instant>,
    /// Where reads were sent, while they are not at the leader.
    pub(super) reads_at: Option<HostPort>,
}

impl Hold {
    /// Begins now, and ends after `timeout`.
    pub(super) fn begin(reason: Reason, timeout: Duration, now: Now) -> Self {
        Self {
            reason,
            since: now.instant,
            since_utc: now.utc,
            deadline: now.instant + timeout.saturating_sub(margin(timeout)),
            server_deadline: now.instant + timeout,
            by_hand: false,
            taken: false,
            expired: false,
            deadline_seen: false,
            complete_since: None,
            reads_at: None,
        }
    }

    /// What a decision has to know of it.
    pub(super) fn active(&self, now: Instant) -> ActiveHold {
        ActiveHold {
            reason: self.reason,
            expired: self.by_hand || self.deadline <= now,
        }
    }

    /// What is left until the server ends it.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.server_deadline.saturating_duration_since(now)
    }
}

/// How long a hold that has the coordinator waits for entry nodes that are just about done. The
/// switchover waits for the hold.
const GRACE: Duration = Duration::from_millis(30);

/// How far each database is.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    by_database: BTreeMap<String, Slot>,
    /// The entry nodes of each hold, of those that were lost with the coordinator's session, too.
    entry_nodes: BTreeMap<String, HeldEntryNodes>,
    /// Databases in which a row was changed by a plain UPDATE, of which Citus told no worker.
    owes_resync: BTreeSet<String>,
}

/// One database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// The coordinator's locks are being waited for.
    Taking,
    /// The coordinator is held; entry nodes that are just about done are waited for until then.
    Settling { order: u64, until: Instant },
    /// Writes wait.
    Open {
        /// The order that took it.
        order: u64,
        round: u64,
    },
    /// Being let go, or moved.
    Ending {
        /// What it was, while its end may still come to nothing: its order and its round.
        was: Option<(u64, u64)>,
    },
}

/// What there is to do when a hold that is being taken is called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOff {
    /// No hold is being taken.
    Nothing,
    /// The order that takes it is ended, and ends by itself.
    Order,
    /// The coordinator is held already: that is released.
    Release,
}

impl Slots {
    /// `own` is the group's own leader, where clients can write through it.
    pub(super) fn progress(
        &self,
        no_read_moves: &BTreeSet<String>,
        own: impl Fn(&str) -> Option<HostPort>,
    ) -> BTreeMap<String, Progress> {
        let names = (self.by_database.keys())
            .chain(&self.owes_resync)
            .chain(no_read_moves);
        names
            .map(|name| {
                let nodes = self.entry_nodes.get(name);
                let is_open =
                    |own: &HostPort| nodes.is_none_or(|nodes: &HeldEntryNodes| nodes.is_open(own));
                let leader_open = own(name).as_ref().is_some_and(is_open);
                let progress = Progress {
                    held: self.held(name),
                    owes_resync: self.owes_resync.contains(name),
                    no_read_moves: no_read_moves.contains(name),
                    leader_open,
                };
                (name.clone(), progress)
            })
            .collect()
    }

    pub(super) fn held(&self, database: &str) -> Held {
        match self.by_database.get(database) {
            None => Held::No,
            Some(Slot::Taking | Slot::Settling { .. } | Slot::Ending { .. }) => Held::Taking,
            Some(Slot::Open { round, .. }) => Held::Yes { round: *round },
        }
    }

    /// Whether writes of this database wait.
    pub(super) fn is_open(&self, database: &str) -> bool {
        matches!(self.held(database), Held::Yes { .. })
    }

    /// Whether no database is held, or being held or let go.
    pub(super) fn is_empty(&self) -> bool {
        self.by_database.is_empty()
    }

    /// A hold begins to be taken; its entry nodes, which may be held already.
    pub(super) fn taking(&mut self, database: &str) -> &mut HeldEntryNodes {
        self.by_database.insert(database.to_owned(), Slot::Taking);
        self.entry_nodes.entry(database.to_owned()).or_default()
    }

    /// The coordinator is held; false when that is not wanted any more.
    pub(super) fn settle(&mut self, database: &str, order: u64, now: Instant) -> bool {
        match self.by_database.get_mut(database) {
            Some(slot @ Slot::Taking) => {
                *slot = Slot::Settling {
                    order,
                    until: now + GRACE,
                };
                true
            }
            _ => false,
        }
    }

    /// The holds that need not wait for their entry nodes any more.
    pub(super) fn settled(&self, now: Instant) -> Vec<String> {
        let settled = |(name, slot): (&String, &Slot)| {
            let Slot::Settling { until, .. } = *slot else {
                return None;
            };
            let nodes = self.entry_nodes.get(name);
            let known = nodes.is_none_or(HeldEntryNodes::are_known);
            let own_is_known = nodes.is_none_or(HeldEntryNodes::own_is_known);
            (known || own_is_known && until <= now).then(|| name.clone())
        };
        self.by_database.iter().filter_map(settled).collect()
    }

    /// When the next hold stops waiting for its entry nodes. The group's own leader is waited for
    /// until that has said something.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let until = |(name, slot): (&String, &Slot)| match slot {
            Slot::Settling { until, .. } => {
                let nodes = self.entry_nodes.get(name);
                let own_is_known = nodes.is_none_or(HeldEntryNodes::own_is_known);
                own_is_known.then_some(*until)
            }
            _ => None,
        };
        self.by_database.iter().filter_map(until).min()
    }

    /// A hold is complete: writes wait. Or more of them do: what was said before is not enough.
    pub(super) fn open(&mut self, database: &str, round: u64) {
        if let Some(slot) = self.by_database.get_mut(database)
            && let Slot::Settling { order, .. } | Slot::Open { order, .. } = *slot
        {
            *slot = Slot::Open { order, round };
        }
    }

    /// Calls off a hold that is still being taken.
    pub(super) fn call_off(&mut self, database: &str) -> CallOff {
        let Some(slot) = self.by_database.get_mut(database) else {
            return CallOff::Nothing;
        };
        let call_off = match slot {
            Slot::Taking => CallOff::Order,
            Slot::Settling { .. } => CallOff::Release,
            Slot::Open { .. } | Slot::Ending { .. } => return CallOff::Nothing,
        };
        *slot = Slot::Ending { was: None };
        call_off
    }

    /// Begins the end of an open hold, which is to be let go or moved; whether there is one.
    pub(super) fn end(&mut self, database: &str) -> bool {
        let Some(slot) = self.by_database.get_mut(database) else {
            return false;
        };
        let Slot::Open { order, round } = *slot else {
            return false;
        };
        *slot = Slot::Ending {
            was: Some((order, round)),
        };
        true
    }

    /// The end came to nothing: the hold is as it was.
    pub(super) fn keep_open(&mut self, database: &str) {
        if let Some(slot) = self.by_database.get_mut(database)
            && let Slot::Ending {
                was: Some((order, round)),
            } = *slot
        {
            *slot = Slot::Open { order, round };
            if let Some(entry_nodes) = self.entry_nodes.get_mut(database) {
                entry_nodes.resume();
            }
        }
    }

    /// The end has come; what is left of the entry nodes.
    pub(super) fn ended(&mut self, database: &str) -> HeldEntryNodes {
        self.by_database.remove(database);
        self.entry_nodes.remove(database).unwrap_or_default()
    }

    /// The hold could not be taken. Whether its entry nodes are to be let go: those of a hold that
    /// was lost before are kept on.
    pub(super) fn failed(&mut self, database: &str) -> bool {
        self.by_database.remove(database);
        let kept = self.entry_nodes.get(database);
        let kept = kept.is_some_and(HeldEntryNodes::are_kept);
        if !kept {
            self.entry_nodes.remove(database);
        }
        !kept
    }

    /// The coordinator closed the session of this hold; whether it was the one that is open. Its
    /// entry nodes stay held.
    pub(super) fn lost(&mut self, database: &str, lost: u64) -> bool {
        let ours = matches!(
            self.by_database.get(database),
            Some(Slot::Settling { order, .. } | Slot::Open { order, .. }) if *order == lost
        );
        if ours {
            self.by_database.remove(database);
            if let Some(entry_nodes) = self.entry_nodes.get_mut(database) {
                entry_nodes.keep();
            }
        }
        ours
    }

    /// The entry nodes of a database's hold.
    pub(super) fn entry_nodes(&mut self, database: &str) -> Option<&mut HeldEntryNodes> {
        self.entry_nodes.get_mut(database)
    }

    /// Whether the leader takes no writes any more: holds that do not end already, and entry nodes of
    /// those that were lost, are told.
    pub(super) fn leader_is_gone(&mut self, gone: bool) {
        for (name, nodes) in &mut self.entry_nodes {
            if !matches!(self.by_database.get(name), Some(Slot::Ending { .. })) {
                nodes.leader_is_gone(gone);
            }
        }
    }

    /// What is due at the entry nodes of each database whose hold is not ending.
    pub(super) fn due_at_entry_nodes(
        &mut self,
        hold: Option<&EntryNodeAction>,
        own: impl Fn(&str) -> Option<HostPort>,
        row: impl Fn(&str) -> Option<HostPort>,
        mut id: impl FnMut() -> u64,
    ) -> Vec<(String, EntryNodeOrder)> {
        let mut all = Vec::new();
        for (name, nodes) in &mut self.entry_nodes {
            if !matches!(self.by_database.get(name), Some(Slot::Ending { .. })) {
                let (own, row) = (own(name), row(name));
                let due = nodes.due(hold, own.as_ref(), row.as_ref(), &mut id);
                all.extend(due.into_iter().map(|order| (name.clone(), order)));
            }
        }
        all
    }

    /// Nothing is held any more: the databases whose entry nodes are still held.
    pub(super) fn let_entry_nodes_go(&mut self) -> Vec<String> {
        std::mem::take(&mut self.entry_nodes).into_keys().collect()
    }

    /// The databases that are held, and how the entry nodes of each hold are.
    pub(super) fn open_holds(&self) -> impl Iterator<Item = (&str, EntryNodeStatus)> {
        self.by_database
            .iter()
            .filter_map(|(name, slot)| match slot {
                Slot::Open { .. } => {
                    let entry_nodes = self.entry_nodes.get(name);
                    let status = entry_nodes.map(HeldEntryNodes::status);
                    Some((name.as_str(), status.unwrap_or_default()))
                }
                _ => None,
            })
    }

    /// Each database's word for reports.
    pub(super) fn words(&self) -> BTreeMap<String, String> {
        let word = |slot: &Slot| match slot {
            Slot::Taking | Slot::Settling { .. } => "taking",
            Slot::Open { .. } => "held",
            Slot::Ending { .. } => "letting go",
        };
        self.by_database
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
}
