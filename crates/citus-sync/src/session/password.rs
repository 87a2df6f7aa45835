//! The password of a formation's role, or where to find it. It may change while sessions are open: it
//! is asked for at each login.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use citus_core::config::{Password, passfile};
use dcs_watch::HostPort;

use super::error::SqlError;
use crate::files::read_passfile;

/// A password that can be replaced. Clones share it.
#[derive(Clone, Debug)]
pub struct SharedPassword(Arc<RwLock<Password>>);

impl SharedPassword {
    /// The first one.
    pub fn new(password: Password) -> Self {
        Self(Arc::new(RwLock::new(password)))
    }

    /// From now on logins use this one. Open sessions stay.
    pub fn replace(&self, password: Password) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = password;
    }

    /// For a login to one database of one server.
    pub(super) fn for_login(
        &self,
        address: &HostPort,
        database: &str,
        user: &str,
    ) -> Result<Option<String>, SqlError> {
        let password = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &*password {
            Password::None => Ok(None),
            Password::Literal(secret) => Ok(Some(secret.expose().to_owned())),
            Password::Passfile(path) => look_up(path, address, database, user),
        }
    }
}

fn look_up(
    path: &Path,
    address: &HostPort,
    database: &str,
    user: &str,
) -> Result<Option<String>, SqlError> {
    // Read at every connect: a rotated password is picked up without a restart.
    let text = read_passfile(path)
        .map_err(|e| SqlError::Password(format!("cannot read passfile {}: {e}", path.display())))?;
    Ok(passfile::look_up(
        &text,
        &address.host,
        address.port,
        database,
        user,
    ))
}
