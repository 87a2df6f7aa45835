//! One look at a formation, for commands that look once and end: which scope serves which group, and
//! what the leaders say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcs_watch::{Freshness, HostPort, ScopeId, ScopeView};
use futures_util::StreamExt as _;
use futures_util::stream;

use super::outcome::Failed;
use crate::daemon;
use crate::formation;
use crate::session::{AddressBook, Login, MemberAnswer, SqlError, inspect};
use citus_core::config::{Config, Formation, Unresolved};
use citus_core::plan::{COORDINATOR_GROUP, Writes};

/// Members asked at once. Each hung one costs its own deadline only.
pub(super) const AT_ONCE: usize = 32;

/// All scopes, as one list gave them.
pub(super) type Views = BTreeMap<ScopeId, ScopeView>;

/// What each group's leader answered.
pub(super) type Answers = BTreeMap<i32, Result<MemberAnswer, SqlError>>;

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
        Some(async move { (*group, inspect::member(login, &address, databases).await) })
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
