//! One look at a formation, for commands that look once and end: which scope serves which group,
//! what the leaders say, and what would be decided on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcs_watch::{Freshness, HostPort, ScopeId, ScopeView};
use futures_util::StreamExt as _;
use futures_util::stream;

use super::addresses::Addresses;
use super::outcome::Failed;
use time::OffsetDateTime;

use crate::daemon;
use crate::formation;
use crate::session::{AddressBook, Login, SqlError, inspect};
use citus_core::config::{Config, Formation, Unresolved};
use citus_core::plan::{
    self, COORDINATOR_GROUP, Decision, Position, Probe, ProbeState, Rows, Situation, Writes,
};

/// Members asked at once. Each hung one costs its own deadline only.
pub(super) const AT_ONCE: usize = 32;

/// All scopes, as one list gave them.
pub(super) type Views = BTreeMap<ScopeId, ScopeView>;

/// What a leader answered: whether it is in recovery.
pub(super) type Answers = BTreeMap<i32, Result<bool, SqlError>>;

/// How etcd is reached; what cannot work is the file's fault.
pub(super) fn etcd_settings(config: &Config) -> Result<dcs_watch::client::Settings, Failed> {
    daemon::etcd_settings(config)
        .map_err(|error| Failed::Configuration(format!("{}: {error:#}", config.source.display())))
}

/// The groups of a formation, each with its scope's view.
pub(super) struct Groups {
    /// By Citus `groupid`; a scope that etcd does not have comes with an empty view.
    pub(super) views: BTreeMap<i32, ScopeView>,
    /// Registered addresses, where those are not the advertised ones.
    addresses: AddressBook,
    /// Groups whose scope is not known, and why.
    pub(super) unresolved: Vec<Unresolved>,
}

impl Groups {
    pub(super) fn of(formation: &Formation, views: &Views) -> Self {
        let (mut scopes, unresolved) = formation.resolve(views.values());
        scopes.insert(0, formation.coordinator.scope.clone());
        let addresses = AddressBook::new(&formation.addresses);
        let view = |scope: &ScopeId| {
            views.get(scope).cloned().unwrap_or_else(|| {
                // It was listed and was not there: that is news, not ignorance.
                let mut view = ScopeView::empty(scope.clone());
                view.freshness = Freshness::Fresh;
                view
            })
        };
        // Citus stores groups as int4, and the configuration was checked against that.
        let views = scopes
            .iter()
            .filter_map(|(group, scope)| {
                let view = addresses.register(&Arc::new(view(scope)));
                Some((i32::try_from(*group).ok()?, Arc::unwrap_or_clone(view)))
            })
            .collect();
        Self {
            views,
            addresses,
            unresolved,
        }
    }

    /// Where the coordinator's leader is.
    pub(super) fn coordinator(&self) -> Option<&HostPort> {
        self.views.get(&COORDINATOR_GROUP)?.leader_address()
    }

    /// All groups that the configuration names, with or without a scope.
    pub(super) fn configured(&self) -> BTreeSet<i32> {
        let unresolved = self
            .unresolved
            .iter()
            .filter_map(|gap| i32::try_from(gap.group).ok());
        self.views.keys().copied().chain(unresolved).collect()
    }
}

/// Asks every leader once, all at the same time.
pub(super) async fn ask_leaders(login: &Login, databases: &[String], groups: &Groups) -> Answers {
    let questions = groups.views.iter().filter_map(|(group, view)| {
        let address = view.leader_address()?.clone();
        Some(async move {
            (
                *group,
                inspect::in_recovery(login, &address, databases).await,
            )
        })
    });
    stream::iter(questions)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// How `formation` logs in, and where it finds the members of `groups`.
pub(super) fn login(formation: &Formation, groups: &Groups) -> Login {
    let coordinator = &formation.coordinator;
    Login {
        addresses: groups.addresses.clone(),
        ..Login::new(&coordinator.user, &coordinator.password, &formation.policy)
    }
}

/// Whether `run` would write to this formation.
pub(super) fn writes(formation: &Formation) -> Writes {
    formation::Formation::new(formation.clone()).store().writes
}

/// What `run` would decide for one group.
pub(super) fn decide(
    formation: &Formation,
    writes: Writes,
    group: i32,
    view: &ScopeView,
    answer: Option<&Result<bool, SqlError>>,
    rows: &BTreeMap<String, Rows>,
    addresses: &Addresses,
) -> Decision {
    let mut answers = BTreeMap::new();
    if let (Some(address), Some(leader), Some(answer)) =
        (view.leader_address(), &view.leader, answer)
    {
        let probe = Probe {
            address: address.clone(),
            leader_revision: leader.mod_revision,
            round: 0,
            state: match answer {
                Ok(false) => ProbeState::Writable,
                Ok(true) => ProbeState::InRecovery,
                Err(error) => ProbeState::Unreachable(error.to_string()),
            },
            position: Position::default(),
            started: addresses.started.get(&group).copied(),
        };
        answers.insert(address.clone(), probe);
    }
    let facts = addresses.facts(formation, group);
    let situation = Situation {
        group,
        view,
        answers: &answers,
        reachability: &BTreeMap::new(),
        // One look has no earlier history of etcd to mistrust this one against.
        trusted_lineage: None,
        rows,
        progress: &BTreeMap::new(),
        active_hold: None,
        requested_hold: None,
        given_up: &[],
        addresses: &facts,
        register: formation.register,
        writes,
        limits: formation.policy.limits(),
        stopping: false,
        now: OffsetDateTime::now_utc(),
    };
    let decision = plan::decide(&situation);
    if let Err(violation) = citus_core::invariants::check(&situation, &decision) {
        tracing::error!(
            group,
            "please report this as a bug, `run` would refuse it: {violation}"
        );
    }
    decision
}
