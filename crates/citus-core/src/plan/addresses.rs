//! What is known of addresses beyond the group's own view: whether the coordinator reaches them, and
//! what the other groups of the formation have. And what follows from it for one row: whether it
//! works, and whether it is this group's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcs_watch::HostPort;
use serde::{Deserialize, Serialize};

use super::{ProbeState, Row, Situation, Wait};

/// Whether the coordinator reaches an address, as it said when it was asked ahead of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is being asked for the first time.
    Asking,
    /// It does, and what the server there said through it, where Citus can ask that.
    Yes(Option<Answerer>),
    /// It does not, and why.
    No(Unreached),
}

/// The server that answered the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answerer {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// `pg_postmaster_start_time()`, in microseconds since 1970 by the server's own clock. No two
    /// servers were started in the same microsecond, so it tells whether two addresses lead to one
    /// server.
    pub started: i64,
}

/// Why the coordinator does not reach an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    /// What kind of failure it is.
    pub kind: UnreachedKind,
    /// The coordinator's own words.
    pub error: String,
}

/// What keeps the coordinator from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnreachedKind {
    /// No server listens there.
    Refused,
    /// No answer came in time.
    Timeout,
    /// The host name has no address there.
    Name,
    /// One side wants TLS and the other has none, or a certificate is not trusted.
    Tls,
    /// The server does not let the coordinator's role in.
    Authentication,
    /// Anything else.
    Other,
}

impl UnreachedKind {
    /// From libpq's words, or the server's.
    pub fn from_error(error: &str) -> Self {
        let error = error.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
        // A server without the TLS that `pg_hba.conf` wants says "no pg_hba.conf entry …, no
        // encryption": which of the two it is, its words decide.
        if says(&["could not translate host name", "name or service not known"]) {
            Self::Name
        } else if says(&[
            "pg_hba.conf",
            "password",
            "authentication",
            "role \"",
            "gssapi",
        ]) {
            Self::Authentication
        } else if says(&["ssl", "tls", "certificate"]) {
            Self::Tls
        } else if says(&[
            "timeout",
            "timed out",
            "could not establish connection after",
        ]) {
            Self::Timeout
        } else if says(&["refused"]) {
            Self::Refused
        } else {
            Self::Other
        }
    }

    /// The word for logs, tables and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Name => "name",
            Self::Tls => "tls",
            Self::Authentication => "authentication",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.kind.name(), self.error)
    }
}

/// What one group of the formation lets the others know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Its scope.
    pub scope: String,
    /// Where its members are; none until its view was read.
    pub members: Option<Vec<HostPort>>,
    /// Its leader, while that is known to take writes.
    pub leader: Option<NeighbourLeader>,
    /// A hold of it stands.
    pub held: bool,
    /// Databases in which its row was found to be its own.
    pub own: BTreeSet<String>,
    /// Databases in which its row may go to that leader, for all that is known of who answers there.
    pub proven: BTreeSet<String>,
}

/// A leader that takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourLeader {
    /// Where it is.
    pub address: HostPort,
    /// `mod_revision` of its leader key.
    pub revision: i64,
}

/// What is known of addresses beyond the group's own view.
#[derive(Clone, Debug, Default)]
pub struct AddressFacts {
    /// The row has a name or an address that follows the leader by itself (`address: fixed`): it is
    /// never rewritten.
    pub fixed: bool,
    /// The other groups of the formation.
    pub neighbours: Arc<BTreeMap<i32, Neighbour>>,
    /// Databases in which the group's row was found at a member of its own scope since this program
    /// began: there this group number means this scope.
    pub own: BTreeSet<String>,
    /// What the coordinator says it reaches, by database. An address that is missing cannot be asked
    /// about.
    pub reach: BTreeMap<String, BTreeMap<HostPort, Reach>>,
}

impl AddressFacts {
    /// What the coordinator says of an address in one database.
    pub fn reach_of(&self, database: &str, address: &HostPort) -> Option<&Reach> {
        self.reach.get(database)?.get(address)
    }

    /// Why the coordinator does not reach an address, if it said that it does not.
    pub fn unreached(&self, database: &str, address: &HostPort) -> Option<&Unreached> {
        match self.reach_of(database, address) {
            Some(Reach::No(why)) => Some(why),
            _ => None,
        }
    }
}

/// Whether a row's address leads to the leader's own server under another name, as far as is known.
enum Leads {
    ToTheLeader,
    Elsewhere,
    /// The coordinator is being asked.
    NotKnownYet,
}

/// Rule 10: a row that works is left only for an address that the coordinator reaches. It works
/// where it leads the coordinator to the leader's own server by another name. Anything else is
/// a failover, which is followed whether the coordinator reaches the new leader or not.
pub(super) fn may_leave(
    situation: &Situation<'_>,
    database: &str,
    row: &Row,
    leader: &HostPort,
) -> Result<(), Wait> {
    match where_it_leads(situation, database, row) {
        Leads::Elsewhere => Ok(()),
        Leads::NotKnownYet => Err(Wait::ReachUnknown {
            address: row.address.clone(),
        }),
        Leads::ToTheLeader => match situation.addresses.reach_of(database, leader) {
            Some(Reach::Yes(_)) => Ok(()),
            Some(Reach::No(why)) => Err(Wait::NotReached {
                row: row.address.clone(),
                leader: leader.clone(),
                why: why.clone(),
            }),
            Some(Reach::Asking) | None => Err(Wait::ReachUnknown {
                address: leader.clone(),
            }),
        },
    }
}

fn where_it_leads(situation: &Situation<'_>, database: &str, row: &Row) -> Leads {
    let at = &row.address;
    let members = situation.view.members.values();
    // Another member's address is another server: nothing is asked in a failover.
    if row.is_temporary() || addresses(members).any(|address| address == at) {
        return Leads::Elsewhere;
    }
    let leader = situation.leader_probe().and_then(|probe| probe.started);
    match situation.addresses.reach_of(database, at) {
        None | Some(Reach::No(_)) => Leads::Elsewhere,
        Some(Reach::Asking) => Leads::NotKnownYet,
        Some(Reach::Yes(answerer)) => {
            let seen = situation.answers.get(at);
            let started = match (answerer, situation.state_of(at)) {
                (Some(answerer), _) if answerer.in_recovery => None,
                (Some(answerer), _) => Some(answerer.started),
                // This Citus cannot ask who answers: we ask ourselves.
                (None, ProbeState::Unknown) => return Leads::NotKnownYet,
                (None, ProbeState::Writable) => seen.and_then(|probe| probe.started),
                (None, _) => None,
            };
            if started.is_some() && started == leader {
                Leads::ToTheLeader
            } else {
                Leads::Elsewhere
            }
        }
    }
}

fn addresses<'a>(
    members: impl Iterator<Item = &'a dcs_watch::Versioned<dcs_watch::value::Member>>,
) -> impl Iterator<Item = &'a HostPort> {
    members.filter_map(|member| member.value.address.as_ref())
}

/// A row whose address belongs to a member of another configured scope, and to none of our own, is
/// that scope's, unless this database's row was ours before: databases may number their groups
/// differently.
pub(super) fn is_ours(situation: &Situation<'_>, database: &str, row: &Row) -> Result<(), Wait> {
    let facts = situation.addresses;
    let at = &row.address;
    let own = addresses(situation.view.members.values()).any(|address| address == at);
    if facts.fixed || own || row.is_temporary() || facts.own.contains(database) {
        return Ok(());
    }
    let others = || (facts.neighbours.iter()).filter(|(group, _)| **group != situation.group);
    let owner = others().find(|(_, other)| {
        let members = other.members.as_ref();
        members.is_some_and(|members| members.contains(at))
    });
    if let Some((group, owner)) = owner {
        return Err(Wait::NotOurs {
            address: at.clone(),
            nodeid: row.nodeid,
            scope: owner.scope.clone(),
            group: *group,
        });
    }
    let unread: Vec<String> = others()
        .filter(|(_, other)| other.members.is_none())
        .map(|(_, other)| other.scope.clone())
        .collect();
    if unread.is_empty() {
        Ok(())
    } else {
        Err(Wait::ScopesUnread {
            address: at.clone(),
            scopes: unread,
        })
    }
}
