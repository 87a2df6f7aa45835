//! Small builders: a scope of pg1, pg2 and pg3 whose group 1 has its row at pg1.
//! What holds and read moves look at is added in [`super::telling`].

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dcs_watch::{
    ClusterConfig, Freshness, HostPort, KeyRevisions, Role, ScopeId, ScopeView, Versioned,
};
use time::OffsetDateTime;

use super::super::*;
use crate::invariants::check;

pub(crate) fn addr(host: &str) -> HostPort {
    HostPort {
        host: host.to_owned(),
        port: 5432,
    }
}

pub(crate) fn row(nodeid: i32, groupid: i32, host: &str) -> Row {
    Row {
        nodeid,
        groupid,
        address: addr(host),
        role: NodeRole::Primary,
        cluster: "default".to_owned(),
        active: true,
        has_metadata: groupid > 0,
        metadata_synced: groupid > 0,
    }
}

pub(crate) fn secondary(nodeid: i32, groupid: i32, host: &str) -> Row {
    Row {
        role: NodeRole::Secondary,
        ..row(nodeid, groupid, host)
    }
}

pub(crate) fn clone_of(nodeid: i32, host: &str) -> Row {
    Row {
        role: NodeRole::Clone,
        active: false,
        ..row(nodeid, 20 + nodeid, host)
    }
}

pub(crate) fn refused() -> Unreached {
    Unreached {
        kind: UnreachedKind::Refused,
        error: "connection refused".to_owned(),
    }
}

/// An answer that says nothing of positions.
pub(crate) fn heard(address: &HostPort, state: ProbeState) -> Probe {
    Probe {
        address: address.clone(),
        leader_revision: LEADER_REVISION,
        round: 0,
        state,
        position: Position::default(),
        started: Some(1),
        identity: Identity::default(),
    }
}

pub(crate) fn versioned<T>(value: T, revision: i64) -> Versioned<T> {
    Versioned {
        value,
        mod_revision: revision,
        create_revision: revision,
    }
}

/// Everything one decision looks at, owned.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) group: i32,
    pub(crate) view: ScopeView,
    pub(crate) answers: BTreeMap<HostPort, Probe>,
    pub(crate) reachability: BTreeMap<HostPort, Reachability>,
    pub(crate) trusted_lineage: Option<u64>,
    pub(crate) known_cluster: Option<KnownCluster>,
    pub(crate) shards: ShardCounts,
    /// What etcd itself says; `None`: what the view says.
    #[expect(clippy::option_option, reason = "as the view says, or as is said here")]
    pub(crate) keys: Option<Option<KeyRevisions>>,
    pub(crate) rows: BTreeMap<String, Rows>,
    pub(crate) progress: BTreeMap<String, Progress>,
    pub(crate) active_hold: Option<ActiveHold>,
    pub(crate) requested_hold: Option<RequestedHold>,
    pub(crate) given_up: Vec<Reason>,
    pub(crate) limits: Limits,
    pub(crate) stopping: bool,
    pub(crate) now: OffsetDateTime,
    pub(crate) register: bool,
    pub(crate) writes: Writes,
    pub(crate) addresses: AddressFacts,
}

pub(crate) const LEADER_REVISION: i64 = 40;

impl Scenario {
    pub(crate) fn new() -> Self {
        // Cloned, because random tests make a hundred thousand scenarios.
        static BLANK: LazyLock<Scenario> = LazyLock::new(Scenario::blank);
        BLANK.clone()
    }

    fn blank() -> Self {
        let mut view = ScopeView::empty(ScopeId::new("wk1"));
        view.freshness = Freshness::Fresh;
        for name in ["pg1", "pg2", "pg3"] {
            let text = format!(
                r#"{{"conn_url":"postgres://{name}:5432/postgres","state":"running","role":"replica"}}"#
            );
            let member = dcs_watch::value::member(text.as_bytes()).expect("as Patroni writes it");
            view.members.insert(name.to_owned(), versioned(member, 10));
        }
        let rows = vec![row(2, 1, "pg1"), row(3, 2, "other")];
        Self {
            group: 1,
            view,
            answers: BTreeMap::new(),
            reachability: BTreeMap::new(),
            trusted_lineage: Some(0),
            known_cluster: Some(KnownCluster::default()),
            shards: ShardCounts::new(),
            keys: None,
            rows: BTreeMap::from([("app".to_owned(), Rows::known(rows))]),
            progress: BTreeMap::new(),
            active_hold: None,
            requested_hold: None,
            given_up: Vec::new(),
            limits: Limits {
                read_move: true,
                max_lag: None,
                hold_on_request: true,
                hold_on_leader_loss: false,
            },
            stopping: false,
            now: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            register: false,
            writes: Writes::Allowed,
            addresses: AddressFacts::default(),
        }
    }

    pub(crate) fn leader(mut self, name: &str) -> Self {
        self.view.leader = Some(versioned(name.to_owned(), LEADER_REVISION));
        if let Some(member) = self.view.members.get_mut(name) {
            member.value.role = Role::Primary;
        }
        self
    }

    pub(crate) fn no_leader(mut self) -> Self {
        self.view.leader = None;
        self
    }

    fn answer(mut self, state: ProbeState, leader_revision: i64) -> Self {
        let address = self
            .view
            .leader_address()
            .cloned()
            .expect("a leader with an address");
        let probe = Probe {
            leader_revision,
            ..heard(&address, state)
        };
        self.answers.insert(address, probe);
        self
    }

    /// The leader's answer to this leader key.
    pub(crate) fn says(self, state: ProbeState) -> Self {
        self.answer(state, LEADER_REVISION)
    }

    /// Its answer to an earlier one.
    pub(crate) fn said_earlier(self, state: ProbeState) -> Self {
        self.answer(state, LEADER_REVISION - 10)
    }

    pub(crate) fn freshness(mut self, freshness: Freshness) -> Self {
        self.view.freshness = freshness;
        self
    }

    pub(crate) fn lineage(mut self, now: u64, trusted: Option<u64>) -> Self {
        self.view.lineage = now;
        self.trusted_lineage = trusted;
        self
    }

    pub(crate) fn at_row(mut self, host: &str, state: ProbeState) -> Self {
        let probe = Probe {
            leader_revision: LEADER_REVISION - 10,
            ..heard(&addr(host), state)
        };
        self.answers.insert(addr(host), probe);
        self
    }

    pub(crate) fn rows(mut self, database: &str, rows: Rows) -> Self {
        self.rows.insert(database.to_owned(), rows);
        self
    }

    pub(crate) fn group(mut self, group: i32) -> Self {
        self.group = group;
        self
    }

    pub(crate) fn registering(mut self) -> Self {
        self.register = true;
        self
    }

    pub(crate) fn writes(mut self, writes: Writes) -> Self {
        self.writes = writes;
        self
    }

    pub(crate) fn paused(mut self) -> Self {
        let config = ClusterConfig {
            paused: true,
            ..ClusterConfig::default()
        };
        self.view.config = Some(versioned(config, 30));
        self
    }

    /// What the coordinator says of an address, in every database.
    #[expect(clippy::needless_pass_by_value, reason = "it reads well")]
    pub(crate) fn reach(mut self, host: &str, reach: Reach) -> Self {
        for database in self.rows.keys() {
            let known = self.addresses.reach.entry(database.clone()).or_default();
            known.insert(addr(host), reach.clone());
        }
        self
    }

    /// The coordinator is refused at an address.
    pub(crate) fn unreached(self, host: &str) -> Self {
        self.reach(host, Reach::No(refused()))
    }

    /// What another group lets this one know: its members, and its leader if that takes writes.
    pub(crate) fn neighbour(mut self, group: i32, members: &[&str], leader: Option<&str>) -> Self {
        let neighbour = Neighbour {
            scope: format!("wk{group}"),
            members: Some(members.iter().map(|host| addr(host)).collect()),
            leader: leader.map(|host| NeighbourLeader {
                address: addr(host),
                revision: LEADER_REVISION,
            }),
            held: false,
            own: self.rows.keys().cloned().collect(),
            proven: self.rows.keys().cloned().collect(),
        };
        Arc::make_mut(&mut self.addresses.neighbours).insert(group, neighbour);
        self
    }

    /// The rows were found to be this group's before.
    pub(crate) fn own_rows(mut self) -> Self {
        self.addresses.own = self.rows.keys().cloned().collect();
        self
    }

    /// The row has a name that follows by itself.
    pub(crate) fn fixed(mut self) -> Self {
        self.addresses.fixed = true;
        self
    }

    pub(crate) fn with<T>(&self, f: impl FnOnce(&Situation<'_>) -> T) -> T {
        f(&Situation {
            group: self.group,
            view: &self.view,
            answers: &self.answers,
            reachability: &self.reachability,
            trusted_lineage: self.trusted_lineage,
            known_cluster: self.known_cluster,
            shards: &self.shards,
            keys: self.keys.unwrap_or(Some(KeyRevisions::of(&self.view))),
            rows: &self.rows,
            progress: &self.progress,
            active_hold: self.active_hold.as_ref(),
            requested_hold: self.requested_hold.as_ref(),
            given_up: &self.given_up,
            addresses: &self.addresses,
            register: self.register,
            writes: self.writes,
            limits: self.limits,
            stopping: self.stopping,
            now: self.now,
        })
    }

    /// Decides, and lets the checker look at it: every decision in every test goes through here.
    pub(crate) fn decide(self) -> Decision {
        self.decision()
    }

    /// As [`Scenario::decide`], and keeps the scenario.
    pub(crate) fn decision(&self) -> Decision {
        self.with(|situation| {
            let decision = decide(situation);
            check(situation, &decision).expect("the checker stopped a decision of the table");
            decision
        })
    }
}
