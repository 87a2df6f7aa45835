//! The daemon: one watch on etcd, the formations, HTTP, systemd; and a clean way down.

use std::time::Duration;

use anyhow::Context as _;
use dcs_watch::Namespace;
use dcs_watch::client::{self, Confirm, Settings};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};

use super::notify;
use super::reload::{Load, Reload};
use crate::formation::Formation;
use crate::http;
use crate::metrics::Metrics;
use crate::state::StateStore;
use citus_core::config::Config;

/// How often the main loop turns at least, to say that it does.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long the tasks may take to end. Steps under way have a shorter patience of their own.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// The etcd settings of a configuration.
///
/// # Errors
///
/// The namespace or an endpoint is of no use, in words.
pub fn etcd_settings(config: &Config) -> anyhow::Result<Settings> {
    let mut settings = Settings::new(config.etcd.endpoints.clone());
    settings.namespace = Namespace::new(&config.namespace).context("namespace")?;
    settings.username.clone_from(&config.etcd.username);
    settings.password = config
        .etcd
        .password
        .as_ref()
        .map(|secret| secret.expose().into());
    settings.validate().context("etcd")?;
    Ok(settings)
}

/// What a daemon is told from outside while it runs.
pub struct Control {
    /// Turns true when it is to stop.
    pub shutdown: watch::Receiver<bool>,
    /// A message for each time that the configuration is to be read again.
    pub reload: mpsc::Receiver<()>,
    /// Reads it.
    pub load: Load,
}

/// Runs until it is told to stop, and everything has ended.
///
/// # Errors
///
/// What kept it from starting, or a part that ended on its own.
pub async fn run(config: Config, mut control: Control) -> anyhow::Result<()> {
    for warning in &config.warnings {
        warn!("{}: {warning}", config.source.display());
    }
    let settings = etcd_settings(&config)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (`listen`)", config.listen))?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %config.listen,
        etcd = settings.endpoints.join(","),
        namespace = settings.namespace.as_str(),
        formations = config.formations.len(),
        "starting"
    );

    let (stop, stopping) = watch::channel(false);
    let mut until_stop = stopping.clone();
    let confirm = Confirm::new(settings.clone());
    let etcd_password = settings.password.clone();
    let (views, watching) = client::spawn(settings, async move {
        let _ = until_stop.wait_for(|stop| *stop).await;
    });
    let (token, tokens) = watch::channel(config.token.clone());
    let formations = config.formations.iter().cloned().map(Formation::new);
    let formations: Vec<Formation> = formations.collect();
    let passwords = formations
        .iter()
        .map(|one| (one.name().to_owned(), one.password()));
    let passwords = passwords.collect();
    let parts = formations.iter().map(Formation::store).collect();
    let store = StateStore::new(views.clone(), Metrics::default(), parts);

    let mut reload = Reload {
        running: config,
        load: control.load.clone(),
        token,
        etcd_password,
        passwords,
        store: store.clone(),
    };

    let mut tasks = JoinSet::new();
    for formation in formations {
        let run = formation.run(
            store.clone(),
            views.clone(),
            confirm.clone(),
            stopping.clone(),
        );
        tasks.spawn(async move {
            run.await;
            anyhow::Ok("a formation")
        });
    }
    let serve = http::serve(listener, store.clone(), tokens, stopping.clone());
    tasks.spawn(async move { serve.await.context("HTTP").map(|()| "HTTP") });
    tasks.spawn(async move { watching.await.context("the watch on etcd").map(|()| "etcd") });

    let ended = supervise(&store, &mut tasks, &mut control, &mut reload).await;
    notify::stopping();
    info!("stopping");
    stop.send_replace(true);
    wait_for_all(tasks).await;
    info!("stopped");
    ended
}

/// Waits for the tasks to end, but not for long.
async fn wait_for_all(mut tasks: JoinSet<anyhow::Result<&'static str>>) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(STOP_DEADLINE, all).await.is_err() {
        let seconds = STOP_DEADLINE.as_secs();
        warn!("some tasks did not end within {seconds} s and are cut off");
    }
}

/// Turns until asked to stop, or until a part ends that should not.
async fn supervise(
    store: &StateStore,
    tasks: &mut JoinSet<anyhow::Result<&'static str>>,
    control: &mut Control,
    reload: &mut Reload,
) -> anyhow::Result<()> {
    let watchdog = notify::watchdog_interval();
    let mut heartbeat = interval(watchdog.map_or(HEARTBEAT, |limit| limit.min(HEARTBEAT)));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told_ready = false;
    let mut look_for_ready = interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = heartbeat.tick() => {
                store.beat();
                if watchdog.is_some() {
                    notify::alive();
                }
            }
            _ = look_for_ready.tick(), if !told_ready => {
                if store.is_started() {
                    told_ready = true;
                    let observes = !store.not_ready().is_empty();
                    info!("{}", if observes { "started, and only observes" } else { "ready" });
                    notify::ready();
                }
            }
            Some(ended) = tasks.join_next() => {
                let error = match ended {
                    Ok(Ok(part)) => anyhow::anyhow!("{part} ended on its own"),
                    Ok(Err(error)) => error,
                    Err(error) => anyhow::anyhow!("a part of the daemon failed: {error}"),
                };
                error!("{error:#}; stopping, so that systemd can start it again");
                return Err(error);
            }
            // A sender that is gone could ask for nothing any more.
            Some(()) = control.reload.recv() => reload.reload().await,
            _ = control.shutdown.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}
