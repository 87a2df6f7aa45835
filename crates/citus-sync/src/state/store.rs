//! The state store: the tasks put in what they know, HTTP and metrics read it, and HTTP finds the
//! handle of a group's reconciler.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use dcs_watch::Freshness;
use dcs_watch::client::Views;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;

use super::group_handle::{self, Command, GroupHandle, LookupError};
use crate::metrics::{DatabaseLabels, Format, Metrics, WatchNumbers};
use crate::session::Database;
use citus_core::plan::{Rows, Writes};
use citus_core::report::{
    DatabaseReport, EtcdReport, FormationReport, GroupReport, ReloadReport, State, Transition,
};

/// A loop that has not turned for this long is stuck: its longest sleep is a few seconds.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Transitions that are kept. A thousand take about a megabyte, and a busy formation has a few a day.
const TRANSITIONS: usize = 1000;

/// What the daemon knows, shared by its tasks. Cheap to clone.
#[derive(Clone)]
pub struct StateStore {
    inner: Arc<Inner>,
}

struct Inner {
    views: Views,
    metrics: Metrics,
    started_at: String,
    formations: Vec<FormationState>,
    heartbeat: Mutex<Instant>,
    transitions: Mutex<VecDeque<Transition>>,
    reload: Mutex<Option<ReloadReport>>,
}

/// What is known of one formation.
pub struct FormationState {
    /// Its name.
    pub name: String,
    /// The coordinator's scope.
    pub coordinator: String,
    /// Whether we may change its rows.
    pub writes: Writes,
    /// Its databases.
    pub databases: Vec<Database>,
    groups: Mutex<Groups>,
}

#[derive(Default)]
struct Groups {
    reports: BTreeMap<i32, GroupReport>,
    handles: BTreeMap<i32, GroupHandle>,
    unresolved: Vec<String>,
    resolved: bool,
}

impl FormationState {
    /// Nothing is known of the groups yet.
    pub fn new(
        name: String,
        coordinator: String,
        writes: Writes,
        databases: Vec<Database>,
    ) -> Self {
        Self {
            name,
            coordinator,
            writes,
            databases,
            groups: Mutex::default(),
        }
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore {
    /// A store in which nothing is known of any group yet.
    pub fn new(views: Views, metrics: Metrics, formations: Vec<FormationState>) -> Self {
        let heartbeat = Mutex::new(Instant::now());
        let inner = Inner {
            views,
            metrics,
            started_at: now_text(),
            formations,
            heartbeat,
            transitions: Mutex::default(),
            reload: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    fn formation(&self, name: &str) -> Option<&FormationState> {
        let mut formations = self.inner.formations.iter();
        formations.find(|formation| formation.name == name)
    }

    /// The latest report of a group of this formation.
    pub fn post(&self, formation: &str, report: GroupReport) {
        if let Some(formation) = self.formation(formation) {
            formation.groups().reports.insert(report.group, report);
        }
    }

    /// Which groups' scopes are not known yet.
    pub fn post_unresolved(&self, formation: &str, unresolved: Vec<String>) {
        if let Some(formation) = self.formation(formation) {
            let mut groups = formation.groups();
            groups.unresolved = unresolved;
            groups.resolved = true;
        }
    }

    /// The commands for a group's reconciler. An earlier reconciler of the group gets no more of
    /// them.
    pub fn listen(&self, formation: &str, group: i32, scope: &str) -> mpsc::Receiver<Command> {
        let (reconciler, commands) = mpsc::channel(group_handle::WAITING);
        let handle = GroupHandle {
            formation: formation.to_owned(),
            group,
            scope: scope.to_owned(),
            reconciler,
        };
        if let Some(formation) = self.formation(formation) {
            formation.groups().handles.insert(group, handle);
        }
        commands
    }

    /// The way to the reconciler of a group, which is named by its number or its scope.
    ///
    /// # Errors
    ///
    /// [`LookupError`]: there is none, or there are several.
    pub fn command(&self, name: &str, formation: Option<&str>) -> Result<GroupHandle, LookupError> {
        let formations = || self.inner.formations.iter();
        if let Some(wanted) = formation
            && !formations().any(|store| store.name == wanted)
        {
            return Err(LookupError::UnknownFormation {
                name: wanted.to_owned(),
                known: formations().map(|store| store.name.clone()).collect(),
            });
        }
        let handles: Vec<GroupHandle> = formations()
            .filter(|store| formation.is_none_or(|wanted| store.name == wanted))
            .flat_map(|store| store.groups().handles.values().cloned().collect::<Vec<_>>())
            .collect();
        let by_number: Vec<&GroupHandle> = handles
            .iter()
            .filter(|handle| handle.group.to_string() == name)
            .collect();
        let found = if by_number.is_empty() {
            handles
                .iter()
                .filter(|handle| handle.scope == name)
                .collect()
        } else {
            by_number
        };
        match found.as_slice() {
            [handle] => Ok((*handle).clone()),
            [] => Err(LookupError::UnknownGroup {
                name: name.to_owned(),
                known: handles
                    .iter()
                    .map(|handle| format!("{} ({})", handle.group, handle.scope))
                    .collect(),
            }),
            several => Err(LookupError::Ambiguous {
                name: name.to_owned(),
                formations: several
                    .iter()
                    .map(|handle| handle.formation.clone())
                    .collect(),
            }),
        }
    }

    /// A transition that is over. The oldest are forgotten.
    pub fn record(&self, transition: Transition) {
        let mut transitions = self.transitions();
        if transitions.len() == TRANSITIONS {
            transitions.pop_front();
        }
        transitions.push_back(transition);
    }

    /// The configuration was read again; counted and dated here.
    pub fn reloaded(&self, report: ReloadReport) {
        let mut last = self.reload();
        let count = last.as_ref().map_or(0, |last| last.count) + 1;
        *last = Some(ReloadReport {
            count,
            at: now_text(),
            ..report
        });
    }

    fn reload(&self) -> std::sync::MutexGuard<'_, Option<ReloadReport>> {
        let reload = &self.inner.reload;
        reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transitions that are over, oldest first.
    pub fn history(&self) -> Vec<Transition> {
        self.transitions().iter().cloned().collect()
    }

    fn transitions(&self) -> std::sync::MutexGuard<'_, VecDeque<Transition>> {
        self.inner
            .transitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The main loop turned.
    pub fn beat(&self) {
        *self
            .inner
            .heartbeat
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether the loops turn.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub fn alive(&self) -> Result<(), String> {
        let age = self
            .inner
            .heartbeat
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        if age < STUCK_AFTER {
            Ok(())
        } else {
            Err(format!(
                "the main loop has not turned for {} s",
                age.as_secs()
            ))
        }
    }

    /// The metrics as they are now.
    pub fn expose(&self, format: Format) -> String {
        let metrics = self.metrics();
        for formation in &self.inner.formations {
            for database in &formation.databases {
                let labels = DatabaseLabels {
                    formation: formation.name.clone(),
                    database: database.name.to_string(),
                };
                let up = matches!(database.rows(), Rows::Known(_));
                let gauge = metrics.database_up.get_or_create(&labels);
                gauge.set(i64::from(up));
            }
        }
        metrics.expose(format, &self.watch_numbers(), self.not_ready().is_empty())
    }

    /// What the watch on etcd has counted.
    pub fn watch_numbers(&self) -> WatchNumbers {
        let counters = self.inner.views.counters();
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        WatchNumbers {
            view_age_seconds: counters.view_age().map(|age| age.as_secs_f64()),
            fresh: self.inner.views.health().borrow().freshness == Freshness::Fresh,
            events: read(&counters.events),
            relists: counters.relists(),
            resumes: read(&counters.resumes),
            reconnects: read(&counters.reconnects),
            malformed_keys: read(&counters.malformed_keys),
            malformed_values: read(&counters.malformed_values),
            requests: vec![
                ("list", read(&counters.list_requests)),
                ("watch", read(&counters.watch_requests)),
                ("progress", read(&counters.progress_requests)),
            ],
        }
    }

    /// Why `/readyz` says no, in words; nothing when it says yes.
    ///
    /// Ready means: the view is fresh, each formation's scopes were looked for, and its rows are
    /// read. A database that stays broken does not keep the others' daemon from being ready;
    /// that there is none at all does.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let freshness = self.inner.views.health().borrow().freshness.clone();
        if freshness != Freshness::Fresh {
            reasons.push(format!("etcd's view is {freshness}"));
        }
        for formation in &self.inner.formations {
            let name = &formation.name;
            if !formation.groups().resolved {
                reasons.push(format!("formation {name}: its scopes are not known yet"));
            }
            let mut unknown = formation
                .databases
                .iter()
                .map(|database| match database.rows() {
                    Rows::Unknown(why) => Err(why),
                    Rows::Known(_) => Ok(()),
                });
            let first = unknown.next().unwrap_or(Ok(()));
            if let Err(why) = first
                && unknown.all(|rows| rows.is_err())
            {
                reasons.push(format!(
                    "formation {name}: no database's rows are known: {why}"
                ));
            }
        }
        reasons
    }

    /// Whether nothing is to be waited for before the daemon counts as started: it is ready, or another
    /// one is the writer, which may be so for long.
    pub fn is_started(&self) -> bool {
        let databases = self.inner.formations.iter();
        let mut databases = databases.flat_map(|formation| &formation.databases);
        databases.any(|database| database.state().other_writer.is_some())
            || self.not_ready().is_empty()
    }

    /// Everything, as `/api/v1/state` shows it.
    pub fn state(&self) -> State {
        let health = self.inner.views.health().borrow().clone();
        let counters = self.inner.views.counters();
        let etcd = EtcdReport {
            fresh: health.freshness == Freshness::Fresh,
            freshness: health.freshness.to_string(),
            endpoint: health.endpoint,
            revision: health.revision,
            view_age_ms: counters
                .view_age()
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            last_error: health.last_error,
        };
        let formations: Vec<_> = self.inner.formations.iter().map(formation_report).collect();
        let not_ready = self.not_ready();
        State {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.inner.started_at.clone(),
            ready: not_ready.is_empty(),
            not_ready,
            etcd,
            formations,
            reload: self.reload().clone(),
        }
    }
}

fn formation_report(store: &FormationState) -> FormationReport {
    let groups = store.groups();
    FormationReport {
        name: store.name.clone(),
        writes: store.writes,
        coordinator: store.coordinator.clone(),
        databases: store.databases.iter().map(database_report).collect(),
        groups: groups.reports.values().cloned().collect(),
        unresolved: groups.unresolved.clone(),
    }
}

fn database_report(database: &Database) -> DatabaseReport {
    let state = database.state();
    let (rows, unsynced, error) = match &state.rows {
        Rows::Unknown(why) => (None, vec![], Some(why.clone())),
        Rows::Known(rows) => {
            let waiting = rows.iter().filter(|row| row.is_unsynced());
            (
                Some(rows.len()),
                waiting.map(|row| row.nodeid).collect(),
                None,
            )
        }
    };
    DatabaseReport {
        name: database.name.to_string(),
        server: state.server.map(|server| server.address),
        citus: state.dialect.map(|dialect| dialect.version.clone()),
        rows,
        unsynced,
        error,
    }
}

/// Now, RFC 3339 in UTC.
pub(super) fn now_text() -> String {
    text_of(SystemTime::now())
}

/// A moment, RFC 3339 in UTC.
pub(super) fn text_of(moment: SystemTime) -> String {
    OffsetDateTime::from(moment)
        .format(&Rfc3339)
        .unwrap_or_default()
}
