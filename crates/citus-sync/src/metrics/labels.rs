//! The labels of the metrics, and how each set of them is made from the group that an event happened
//! to.

use std::fmt::Write as _;

use citus_core::event::Whose;
use citus_core::plan::Step;
use citus_core::report::{Phase, ReachReport};
use dcs_watch::HostPort;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// What was done to a row; labels latency and outcome alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operation {
    Move,
    Exchange,
    Register,
    Repair,
}

impl Operation {
    /// What a step does to a row.
    pub fn of(step: &Step) -> Self {
        match step {
            Step::Exchange(_) => Self::Exchange,
            Step::Register(_) => Self::Register,
            Step::Repair(_) => Self::Repair,
            _ => Self::Move,
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Committed.
    Committed,
    /// Committed, after terminating sessions that were in the way.
    Forced,
    /// News came first; nothing was changed.
    Superseded,
    /// Nothing was changed.
    Failed,
    /// The answer to the commit did not arrive.
    Ambiguous,
}

impl EncodeLabelValue for Operation {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Move => "move",
            Self::Exchange => "exchange",
            Self::Register => "register",
            Self::Repair => "repair",
        })
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Committed => "committed",
            Self::Forced => "forced",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Ambiguous => "ambiguous",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct StepLabels {
    pub formation: String,
    pub group: i32,
    pub database: String,
    pub operation: Operation,
    pub outcome: Outcome,
}

impl StepLabels {
    /// Of one step in one database.
    pub fn of(whose: &Whose, database: &str, operation: Operation, outcome: Outcome) -> Self {
        Self {
            formation: whose.formation.clone(),
            group: whose.group,
            database: database.to_owned(),
            operation,
            outcome,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct RowLabels {
    pub formation: String,
    pub group: i32,
    pub database: String,
}

impl RowLabels {
    /// Of the group's row in one database.
    pub fn of(whose: &Whose, database: &str) -> Self {
        Self {
            formation: whose.formation.clone(),
            group: whose.group,
            database: database.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct GroupLabels {
    pub formation: String,
    pub group: i32,
    pub scope: String,
}

impl GroupLabels {
    /// Of the group.
    pub fn of(whose: &Whose) -> Self {
        Self {
            formation: whose.formation.clone(),
            group: whose.group,
            scope: whose.scope.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct DatabaseLabels {
    pub formation: String,
    pub database: String,
}

impl DatabaseLabels {
    /// Of one database of the formation.
    pub fn of(whose: &Whose, database: &str) -> Self {
        Self {
            formation: whose.formation.clone(),
            database: database.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct OperationLabels {
    pub operation: Operation,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldEnd {
    /// Let go without a move: it was withdrawn, released, or the same leader is back.
    Released,
    /// Let go with the row at the new leader.
    Followed,
    /// The deadline came first.
    Expired,
    /// It could not be taken.
    Failed,
    /// The session that held was lost: the coordinator went away.
    Lost,
}

impl HoldEnd {
    /// Every way.
    pub const ALL: [Self; 5] = [
        Self::Released,
        Self::Followed,
        Self::Expired,
        Self::Failed,
        Self::Lost,
    ];
}

impl EncodeLabelValue for HoldEnd {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Released => "released",
            Self::Followed => "followed",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Lost => "lost",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct HoldLabels {
    pub formation: String,
    pub group: i32,
    pub outcome: HoldEnd,
}

impl HoldLabels {
    /// Of a hold of the group.
    pub fn of(whose: &Whose, outcome: HoldEnd) -> Self {
        Self {
            formation: whose.formation.clone(),
            group: whose.group,
            outcome,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct EntryNodeLabels {
    pub formation: String,
    pub database: String,
    pub entry_node: String,
}

impl EntryNodeLabels {
    /// Of one entry node, in one database of the formation.
    pub fn of(whose: &Whose, database: &str, entry_node: &HostPort) -> Self {
        Self {
            formation: whose.formation.clone(),
            database: database.to_owned(),
            entry_node: entry_node.to_string(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ReachLabels {
    pub formation: String,
    pub group: i32,
    pub database: String,
    /// Empty where the address is a row's alone.
    pub member: String,
    pub address: String,
}

impl ReachLabels {
    /// Of one way of the coordinator to a member, or to the row.
    pub fn of(whose: &Whose, report: &ReachReport) -> Self {
        Self {
            formation: whose.formation.clone(),
            group: whose.group,
            database: report.database.clone(),
            member: report.member.clone().unwrap_or_default(),
            address: report.address.to_string(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct PhaseLabels {
    pub phase: &'static str,
}

impl PhaseLabels {
    /// Of one phase of a transition.
    pub fn of(phase: Phase) -> Self {
        Self {
            phase: phase.name(),
        }
    }
}
