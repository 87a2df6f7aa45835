//! Where members that are registered under other addresses listen for us. Enters: what the views of the
//! scopes say. Leaves: the address to connect to.
//!
//! Everywhere else a member is known by its registered address, the one that its row has.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use citus_core::config::AddressRules;
use citus_core::topology::{RegisteredView, registered};
use dcs_watch::{HostPort, ScopeView};

/// Registered and advertised addresses of one formation. Cheap to clone: clones share it.
#[derive(Clone, Debug, Default)]
pub struct AddressBook {
    rules: Arc<AddressRules>,
    /// By registered address. What was learnt stays: a session to a former member may be wanted.
    advertised: Arc<RwLock<BTreeMap<HostPort, HostPort>>>,
}

impl AddressBook {
    /// Nothing is learnt yet.
    pub fn new(rules: &AddressRules) -> Self {
        Self {
            rules: Arc::new(rules.clone()),
            advertised: Arc::default(),
        }
    }

    /// The view with registered addresses; where those lead is learnt.
    pub fn register(&self, view: &Arc<ScopeView>) -> Arc<ScopeView> {
        if self.rules.is_empty() {
            return view.clone();
        }
        let RegisteredView { view, advertised } = registered(view, &self.rules);
        let mut known = self
            .advertised
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.extend(advertised);
        view
    }

    /// Where to connect to.
    pub(super) fn advertised(&self, address: &HostPort) -> HostPort {
        if self.rules.is_empty() {
            return address.clone();
        }
        let known = self
            .advertised
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        known.get(address).unwrap_or(address).clone()
    }
}
