//! What the HTTP handlers share.

use axum::extract::FromRef;
use tokio::sync::watch;

use crate::state::StateStore;
use citus_core::config::Secret;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct HandlerState {
    pub(super) store: StateStore,
    /// What a client must show to have anything changed. It may change.
    pub(super) token: watch::Receiver<Option<Secret>>,
}

impl FromRef<HandlerState> for StateStore {
    fn from_ref(state: &HandlerState) -> Self {
        state.store.clone()
    }
}
