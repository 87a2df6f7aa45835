//! Reading the configuration again while the daemon runs. In: the word to do so, and a way to load the
//! file. Out: new secrets in use, and a report of what was taken over, what needs a restart, and why a
//! file is of no use. A file that is of no use changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dcs_watch::client::Password as EtcdPassword;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::session::SharedPassword;
use crate::state::StateStore;
use citus_core::config::{Changes, Config, Secret};
use citus_core::report::ReloadReport;

/// Loads the configuration, or says why it cannot be used.
pub type Load = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// How long the files may take to be read: the main loop waits for them.
const PATIENCE: Duration = Duration::from_secs(5);

/// The parts of a running daemon that take over something new.
pub(super) struct Reload {
    /// What runs: the configuration of the start, with the secrets in use now.
    pub(super) running: Config,
    pub(super) load: Load,
    pub(super) token: watch::Sender<Option<Secret>>,
    pub(super) etcd_password: Option<EtcdPassword>,
    /// By formation.
    pub(super) passwords: BTreeMap<String, SharedPassword>,
    pub(super) store: StateStore,
}

impl Reload {
    /// Reads the file and takes over what can be taken over.
    pub(super) async fn reload(&mut self) {
        let file = self.running.source.display().to_string();
        let load = self.load.clone();
        // Files may be on a disk that does not answer.
        let loaded = match timeout(PATIENCE, spawn_blocking(move || load())).await {
            Ok(loaded) => loaded.unwrap_or_else(|error| Err(error.to_string())),
            Err(_) => Err(format!("it was not read within {} s", PATIENCE.as_secs())),
        };
        let report = match loaded {
            Ok(new) => self.take_over(&file, new),
            Err(why) => {
                error!("reload: {file} cannot be used, so nothing has changed: {why}");
                ReloadReport {
                    refused: Some(why),
                    ..ReloadReport::default()
                }
            }
        };
        self.store.reloaded(report);
    }

    fn take_over(&mut self, file: &str, new: Config) -> ReloadReport {
        for warning in &new.warnings {
            warn!("{file}: {warning}");
        }
        let changes = Changes::between(&self.running, &new);
        if changes.is_empty() {
            info!("reload: {file} says nothing new");
        }
        if !changes.applied.is_empty() {
            let applied = changes.applied.join(", ");
            info!("reload: taken over from {file}: {applied}");
        }
        if !changes.needs_restart.is_empty() {
            let keys = changes.needs_restart.join(", ");
            warn!("reload: {file} changes what only a restart takes over: {keys}");
        }
        self.use_secrets_of(new);
        ReloadReport {
            applied: changes.applied,
            needs_restart: changes.needs_restart,
            ..ReloadReport::default()
        }
    }

    fn use_secrets_of(&mut self, new: Config) {
        self.running.token.clone_from(&new.token);
        self.token.send_replace(new.token);
        if self.running.etcd.username == new.etcd.username
            && let (Some(shared), Some(password)) = (&self.etcd_password, &new.etcd.password)
        {
            shared.set(password.expose());
            self.running.etcd.password = new.etcd.password;
        }
        for formation in new.formations {
            let mut running = self.running.formations.iter_mut();
            let known = running.find(|running| running.name == formation.name);
            if let (Some(known), Some(shared)) = (known, self.passwords.get(&formation.name)) {
                let password = formation.coordinator.password;
                known.coordinator.password = password.clone();
                shared.replace(password);
            }
        }
    }
}
