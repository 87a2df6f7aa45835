//! One Citus cluster: a task for each database, a reconciler for each group, and the scopes that
//! serve the groups, found as they appear.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dcs_watch::client::{Confirm, Views};
use dcs_watch::{ScopeId, ScopeView};
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::execute::EntryNodes;
use crate::group::{ASKED_AT_ONCE, Context, GroupDriver, Neighbourhood};
use crate::session::{AddressBook, Database, Login, Probes, SharedPassword};
use crate::state::{FormationState, StateStore};
use citus_core::config::{Formation as Settings, Workers};
use citus_core::plan::{COORDINATOR_GROUP, Writes};
use citus_core::policy::Write;

/// How soon scopes are looked for again while some group has none: a scope appears in etcd before
/// its members have written their addresses.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The pause before a task that ended on its own is started again. It ends on its own only by a
/// bug, which must neither stop the other groups nor spin.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// One Citus cluster, ready to run.
pub struct Formation {
    settings: Settings,
    /// Of the probes.
    probe_login: Arc<Login>,
    databases: Vec<Database>,
    entry_nodes: EntryNodes,
    addresses: AddressBook,
    rows_changed: watch::Receiver<()>,
}

/// What a task of the formation is for. It is kept beside the task, which is started again when it
/// ends.
#[derive(Clone, Debug)]
enum Duty {
    Database(usize),
    Group(i32, ScopeId),
}

impl Formation {
    /// Makes the databases' handles; nothing is connected yet.
    pub fn new(settings: Settings) -> Self {
        let coordinator = &settings.coordinator;
        let mut login = Login::new(&coordinator.user, &coordinator.password, &settings.policy);
        let addresses = AddressBook::new(&settings.addresses);
        login.addresses = addresses.clone();
        let probe_login = Arc::new(login.for_probes());
        let entry_nodes = EntryNodes::new(&login);
        let login = Arc::new(login);
        let (changed, rows_changed) = watch::channel(());
        let databases = coordinator
            .databases
            .iter()
            .map(|name| Database::new(name, login.clone(), changed.clone()))
            .collect();
        Self {
            settings,
            probe_login,
            databases,
            entry_nodes,
            addresses,
            rows_changed,
        }
    }

    /// The password of its role, to be replaced when it changes.
    pub fn password(&self) -> SharedPassword {
        self.probe_login.password.clone()
    }

    /// This formation's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// This formation's place on the state store.
    pub fn store(&self) -> FormationState {
        FormationState::new(
            self.settings.name.clone(),
            self.settings.coordinator.scope.to_string(),
            self.writes(),
            self.databases.clone(),
        )
    }

    /// A formation whose scopes are laid out as `/service/<scope>/<group>/` is one of Patroni's
    /// own Citus integration: that is what the layout is for (rule 11).
    fn writes(&self) -> Writes {
        let grouped = self
            .settings
            .scopes()
            .iter()
            .any(|scope| scope.group.is_some());
        match self.settings.policy.write {
            Write::Never => Writes::ObserveOnly,
            Write::Auto if grouped => Writes::PatroniManages,
            Write::Auto | Write::Always => Writes::Allowed,
        }
    }

    /// All groups that are configured by name are to come, before any of them decides.
    fn expect_groups(&self, neighbourhood: &Neighbourhood) {
        neighbourhood.expect(COORDINATOR_GROUP, &self.settings.coordinator.scope);
        if let Workers::Listed(listed) = &self.settings.workers {
            for (group, scope) in listed {
                if let Ok(group) = i32::try_from(*group) {
                    neighbourhood.expect(group, scope);
                }
            }
        }
    }

    /// Runs until `shutdown` turns true, and every task of it has ended.
    pub async fn run(
        self,
        store: StateStore,
        views: Views,
        confirm: Confirm,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let context = Arc::new(Context {
            store,
            name: self.settings.name.clone(),
            policy: self.settings.policy.clone(),
            register: self.settings.register,
            writes: self.writes(),
            databases: self.databases.clone(),
            confirm,
            entry_nodes: self.entry_nodes.clone(),
            rows_changed: self.rows_changed.clone(),
            addresses: self.addresses.clone(),
            neighbourhood: Neighbourhood::default(),
            asking: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
            fixed: (self.settings.fixed.iter())
                .filter_map(|group| i32::try_from(*group).ok())
                .collect(),
            held: Mutex::default(),
        });
        self.expect_groups(&context.neighbourhood);
        match context.writes {
            Writes::Allowed => {}
            Writes::PatroniManages => warn!(
                formation = context.name,
                "Patroni's own Citus integration manages this formation: it is only observed \
                 (`policy.write: always` would override that)"
            ),
            Writes::ObserveOnly => {
                info!(
                    formation = context.name,
                    "`policy.write` is `never`: only observed"
                );
            }
        }

        let mut crew = Crew {
            formation: &self,
            context,
            views,
            shutdown: shutdown.clone(),
            tasks: JoinSet::new(),
            duties: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        for number in 0..self.databases.len() {
            crew.start(Duty::Database(number), Duration::ZERO);
        }
        crew.join(COORDINATOR_GROUP, self.settings.coordinator.scope.clone());
        let mut scopes = crew.views.scopes();
        loop {
            scopes.mark_unchanged();
            let complete = crew.look_for_scopes();
            let wait = if complete {
                self.settings.policy.reconcile_every
            } else {
                LOOK_AGAIN
            };
            tokio::select! {
                // The watcher is gone only when the daemon is stopping.
                news = scopes.changed() => if news.is_err() { break },
                () = sleep(wait) => {}
                Some(ended) = crew.tasks.join_next_with_id() => crew.restart(ended),
                _ = shutdown.wait_for(|stop| *stop) => break,
            }
        }
        crew.dismiss().await;
    }
}

/// The tasks of one formation.
struct Crew<'a> {
    formation: &'a Formation,
    context: Arc<Context>,
    views: Views,
    shutdown: watch::Receiver<bool>,
    tasks: JoinSet<()>,
    duties: BTreeMap<Id, Duty>,
    groups: BTreeMap<i32, ScopeId>,
}

impl Crew<'_> {
    /// Starts reconcilers for groups whose scopes were found; whether every group has one.
    fn look_for_scopes(&mut self) -> bool {
        let views: Vec<Arc<ScopeView>> = {
            let scopes = self.views.scopes().borrow().clone();
            scopes
                .iter()
                .map(|scope| self.views.scope(scope).borrow().clone())
                .collect()
        };
        let (resolved, unresolved) = self
            .formation
            .settings
            .resolve(views.iter().map(AsRef::as_ref));
        let mut problems: Vec<String> = unresolved.iter().map(ToString::to_string).collect();
        for (group, scope) in resolved {
            // Citus stores groups as int4, and the configuration was checked against that.
            let Ok(group) = i32::try_from(group) else {
                continue;
            };
            match self.groups.get(&group) {
                None => self.join(group, scope),
                Some(present) if *present == scope => {}
                Some(present) => problems.push(format!(
                    "group {group}: scope {scope} could be meant as well as {present}, which is \
                     kept until this program is started again"
                )),
            }
        }
        let complete = problems.is_empty();
        self.context
            .store
            .post_unresolved(&self.context.name, problems);
        complete
    }

    fn join(&mut self, group: i32, scope: ScopeId) {
        info!(formation = self.context.name, group, %scope, "following this scope");
        self.groups.insert(group, scope.clone());
        self.context.neighbourhood.expect(group, &scope);
        self.start(Duty::Group(group, scope), Duration::ZERO);
    }

    fn start(&mut self, duty: Duty, after: Duration) {
        let settings = &self.formation.settings;
        let handle = match &duty {
            Duty::Database(number) => {
                let database = self.formation.databases[*number].clone();
                let coordinator = self.views.scope(&settings.coordinator.scope);
                let (policy, mut shutdown) = (settings.policy.clone(), self.shutdown.clone());
                let writes = self.context.writes == Writes::Allowed;
                self.tasks.spawn(async move {
                    sleep(after).await;
                    let run = async {
                        if writes {
                            database.run_as_the_writer(coordinator, policy).await;
                        } else {
                            database.run(coordinator, policy).await;
                        }
                    };
                    tokio::select! {
                        () = run => {}
                        _ = shutdown.wait_for(|stop| *stop) => {}
                    }
                })
            }
            Duty::Group(group, scope) => {
                let names: Arc<[String]> = settings.coordinator.databases.clone().into();
                let login = self.formation.probe_login.clone();
                let probes = Probes::new(login, names, settings.policy.probe_interval);
                let view = self.views.scope(scope);
                let driver = GroupDriver::new(self.context.clone(), *group, scope, view, probes);
                let shutdown = self.shutdown.clone();
                self.tasks.spawn(async move {
                    sleep(after).await;
                    driver.run(shutdown).await;
                })
            }
        };
        self.duties.insert(handle.id(), duty);
    }

    fn restart(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, why) = match ended {
            Ok((id, ())) => (id, "it ended".to_owned()),
            Err(error) => (error.id(), error.to_string()),
        };
        if *self.shutdown.borrow() {
            return;
        }
        let Some(duty) = self.duties.remove(&id) else {
            return;
        };
        self.context.store.metrics().restarts.inc();
        error!(
            formation = self.context.name,
            "the task of {duty:?} is started again, please report this as a bug: {why}"
        );
        self.start(duty, RESTART_AFTER);
    }

    /// Waits for the tasks to end, which they do when `shutdown` turns true.
    async fn dismiss(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
