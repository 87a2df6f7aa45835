//! The hold of one group: since when and until when it stands, and how far each database is. State
//! only: what is to be done was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dcs_watch::HostPort;
use time::OffsetDateTime;

use super::input::{EntryNodeStatus, Now};
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

/// How far each database is.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    slots: BTreeMap<String, Slot>,
    /// Databases in which a row was changed by a plain UPDATE, of which Citus told no worker.
    owes_resync: BTreeSet<String>,
}

/// One database.
#[derive(Clone, Debug)]
enum Slot {
    /// The locks are being waited for.
    Taking,
    /// Writes wait.
    Open {
        /// The order that took it.
        order: u64,
        round: u64,
        entry_nodes: EntryNodeStatus,
    },
    /// Being let go, or moved.
    Ending,
}

impl Slots {
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
            Some(Slot::Taking | Slot::Ending) => Held::Taking,
            Some(Slot::Open { round, .. }) => Held::Yes { round: *round },
        }
    }

    /// Whether writes of this database wait.
    pub(super) fn is_open(&self, database: &str) -> bool {
        matches!(self.held(database), Held::Yes { .. })
    }

    /// Whether no database is held, or being held or let go.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn taking(&mut self, database: &str) {
        self.slots.insert(database.to_owned(), Slot::Taking);
    }

    /// The hold was taken; false when it is not wanted any more.
    pub(super) fn open(
        &mut self,
        database: &str,
        order: u64,
        round: u64,
        entry_nodes: EntryNodeStatus,
    ) -> bool {
        match self.slots.get_mut(database) {
            Some(slot @ Slot::Taking) => {
                *slot = Slot::Open {
                    order,
                    round,
                    entry_nodes,
                };
                true
            }
            _ => false,
        }
    }

    /// Calls off a hold that is still being taken; whether there is one. Its order ends by itself.
    pub(super) fn call_off(&mut self, database: &str) -> bool {
        match self.slots.get_mut(database) {
            Some(slot @ Slot::Taking) => {
                *slot = Slot::Ending;
                true
            }
            _ => false,
        }
    }

    /// Begins the end of an open hold, which is to be let go or moved; whether there is one.
    pub(super) fn end(&mut self, database: &str) -> bool {
        match self.slots.get_mut(database) {
            Some(slot @ Slot::Open { .. }) => {
                *slot = Slot::Ending;
                true
            }
            _ => false,
        }
    }

    /// The end has come.
    pub(super) fn ended(&mut self, database: &str) {
        self.slots.remove(database);
    }

    /// The coordinator closed the session of this hold; whether it was the one that is open.
    pub(super) fn lost(&mut self, database: &str, order: u64) -> bool {
        let ours = matches!(
            self.slots.get(database),
            Some(Slot::Open { order: open, .. }) if *open == order
        );
        if ours {
            self.slots.remove(database);
        }
        ours
    }

    /// How the entry nodes of an open hold are.
    pub(super) fn note_entry_nodes(&mut self, database: &str, status: EntryNodeStatus) {
        if let Some(Slot::Open { entry_nodes, .. }) = self.slots.get_mut(database) {
            *entry_nodes = status;
        }
    }

    /// The databases that are held, and how the entry nodes of each hold are.
    pub(super) fn open_holds(&self) -> impl Iterator<Item = (&str, &EntryNodeStatus)> {
        self.slots.iter().filter_map(|(name, slot)| match slot {
            Slot::Open { entry_nodes, .. } => Some((name.as_str(), entry_nodes)),
            _ => None,
        })
    }

    /// Each database's word for reports.
    pub(super) fn words(&self) -> BTreeMap<String, String> {
        let word = |slot: &Slot| match slot {
            Slot::Taking => "taking",
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
}
