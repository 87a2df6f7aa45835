//! All that a group reconciler knows and remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dcs_watch::{HostPort, ScopeId, ScopeView};

use super::attempts::{Attempts, Seen};
use super::effect::{Effect, Effects};
use super::failures::FailureDetector;
use super::holding::{Hold, Slots};
use super::input::{DatabaseFacts, Now};
use super::keys::KeyConfirmation;
use super::prewarm::Prewarm;
use super::reach::ReachLedger;
use super::readers::Readers;
use super::recorder::Recorder;
use super::requests::Requests;
use super::shards::ShardCounting;
use super::verification::MetadataVerification;
use crate::event::{Event, Whose};
use crate::invariants::Violation;
use crate::plan::{KnownCluster, Neighbour, Probe, Reason, Writes};
use crate::policy::Policy;
use crate::report::MoveReport;

/// What is configured for a group.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which group it is.
    pub whose: Whose,
    /// Its formation's policy.
    pub policy: Policy,
    /// Add the group where it has no row.
    pub register: bool,
    /// Its row follows the leader by itself, and is never rewritten (`address: fixed`).
    pub fixed: bool,
    /// Whether its rows are ours to write.
    pub writes: Writes,
    /// The databases, by name.
    pub databases: Vec<String>,
}

/// The state of one group's reconciler. [`Group::step`] is all that it does.
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) settings: Settings,
    pub(super) facts: Facts,
    pub(super) trust: Trust,
    pub(super) phase: Phase,
    pub(super) slots: Slots,
    pub(super) attempts: Attempts,
    pub(super) failures: FailureDetector,
    pub(super) reach: ReachLedger,
    pub(super) requests: Requests,
    pub(super) counting: ShardCounting,
    pub(super) keys: KeyConfirmation,
    pub(super) readers: Readers,
    pub(super) upkeep: Upkeep,
    pub(super) told: Told,
    /// Rises when a hold is complete and when a member is lost: positions that were asked for
    /// earlier say nothing about either.
    pub(super) round: u64,
    /// Counts orders, so that the end of an earlier one is not taken for this one's.
    pub(super) orders: u64,
    /// When to stop waiting for the end, once we were asked to stop.
    pub(super) stop_by: Option<Instant>,
    /// When to decide again although no news came.
    pub(super) again: Option<Instant>,
    /// What the step under way has come to so far.
    pub(super) effects: Effects,
}

/// What was heard last.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) view: Arc<ScopeView>,
    pub(super) databases: BTreeMap<String, DatabaseFacts>,
    pub(super) answers: BTreeMap<HostPort, Probe>,
    /// Another group of the formation is held.
    pub(super) others_held: bool,
    /// What the other groups let this one know.
    pub(super) neighbours: Arc<BTreeMap<i32, Neighbour>>,
}

/// What decisions are measured against.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    /// The lineage under which this group was last found in sync.
    pub(super) lineage: Option<u64>,
    /// The database cluster whose member led then.
    pub(super) cluster: Option<KnownCluster>,
    /// The member that led then.
    pub(super) leader: Option<String>,
    /// Databases in which the row was found at a member of this scope.
    pub(super) own: BTreeSet<String>,
    /// The present leader key.
    pub(super) seen: Option<Seen>,
}

/// Where the group is between two moments of being in sync.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Nothing is under way.
    Quiet,
    /// The leader was lost or changed, or a row is not its leader's; writes are not held.
    Transition(Box<Recorder>),
    /// Writes are held, or are to be.
    Held {
        recorder: Box<Recorder>,
        hold: Box<Hold>,
    },
}

impl Phase {
    /// What a hold began by, and how it is, while one stands.
    pub(super) fn hold(&self) -> Option<&Hold> {
        match self {
            Self::Held { hold, .. } => Some(hold),
            Self::Quiet | Self::Transition(_) => None,
        }
    }

    pub(super) fn hold_mut(&mut self) -> Option<&mut Hold> {
        match self {
            Self::Held { hold, .. } => Some(hold),
            Self::Quiet | Self::Transition(_) => None,
        }
    }

    pub(super) fn recorder(&mut self) -> Option<&mut Recorder> {
        match self {
            Self::Quiet => None,
            Self::Transition(recorder) | Self::Held { recorder, .. } => Some(recorder),
        }
    }

    /// A transition begins.
    pub(super) fn begin(&mut self, recorder: Recorder) {
        if matches!(self, Self::Quiet) {
            *self = Self::Transition(Box::new(recorder));
        }
    }

    /// A hold begins to stand, unless one does; the hold. There is none outside of a transition.
    pub(super) fn stand(&mut self, begin: impl FnOnce() -> Hold) -> Option<&mut Hold> {
        *self = match std::mem::replace(self, Self::Quiet) {
            Self::Transition(recorder) => Self::Held {
                recorder,
                hold: Box::new(begin()),
            },
            other => other,
        };
        self.hold_mut()
    }

    /// Nothing is held or wanted any more; the hold that stood.
    pub(super) fn fall(&mut self) -> Option<Hold> {
        match std::mem::replace(self, Self::Quiet) {
            Self::Held { recorder, hold } => {
                *self = Self::Transition(recorder);
                Some(*hold)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// The transition is over, unless something is held; what was recorded of it.
    pub(super) fn close(&mut self) -> Option<Recorder> {
        match std::mem::replace(self, Self::Quiet) {
            Self::Transition(recorder) => Some(*recorder),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// What is looked after while the group is in sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Upkeep {
    pub(super) verification: MetadataVerification,
    pub(super) prewarm: Prewarm,
}

/// What was told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// What was decided, when that was told.
    pub(super) decided: Option<Event>,
    pub(super) last_move: Option<MoveReport>,
    /// What the other groups were let know.
    pub(super) neighbour: Option<Neighbour>,
    /// Whether a hold stands; none before that was told at all.
    pub(super) hold_stands: Option<bool>,
}

impl Group {
    /// A reconciler that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        let scope = ScopeId::new(&settings.whose.scope);
        Self {
            facts: Facts {
                view: Arc::new(ScopeView::empty(scope)),
                databases: BTreeMap::new(),
                answers: BTreeMap::new(),
                others_held: false,
                neighbours: Arc::default(),
            },
            settings,
            trust: Trust::default(),
            phase: Phase::Quiet,
            slots: Slots::default(),
            attempts: Attempts::default(),
            failures: FailureDetector::default(),
            reach: ReachLedger::default(),
            requests: Requests::default(),
            counting: ShardCounting::default(),
            keys: KeyConfirmation::default(),
            readers: Readers::default(),
            upkeep: Upkeep::default(),
            told: Told::default(),
            round: 0,
            orders: 0,
            stop_by: None,
            again: None,
            effects: Effects::default(),
        }
    }

    pub(super) fn group(&self) -> i32 {
        self.settings.whose.group
    }

    pub(super) fn want(&mut self, effect: Effect) {
        self.effects.all.push(effect);
    }

    /// The invariant checker stopped something.
    pub(super) fn violated(&mut self, violation: &Violation) {
        self.publish(Event::Violation {
            what: violation.to_string(),
        });
    }

    pub(super) fn publish(&mut self, event: Event) {
        self.want(Effect::Publish(event));
    }

    /// A reason's hold reached its deadline, or was let go by hand: what it stands for, and what else
    /// stands now, is used up.
    pub(super) fn give_up(&mut self, reasons: impl IntoIterator<Item = Reason>) {
        let own = self.phase.hold().map(|hold| hold.reason);
        self.requests.give_up(own.into_iter().chain(reasons));
    }

    /// How long a hold for `reason` has until the server ends it; it begins to stand, unless it does.
    pub(super) fn stand(&mut self, reason: Reason, now: Now) -> Option<Duration> {
        let limit = self.settings.policy.hold_timeout;
        let timeout = self.requests.timeout(reason, limit);
        let hold = self.phase.stand(|| Hold::begin(reason, timeout, now))?;
        Some(hold.left(now.instant))
    }
}
