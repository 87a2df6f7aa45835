//! One formation as it is configured: its coordinator, its workers, its policy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dcs_watch::key::ScopeId;
use dcs_watch::view::ScopeView;

use super::addresses::AddressRules;
use super::secret::Secret;
use super::workers::{Reason, Unresolved, Workers};
use crate::policy::Policy;

/// One Citus cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formation {
    /// Unique; the coordinator's scope unless named.
    pub name: String,
    /// Group 0.
    pub coordinator: Coordinator,
    /// The groups from 1 up.
    pub workers: Workers,
    /// Worker groups whose row has a name or an address that follows the leader by itself: it is
    /// never rewritten.
    pub fixed: BTreeSet<u32>,
    /// What the coordinator calls members that Patroni advertises under other addresses.
    pub addresses: AddressRules,
    /// Whether groups without a row are added with `citus_add_node`.
    pub register: bool,
    /// Deadlines and permissions.
    pub policy: Policy,
}

/// Group 0 and how to log in to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// Its Patroni scope.
    pub scope: ScopeId,
    /// The Citus databases; at least one, none twice.
    pub databases: Vec<String>,
    /// The role to log in as.
    pub user: String,
    /// Where that role's password is.
    pub password: Password,
}

/// Where a role's password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Nowhere: the server trusts us, or will say that it does not.
    None,
    /// Known.
    Literal(Secret),
    /// To be looked up for each server in this pgpass file.
    Passfile(PathBuf),
}

impl Formation {
    /// The scopes that are known by name: the coordinator's and those of listed workers.
    pub fn scopes(&self) -> BTreeSet<ScopeId> {
        let mut scopes = BTreeSet::from([self.coordinator.scope.clone()]);
        if let Workers::Listed(listed) = &self.workers {
            scopes.extend(listed.values().cloned());
        }
        scopes
    }

    /// As [`Workers::resolve`], without the coordinator's own scope: a pattern may match it
    /// without harm, but an address of a worker must not lead to it.
    pub fn resolve<'a>(
        &self,
        views: impl Iterator<Item = &'a ScopeView>,
    ) -> (BTreeMap<u32, ScopeId>, Vec<Unresolved>) {
        let own = &self.coordinator.scope;
        if let Workers::Discovered(_) = self.workers {
            return self
                .workers
                .resolve(views.filter(|view| view.scope != *own));
        }
        let (mut resolved, mut unresolved) = self.workers.resolve(views);
        let strayed: Vec<u32> = resolved
            .iter()
            .filter(|(_, scope)| *scope == own)
            .map(|(group, _)| *group)
            .collect();
        for group in strayed {
            resolved.remove(&group);
            unresolved.push(Unresolved {
                group,
                reason: Reason::Coordinator(own.clone()),
            });
        }
        (resolved, unresolved)
    }
}
