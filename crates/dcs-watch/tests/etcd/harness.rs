//! The watcher in a thread of its own, and an etcd of its own for each test.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use dcs_watch::client::{Counters, Health, Settings, Views, spawn};
use dcs_watch::{Freshness, ScopeView};
use lab::etcd::Etcd;
use lab::sandbox::Sandbox;
use lab::wait::wait_for;
use tokio::sync::oneshot;

/// Long enough for a loaded machine; no test waits so long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const MEMBER: &str = r#"{"conn_url":"postgres://10.0.0.1:5432/x","state":"running","role":"replica","xlog_location":1}"#;

pub(crate) fn etcd() -> (Sandbox, Etcd) {
    let sandbox = Sandbox::new().unwrap();
    let etcd = Etcd::start(&sandbox).unwrap();
    (sandbox, etcd)
}

/// Impatient, so that the tests are quick; the proportions are those of the defaults.
pub(crate) fn settings(endpoints: &[String]) -> Settings {
    let mut settings = Settings::new(endpoints.to_vec());
    settings.request_timeout = Duration::from_secs(1);
    settings.progress_every = Duration::from_millis(300);
    settings.silence_after = Duration::from_millis(1500);
    settings.retry_max = Duration::from_millis(300);
    settings
}

/// The watcher in a thread of its own (one thread is enough), stopped and waited for at the end.
pub(crate) struct Watch {
    pub(crate) views: Views,
    stop: Option<oneshot::Sender<()>>,
    ended: mpsc::Receiver<bool>,
}

impl Watch {
    pub(crate) fn start(settings: Settings) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let (give, views) = mpsc::channel();
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let (views, task) = spawn(settings, async {
                    let _ = stopped.await;
                });
                give.send(views).unwrap();
                end.send(task.await.is_ok()).unwrap();
            });
        });
        Self {
            views: views.recv().unwrap(),
            stop: Some(stop),
            ended,
        }
    }

    pub(crate) fn of(etcd: &Etcd) -> Self {
        let watch = Self::start(settings(&[etcd.endpoint()]));
        watch.wait_fresh();
        watch
    }

    pub(crate) fn view(&self, scope: &str) -> Arc<ScopeView> {
        self.views.scope(&scope.parse().unwrap()).borrow().clone()
    }

    pub(crate) fn leader(&self, scope: &str) -> Option<String> {
        self.view(scope)
            .leader
            .as_ref()
            .map(|leader| leader.value.clone())
    }

    pub(crate) fn health(&self) -> Health {
        self.views.health().borrow().clone()
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.views.counters()
    }

    pub(crate) fn relists(&self, reason: &str) -> u64 {
        let relists = self.counters().relists();
        relists
            .iter()
            .find(|(label, _)| *label == reason)
            .unwrap()
            .1
    }

    pub(crate) fn wait(&self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        if let Err(error) = wait_for(what, PATIENCE, || Ok(is(self))) {
            panic!(
                "{error}; health {:?}, counters {:?}",
                self.health(),
                self.counters()
            );
        }
    }

    pub(crate) fn wait_fresh(&self) {
        self.wait("a fresh view", |watch| {
            watch.health().freshness == Freshness::Fresh
        });
    }

    pub(crate) fn wait_leader(&self, scope: &str, name: Option<&str>) {
        self.wait(&format!("leader {name:?} of {scope}"), |watch| {
            watch.leader(scope).as_deref() == name
        });
    }

    pub(crate) fn is_stale(&self) -> bool {
        matches!(self.health().freshness, Freshness::Stale { .. })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let ended = self.ended.recv_timeout(Duration::from_secs(5));
        if !std::thread::panicking() {
            assert!(
                ended.expect("the watcher stops at shutdown"),
                "the watcher panicked"
            );
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
