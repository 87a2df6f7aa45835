//! What the groups of one formation let each other know, and whether what an exchange stands on is
//! still so right before the rows change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use citus_core::plan::{Exchange, Neighbour};
use dcs_watch::{Freshness, ScopeId, ScopeView};
use tokio::sync::watch;

/// What each group said last, by Citus `groupid`.
pub(super) type Neighbours = Arc<BTreeMap<i32, Neighbour>>;

type Views = BTreeMap<i32, watch::Receiver<Arc<ScopeView>>>;

/// What the groups of one formation let each other know. Cheap to clone: clones share it.
#[derive(Clone, Debug)]
pub struct Neighbourhood {
    said: watch::Sender<Neighbours>,
    views: Arc<Mutex<Views>>,
}

impl Default for Neighbourhood {
    fn default() -> Self {
        Self {
            said: watch::Sender::new(Arc::default()),
            views: Arc::default(),
        }
    }
}

impl Neighbourhood {
    /// A group of this scope is to come: until it has said where its members are, a row at an
    /// unknown address may be that group's.
    pub fn expect(&self, group: i32, scope: &ScopeId) {
        self.said.send_if_modified(|said| {
            let is_new = !said.contains_key(&group);
            if is_new {
                let neighbour = Neighbour {
                    scope: scope.to_string(),
                    ..Neighbour::default()
                };
                Arc::make_mut(said).insert(group, neighbour);
            }
            is_new
        });
    }

    /// A group is here, and this is its view.
    pub(super) fn join(&self, group: i32, view: watch::Receiver<Arc<ScopeView>>) {
        self.views().insert(group, view);
    }

    pub(super) fn tell(&self, group: i32, neighbour: Neighbour) {
        self.said.send_modify(|said| {
            Arc::make_mut(said).insert(group, neighbour);
        });
    }

    pub(super) fn listen(&self) -> watch::Receiver<Neighbours> {
        self.said.subscribe()
    }

    /// Whether every group of an exchange still has the leader that it stands on, and holds nothing.
    pub(super) fn still_stand(&self, exchange: &Exchange) -> bool {
        let (views, said) = (self.views(), self.said.borrow());
        exchange.parts.iter().all(|part| {
            let leads = views.get(&part.group).is_some_and(|view| {
                let view = view.borrow();
                let leader = view.leader.as_ref().map(|leader| leader.mod_revision);
                view.freshness == Freshness::Fresh && leader == Some(part.revision)
            });
            leads && said.get(&part.group).is_some_and(|group| !group.held)
        })
    }

    fn views(&self) -> std::sync::MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
