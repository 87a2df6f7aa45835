//! What a decision is: the table's row that matched, one step a database, typed reasons to wait,
//! and whom to ask next. An executor carries it out and makes no choices of its own.

use std::collections::BTreeMap;
use std::fmt;

use dcs_watch::HostPort;
use serde::{Deserialize, Serialize};

/// The row of the decision table that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// etcd is silent: nothing changes.
    Stale,
    /// Every database's row is the writable leader's.
    Settled,
    /// The leader is writable and some row is not its own.
    Move,
    /// The leader key names a member that is still in recovery.
    Promoting,
    /// The leader key names a member that has not answered yet, or that has no address.
    Unproven,
    /// The leader key names a member that we cannot reach.
    Unreachable,
    /// Nobody holds the leader key.
    LeaderGone,
    /// The leader is writable, but some row waits for something else.
    Blocked,
}

impl Rule {
    /// The word for logs, tables and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Settled => "settled",
            Self::Move => "move",
            Self::Promoting => "promoting",
            Self::Unproven => "unproven",
            Self::Unreachable => "unreachable",
            Self::LeaderGone => "leader gone",
            Self::Blocked => "blocked",
        }
    }
}

/// Point a group's primary row at its writable leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The primary row's `nodeid`, which it keeps.
    pub nodeid: i32,
    /// Where the row points now.
    pub from: HostPort,
    /// The leader.
    pub to: HostPort,
    /// A secondary row of the same group that bears the leader's address and must give it up.
    pub make_way: Option<MakeWay>,
}

/// The other half of a swap: the secondary row takes the old primary's address, by way of a
/// temporary one, because `nodename:nodeport` is unique (patroni#2755).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeWay {
    /// The secondary row's `nodeid`.
    pub nodeid: i32,
    /// The address it bears inside the transaction only.
    pub temporary: HostPort,
    /// The address it has after it.
    pub then: HostPort,
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

/// What to do in one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing: the row is the leader's.
    Settled,
    /// Move the primary row.
    Move(Move),
    /// Add the group.
    Register(Register),
    /// Mend a temporary name.
    Repair(Repair),
    /// Nothing yet, and why.
    Wait(Wait),
}

impl Step {
    /// Whether this step changes `pg_dist_node`.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Move(_) | Self::Register(_) | Self::Repair(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settled => f.write_str("settled"),
            Self::Move(step) => {
                write!(
                    f,
                    "move node {} from {} to {}",
                    step.nodeid, step.from, step.to
                )?;
                match &step.make_way {
                    Some(way) => {
                        write!(f, ", and secondary node {} to {}", way.nodeid, way.then)
                    }
                    None => Ok(()),
                }
            }
            Self::Register(step) => write!(f, "add group {} at {}", step.group, step.address),
            Self::Repair(step) => {
                write!(
                    f,
                    "rename node {} from {} to {}",
                    step.nodeid, step.from, step.to
                )
            }
            Self::Wait(wait) => write!(f, "wait: {wait}"),
        }
    }
}

/// Why nothing moves. The text is for the person on call: what is missing, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Wait {
    /// Nothing was read from etcd yet.
    ViewUnknown,
    /// etcd is silent.
    ViewStale {
        /// What we saw of it.
        why: String,
    },
    /// etcd holds nothing of this scope.
    NoScope {
        /// Its name.
        scope: String,
    },
    /// The leader key is absent, or its value is no member's name.
    LeaderGone,
    /// The leader key names a member without a usable `conn_url`.
    NoAddress {
        /// The member.
        member: String,
    },
    /// The leader has not answered yet.
    NotProbed {
        /// Where we ask.
        address: HostPort,
    },
    /// The leader has the key but is still in recovery.
    Promoting {
        /// Where we ask, every few milliseconds.
        address: HostPort,
    },
    /// We cannot reach the leader.
    Unreachable {
        /// Where we tried.
        address: HostPort,
        /// What came back.
        error: String,
    },
    /// The rows of this database are not known.
    RowsUnknown {
        /// Why not.
        why: String,
    },
    /// The group has no primary row, and `register` is off.
    NoRow {
        /// Citus `groupid`.
        group: i32,
    },
    /// Citus allows one primary a group; this group has more.
    TwoPrimaries {
        /// Their `nodeid`s.
        nodeids: Vec<i32>,
    },
    /// The leader's address belongs to a row that is not ours to move.
    AddressTaken {
        /// The address.
        address: HostPort,
        /// The row that has it.
        nodeid: i32,
        /// The row's group.
        group: i32,
    },
    /// etcd went back in time, and the member that the row names may still take writes.
    LineageUnproven {
        /// Where the row points.
        address: HostPort,
        /// Whether it said so (true), or has not answered (false).
        writable: bool,
    },
    /// A temporary name is left, and no replica of the scope is free to take its place.
    NoSpare {
        /// The row.
        nodeid: i32,
        /// Its name.
        address: HostPort,
    },
    /// The step is right, but this formation is only observed.
    Observed {
        /// The step, in words.
        step: String,
        /// Who changes the rows instead.
        because: super::Writes,
    },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ViewUnknown => f.write_str("nothing was read from etcd yet"),
            Self::ViewStale { why } => write!(f, "etcd's view is stale ({why}): nothing changes"),
            Self::NoScope { scope } => write!(
                f,
                "etcd knows no scope {scope}: mend its name (`citus-sync check` names the ones \
                 there are), or start Patroni there"
            ),
            Self::LeaderGone => f.write_str("nobody holds the leader key"),
            Self::NoAddress { member } => write!(
                f,
                "member {member} holds the leader key, but its member key has no usable conn_url"
            ),
            Self::NotProbed { address } => {
                write!(f, "the leader at {address} has not answered yet")
            }
            Self::Promoting { address } => {
                write!(f, "the leader at {address} is still in recovery")
            }
            Self::Unreachable { address, error } => {
                write!(f, "cannot reach the leader at {address}: {error}")
            }
            Self::RowsUnknown { why } => write!(f, "pg_dist_node is not known: {why}"),
            Self::NoRow { group } => write!(
                f,
                "pg_dist_node has no primary row for group {group}: add it with citus_add_node, \
                 or set `register: true`"
            ),
            Self::TwoPrimaries { nodeids } => {
                write!(
                    f,
                    "the group has more than one primary row (nodeid {nodeids:?}): remove one"
                )
            }
            Self::AddressTaken {
                address,
                nodeid,
                group,
            } => write!(
                f,
                "{address} already belongs to node {nodeid} of group {group}: two groups cannot \
                 share an address; mend that row first"
            ),
            Self::LineageUnproven {
                address,
                writable: true,
            } => write!(
                f,
                "etcd went back in time (restored, or another cluster), and {address} still takes \
                 writes"
            ),
            Self::LineageUnproven {
                address,
                writable: false,
            } => write!(
                f,
                "etcd went back in time (restored, or another cluster), and {address} has not said \
                 yet whether it takes writes"
            ),
            Self::NoSpare { nodeid, address } => write!(
                f,
                "node {nodeid} bears the temporary name {address}, and no replica is \
                 free to take its place: add one, or remove the row"
            ),
            Self::Observed { step, because } => match because {
                super::Writes::PatroniManages => {
                    write!(
                        f,
                        "Patroni's own Citus integration is in charge; would {step}"
                    )
                }
                _ => write!(f, "`policy.write` is `never`; would {step}"),
            },
        }
    }
}

/// A question to put to a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Where.
    pub address: HostPort,
    /// Every few milliseconds until it is writable, rather than once.
    pub eager: bool,
}

/// What to do for one group, completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which row of the table matched.
    pub rule: Rule,
    /// What to do in each configured database.
    pub steps: BTreeMap<String, Step>,
    /// Whom to ask before the next decision; each stays connected.
    pub ask: Vec<Ask>,
}

impl Decision {
    /// Whether nothing is left to do in any database.
    pub fn is_settled(&self) -> bool {
        self.rule == Rule::Settled
    }

    /// The reasons to wait, each with its database.
    pub fn waits(&self) -> impl Iterator<Item = (&str, &Wait)> {
        self.steps.iter().filter_map(|(database, step)| match step {
            Step::Wait(wait) => Some((database.as_str(), wait)),
            _ => None,
        })
    }
}
