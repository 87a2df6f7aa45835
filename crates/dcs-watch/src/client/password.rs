//! The password of the etcd user, which may change while a watch runs.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A password. Clones share it: a new one is used from the next connection on. `Debug` shows `…`.
#[derive(Clone)]
pub struct Password(Arc<RwLock<String>>);

impl Password {
    /// Takes the place of the password that was.
    pub fn set(&self, password: &str) {
        password.clone_into(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn get(&self) -> String {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl From<&str> for Password {
    fn from(password: &str) -> Self {
        Self(Arc::new(RwLock::new(password.to_owned())))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
