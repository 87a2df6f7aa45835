//! What a decision is: the table's row that matched, one step a database, and which members to ask
//! next. An executor executes it and makes no choices of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use dcs_watch::HostPort;
use serde::{Deserialize, Serialize};

use super::{Reason, Wait};

/// The row of the decision table that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// etcd is silent: nothing changes.
    Stale,
    /// A hold reached its deadline: it is let go.
    Expired,
    /// A reason to hold stands.
    Hold,
    /// Every database's row is the writable leader's.
    InSync,
    /// The leader is writable, and some row is not its own or a hold is still open.
    Move,
    /// Every row is right; a resync is still due in some database.
    Resync,
    /// The leader key names a member that is still in recovery.
    Promoting,
    /// The leader key names a member that has not answered yet, or that has no address.
    Unproven,
    /// The leader key names a member that we cannot reach.
    Unreachable,
    /// No member holds the leader key.
    LeaderGone,
    /// The server at the leader's address is of another database cluster.
    Foreign,
    /// The leader is writable, but some row waits for something else.
    Blocked,
}

impl Rule {
    /// The word for logs, tables and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Hold => "hold",
            Self::InSync => "in sync",
            Self::Move => "move",
            Self::Resync => "resync",
            Self::Promoting => "promoting",
            Self::Unproven => "unproven",
            Self::Unreachable => "unreachable",
            Self::LeaderGone => "leader gone",
            Self::Foreign => "foreign",
            Self::Blocked => "blocked",
        }
    }
}

/// Point a group's primary row elsewhere: at its writable leader, or, as a read move, at a standby
/// that has everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The primary row's `nodeid`, which it keeps.
    pub nodeid: i32,
    /// Where the row points now.
    pub from: HostPort,
    /// The leader, or the standby.
    pub to: HostPort,
    /// A secondary row of the same group, or a clone's row, that bears that address and must give
    /// it up.
    pub make_way: Option<MakeWay>,
}

/// The other half of a swap: the secondary row, or the clone's, takes the old primary's address, by way of a
/// temporary one, because `nodename:nodeport` is unique (patroni#2755).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeWay {
    /// That row's `nodeid`.
    pub nodeid: i32,
    /// The address it bears inside the transaction only.
    pub temporary: HostPort,
    /// The address it has after it.
    pub then: HostPort,
}

/// Give the rows of several groups each other's addresses, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The rows, in the order of their groups. Each one's new address is another one's old one.
    pub parts: Vec<ExchangePart>,
}

/// One row of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangePart {
    /// Citus `groupid`.
    pub group: i32,
    /// The group's primary row.
    pub nodeid: i32,
    /// Where it points now.
    pub from: HostPort,
    /// Where the group's leader is.
    pub to: HostPort,
    /// The name the row bears inside the transaction only.
    pub temporary: HostPort,
    /// `mod_revision` of the leader key that this stands on.
    pub revision: i64,
}

/// Add a group that has no primary row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// Citus `groupid`.
    pub group: i32,
    /// The leader.
    pub address: HostPort,
}

/// Give a row that a cut-off swap left with a temporary name a real address again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The row's `nodeid`.
    pub nodeid: i32,
    /// The temporary name it bears.
    pub from: HostPort,
    /// A replica of the same scope that no row names.
    pub to: HostPort,
}

/// Make writes to the group's shards wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The primary row's `nodeid`.
    pub nodeid: i32,
    /// Why.
    pub reason: Reason,
}

/// Have Citus send a row that a plain UPDATE changed to its workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resync {
    /// The primary row's `nodeid`.
    pub nodeid: i32,
    /// Where it points, before and after.
    pub address: HostPort,
}

/// What to do in one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing: the row is the leader's.
    InSync,
    /// Make writes wait.
    Hold(Hold),
    /// Point the primary row at a standby that has everything, or back at the leader; a hold that
    /// is open stays open.
    ReadMove(Move),
    /// Move the primary row; a hold that is open ends with it.
    Move(Move),
    /// Give the primary rows of several groups each other's addresses.
    Exchange(Exchange),
    /// End the hold; the row stays as it is.
    LetGo,
    /// Add the group.
    Register(Register),
    /// Fix a temporary name.
    Repair(Repair),
    /// Have Citus send the row to its workers.
    Resync(Resync),
    /// Nothing is done yet; says why.
    Wait(Wait),
}

impl Step {
    /// Whether nothing can be done here whatever happens to the leader: the rows are not known, or
    /// the group has none.
    pub fn is_out_of_reach(&self) -> bool {
        matches!(
            self,
            Self::Wait(Wait::RowsUnknown { .. } | Wait::NoRow { .. } | Wait::TwoPrimaries { .. })
        )
    }

    /// Whether there is something to execute.
    pub fn acts(&self) -> bool {
        !matches!(self, Self::InSync | Self::Wait(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InSync => f.write_str("in sync"),
            Self::Hold(step) => write!(f, "hold writes: {}", step.reason),
            Self::ReadMove(step) => write!(f, "send reads: {step}"),
            Self::Move(step) => write!(f, "move {step}"),
            Self::Exchange(step) => write!(f, "exchange {step}"),
            Self::LetGo => f.write_str("let writes go"),
            Self::Register(step) => write!(f, "add group {} at {}", step.group, step.address),
            Self::Repair(step) => {
                write!(
                    f,
                    "rename node {} from {} to {}",
                    step.nodeid, step.from, step.to
                )
            }
            Self::Resync(step) => write!(
                f,
                "have Citus tell its workers that node {} is at {}",
                step.nodeid, step.address
            ),
            Self::Wait(wait) => write!(f, "wait: {wait}"),
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, part) in self.parts.iter().enumerate() {
            let before = if number == 0 { "" } else { ", " };
            write!(
                f,
                "{before}node {} of group {} from {} to {}",
                part.nodeid, part.group, part.from, part.to
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} from {} to {}", self.nodeid, self.from, self.to)?;
        match &self.make_way {
            Some(way) => write!(f, ", and secondary node {} to {}", way.nodeid, way.then),
            None => Ok(()),
        }
    }
}

/// A question to put to a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The address of the member.
    pub address: HostPort,
    /// Every few milliseconds while it is in recovery, rather than once.
    pub eager: bool,
    /// Connect again at once when it cannot be reached, rather than after a growing pause: writers
    /// are waiting.
    pub hurry: bool,
}

/// What to do for one group, completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which row of the table matched.
    pub rule: Rule,
    /// What to do in each configured database.
    pub steps: BTreeMap<String, Step>,
    /// Which members to ask before the next decision; the session to each stays open.
    pub ask: Vec<Ask>,
    /// Which members the coordinator is to be asked about, because we lost them.
    pub reachability: Vec<HostPort>,
    /// When to decide again although no news came.
    pub again_in: Option<Duration>,
}

impl Decision {
    /// Whether nothing is left to do in any database.
    pub fn is_in_sync(&self) -> bool {
        self.rule == Rule::InSync
    }

    /// Whether every row that is known is the leader's and nothing is open. A database of which
    /// nothing is known, or in which the group has no row, does not keep the others from being so
    /// (rule 8).
    pub fn is_at_rest(&self) -> bool {
        let in_sync = |step: &Step| matches!(step, Step::InSync | Step::Resync(_));
        self.steps.values().any(in_sync)
            && self
                .steps
                .values()
                .all(|step| in_sync(step) || step.is_out_of_reach())
    }

    /// Whether a resync is due in some database.
    pub fn resyncs(&self) -> bool {
        let resyncs = |step: &Step| matches!(step, Step::Resync(_));
        self.steps.values().any(resyncs)
    }

    /// The reasons to wait, each with its database.
    pub fn waits(&self) -> impl Iterator<Item = (&str, &Wait)> {
        self.steps.iter().filter_map(|(database, step)| match step {
            Step::Wait(wait) => Some((database.as_str(), wait)),
            _ => None,
        })
    }
}
