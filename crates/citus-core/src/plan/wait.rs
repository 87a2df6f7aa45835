//! Why nothing is done yet: typed, so that `status` can tell, and worded for the person on call.

use std::fmt;

use dcs_watch::{HostPort, SystemId};
use serde::{Deserialize, Serialize};

use super::{Reason, Unproven, Unreached, Writes};

/// Why nothing moves. The text is for the person on call: what is missing, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Wait {
    /// Nothing was read from etcd yet.
    ViewUnknown,
    /// etcd is silent.
    ViewStale {
        /// Since when, and what went wrong.
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
    /// The row's address belongs to a member of another configured scope.
    NotOurs {
        /// Where the row points.
        address: HostPort,
        /// The row.
        nodeid: i32,
        /// The scope whose member is there.
        scope: String,
        /// The group that is configured for that scope.
        group: i32,
    },
    /// The row's address belongs to no member of ours, and it is not known yet whether it belongs to
    /// a member of another configured scope.
    ScopesUnread {
        /// Where the row points.
        address: HostPort,
        /// The scopes that were not read yet.
        scopes: Vec<String>,
    },
    /// Groups have each other's addresses; another group exchanges them.
    Exchanged {
        /// The group that does it.
        by: i32,
        /// All groups of the exchange.
        groups: Vec<i32>,
    },
    /// The coordinator reaches the leader at the row's address, and not at the leader's own.
    NotReached {
        /// Where the row points.
        row: HostPort,
        /// Where the leader is.
        leader: HostPort,
        /// Why the coordinator does not get there.
        why: Unreached,
    },
    /// The coordinator was not asked yet, or has not answered, whether it reaches an address.
    ReachUnknown {
        /// The address.
        address: HostPort,
    },
    /// etcd went back in time, and the member that the row names may still take writes.
    LineageUnproven {
        /// Where the row points.
        address: HostPort,
        /// Whether it said so (true), or has not answered (false).
        writable: bool,
    },
    /// The server at the leader's address is of another database cluster than the scope.
    ForeignServer {
        /// Where it is.
        address: HostPort,
        /// Its system identifier.
        found: SystemId,
        /// That of the scope's cluster (Patroni's `initialize` key).
        expected: SystemId,
    },
    /// Nothing is remembered that the leader could be compared with, and the member that the row
    /// names has not been asked yet.
    RowNotAsked {
        /// Where the row points.
        address: HostPort,
    },
    /// The member that the row names takes writes, too, and the leader is not ahead of it.
    OlderLeader {
        /// Where the row points.
        address: HostPort,
        /// Where the leader is.
        leader: HostPort,
        /// The timeline of the member at the row.
        timeline: Option<u32>,
        /// The leader's.
        leader_timeline: Option<u32>,
    },
    /// The leader is of a cluster that is new to us, and is not known to have the group's shards.
    Unproven(Box<Unproven>),
    /// A temporary name is left, and no replica of the scope is free to take its place.
    NoSpare {
        /// The row.
        nodeid: i32,
        /// Its name.
        address: HostPort,
    },
    /// The locks of a hold are being waited for.
    Taking {
        /// What it is for.
        what_for: Reason,
    },
    /// Writes are held.
    Held {
        /// What keeps the hold.
        what_for: Reason,
        /// Where the primary row points.
        reads_at: HostPort,
        /// Why reads are not at a standby.
        stay: Option<Stay>,
    },
    /// The leader is lost, and no standby can take the reads.
    Lost {
        /// Where the primary row points.
        address: HostPort,
        /// Why reads are not at a standby.
        stay: Stay,
    },
    /// The leader is lost, and reads are at a standby.
    ReadsMoved {
        /// Where the primary row points.
        to: HostPort,
        /// The leader, when the coordinator reaches it and only this daemon does not.
        stranded: Option<HostPort>,
    },
    /// The step is right, but this formation is only observed.
    Observed {
        /// The step, in words.
        step: String,
        /// Why this program does not change the rows itself.
        because: Writes,
    },
}

impl Wait {
    /// Whether nothing is to be held for as long as this is so: the leader is not known to be what
    /// its address is taken for.
    pub(super) fn forbids_holds(&self) -> bool {
        matches!(
            self,
            Self::ForeignServer { .. }
                | Self::RowNotAsked { .. }
                | Self::OlderLeader { .. }
                | Self::Unproven(_)
        )
    }

    /// Whether the answer that is waited for is being asked for: it says more in a moment.
    pub fn is_being_asked(&self) -> bool {
        let counting = match self {
            Self::Unproven(unproven) => {
                matches!(**unproven, Unproven::NotCounted { error: None, .. })
            }
            _ => false,
        };
        counting || matches!(self, Self::RowNotAsked { .. })
    }

    /// Whether the group's shards could not be counted where the row would go.
    pub fn is_uncounted(&self) -> bool {
        matches!(self, Self::Unproven(unproven) if matches!(**unproven, Unproven::NotCounted { .. }))
    }

    /// The server at which the group's shards are to be counted.
    pub fn counts_at(&self) -> Option<&HostPort> {
        match self {
            Self::Unproven(unproven)
            | Self::Lost {
                stay: Stay::Unproven(unproven),
                ..
            }
            | Self::Held {
                stay: Some(Stay::Unproven(unproven)),
                ..
            } => Some(unproven.address()),
            _ => None,
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ViewUnknown
            | Self::ViewStale { .. }
            | Self::NoScope { .. }
            | Self::LineageUnproven { .. } => self.of_etcd(f),
            Self::LeaderGone
            | Self::NoAddress { .. }
            | Self::NotProbed { .. }
            | Self::Promoting { .. }
            | Self::Unreachable { .. } => self.of_the_leader(f),
            Self::ForeignServer { .. }
            | Self::RowNotAsked { .. }
            | Self::OlderLeader { .. }
            | Self::Unproven(_) => self.of_who_answers(f),
            Self::NotOurs { .. }
            | Self::ScopesUnread { .. }
            | Self::Exchanged { .. }
            | Self::NotReached { .. }
            | Self::ReachUnknown { .. } => self.of_addresses(f),
            Self::RowsUnknown { .. }
            | Self::NoRow { .. }
            | Self::TwoPrimaries { .. }
            | Self::AddressTaken { .. }
            | Self::NoSpare { .. } => self.of_the_rows(f),
            Self::Taking { .. }
            | Self::Held { .. }
            | Self::Lost { .. }
            | Self::ReadsMoved { .. } => self.of_a_transition(f),
            Self::Observed { step, because } => match because {
                Writes::PatroniManages => write!(
                    f,
                    "Patroni's own Citus integration is in charge; would {step}"
                ),
                _ => write!(f, "`policy.write` is `never`; would {step}"),
            },
        }
    }
}

impl Wait {
    /// What etcd does not say, or says after it went back in time.
    fn of_etcd(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ViewUnknown => f.write_str("nothing was read from etcd yet"),
            Self::ViewStale { why } => write!(f, "etcd's view is stale ({why}): nothing changes"),
            Self::NoScope { scope } => write!(
                f,
                "etcd knows no scope {scope}: fix its name (`citus-sync check` names the ones \
                 there are), or start Patroni there"
            ),
            Self::LineageUnproven { address, writable } => {
                let what = if *writable {
                    "still takes writes"
                } else {
                    "has not said yet whether it takes writes"
                };
                write!(
                    f,
                    "etcd went back in time (restored, or another cluster), and {address} {what}"
                )
            }
            other => write!(f, "{other:?}"),
        }
    }

    /// What is missing of the leader.
    fn of_the_leader(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaderGone => f.write_str("no member holds the leader key"),
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
            other => write!(f, "{other:?}"),
        }
    }

    /// What is not known, or wrong, of the servers that answer.
    fn of_who_answers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignServer {
                address,
                found,
                expected,
            } => write!(
                f,
                "the server at {address} is of another database cluster: its system identifier is \
                 {found}, that of the scope {expected} (the initialize key). Nothing is changed or \
                 held; fix the member's connect_address, or find out what was given its address"
            ),
            Self::RowNotAsked { address } => write!(
                f,
                "{address}, where the row points, has not said yet whether it takes writes"
            ),
            Self::OlderLeader {
                address,
                leader,
                timeline,
                leader_timeline,
            } => {
                let name = |timeline: &Option<u32>| {
                    timeline.map_or_else(|| "not known".to_owned(), |number| number.to_string())
                };
                write!(
                    f,
                    "{address}, where the row points, still takes writes, and the leader at \
                     {leader} is not ahead of it (timelines {} and {}): two primaries. Stop the one \
                     that is wrong; was etcd restored from a backup?",
                    name(timeline),
                    name(leader_timeline)
                )
            }
            Self::Unproven(unproven) => write!(f, "{unproven}"),
            other => write!(f, "{other:?}"),
        }
    }

    /// What is wrong with the rows.
    fn of_the_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RowsUnknown { why } => write!(f, "pg_dist_node is not known: {why}"),
            Self::NoRow { group } => write!(
                f,
                "pg_dist_node has no primary row for group {group}: add it with citus_add_node, \
                 or set `register: true`"
            ),
            Self::TwoPrimaries { nodeids } => write!(
                f,
                "the group has more than one primary row (nodeid {nodeids:?}): remove one"
            ),
            Self::AddressTaken {
                address,
                nodeid,
                group,
            } => write!(
                f,
                "{address} already belongs to node {nodeid} of group {group}: two groups cannot \
                 share an address; fix that row first"
            ),
            Self::NoSpare { nodeid, address } => write!(
                f,
                "node {nodeid} bears the temporary name {address}, and no replica is \
                 free to take its place: add one, or remove the row"
            ),
            other => write!(f, "{other:?}"),
        }
    }

    /// Whose address it is, and whether the coordinator reaches it.
    fn of_addresses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs {
                address,
                nodeid,
                scope,
                group,
            } => write!(
                f,
                "node {nodeid} is at {address}, which is a member of scope {scope} (group {group}): \
                 not ours to move. If this database numbers its groups differently, serve it by a \
                 formation of its own; if the hosts have changed addresses, point the row at this \
                 group's leader once with citus_update_node"
            ),
            Self::ScopesUnread { address, scopes } => write!(
                f,
                "{address} is no member's of this scope; whether it is one of {} is not known yet",
                scopes.join(", ")
            ),
            Self::Exchanged { by, groups } => write!(
                f,
                "groups {groups:?} have each other's addresses; group {by} exchanges their rows, once \
                 each leader is known to have its group's shards"
            ),
            Self::NotReached { row, leader, why } => write!(
                f,
                "the row stays at {row}, where the coordinator reaches the leader: it does not \
                 reach {leader}, the address that Patroni advertises: {why}; open the way from the \
                 coordinator to it, or map it under `addresses`"
            ),
            Self::ReachUnknown { address } => write!(
                f,
                "the coordinator has not said yet whether it reaches {address}"
            ),
            other => write!(f, "{other:?}"),
        }
    }

    /// Where reads and writes are while the leader changes.
    fn of_a_transition(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taking { what_for } => write!(f, "taking a hold: {what_for}"),
            Self::Held {
                what_for,
                reads_at,
                stay: None,
            } => write!(f, "writes are held ({what_for}), reads go to {reads_at}"),
            Self::Held {
                what_for,
                reads_at,
                stay: Some(stay),
            } => write!(
                f,
                "writes are held ({what_for}), reads stay at {reads_at}: {stay}"
            ),
            Self::Lost { address, stay } => write!(
                f,
                "the leader at {address} is lost, and reads with it: {stay}"
            ),
            Self::ReadsMoved { to, stranded: None } => {
                write!(f, "the leader is lost; reads go to {to}")
            }
            Self::ReadsMoved {
                to,
                stranded: Some(leader),
            } => write!(
                f,
                "reads and writes go to {to}, a standby, although the coordinator reaches the \
                 leader at {leader}: only this daemon does not reach it; fix that, or point the \
                 row back by hand"
            ),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Why reads are not sent to a standby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "because")]
pub enum Stay {
    /// `policy.read_move` is off.
    Off,
    /// Our role may not update `pg_dist_node`.
    NotAllowed,
    /// The leader has not reported its WAL position yet.
    Asking,
    /// Clients can write through the group's own leader, and it is not held: what they write would
    /// be acknowledged and not be seen at the standby.
    LeaderOpen,
    /// No member is a standby of the leader's history.
    NoneQualifies,
    /// No standby that qualifies answers.
    NoStandby,
    /// The standby that is furthest has not replayed everything yet.
    Behind {
        /// The standby.
        address: HostPort,
        /// The bytes of WAL that it has still to replay.
        bytes: u64,
    },
    /// The coordinator was not asked yet, or has not answered, whether it reaches the leader.
    Unconfirmed,
    /// The coordinator reaches the leader; only this daemon does not.
    Reachable,
    /// etcd's history is new to us, so what it says of standbys may be old.
    NewHistory,
    /// The row's address follows the leader by itself (`address: fixed`) and is never rewritten.
    Fixed,
    /// The coordinator has not said yet whether it reaches the standby that has everything.
    ReachUnknown {
        /// The standby.
        address: HostPort,
    },
    /// The coordinator does not reach the standby that has everything.
    NotReached {
        /// The standby.
        address: HostPort,
        /// Why it does not get there.
        why: Unreached,
    },
    /// etcd was not asked yet, or has not answered, who leads and who is synchronous now.
    KeysNotRead,
    /// etcd has newer keys than the watch has delivered.
    KeysDiffer,
    /// The standby is of a cluster that is new to us, and is not known to have the group's shards.
    Unproven(Box<Unproven>),
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("`policy.read_move` is off"),
            Self::NotAllowed => {
                f.write_str("our role may not update pg_dist_node (grant it UPDATE there)")
            }
            Self::Asking => f.write_str("the leader has not reported its WAL position yet"),
            Self::LeaderOpen => f.write_str("writes through the leader itself are not held"),
            Self::NoneQualifies => f.write_str("no member is a standby of the leader"),
            Self::NoStandby => f.write_str("no standby that may have everything answers"),
            Self::Behind { address, bytes } => {
                write!(f, "{address} has {bytes} bytes of WAL still to replay")
            }
            Self::Unconfirmed => {
                f.write_str("the coordinator has not answered yet whether it reaches the leader")
            }
            Self::Reachable => {
                f.write_str("the coordinator reaches the leader; only this daemon does not")
            }
            Self::NewHistory => {
                f.write_str("etcd went back in time, and what it says of standbys may be old")
            }
            Self::KeysNotRead => {
                f.write_str("etcd has not confirmed yet who leads and who is synchronous")
            }
            Self::KeysDiffer => f.write_str(
                "etcd has newer word of who leads and who is synchronous than was watched so far",
            ),
            Self::Unproven(unproven) => write!(f, "{unproven}"),
            Self::Fixed => f.write_str(
                "the row's address is `fixed`: what is behind it decides where reads go",
            ),
            Self::ReachUnknown { address } => write!(
                f,
                "the coordinator has not said yet whether it reaches {address}"
            ),
            Self::NotReached { address, why } => {
                write!(f, "the coordinator does not reach {address}: {why}")
            }
        }
    }
}
