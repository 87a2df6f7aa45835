//! `citus-sync run`: the daemon, and the signals that end it.

use std::io;
use std::sync::Arc;
use std::thread;

use futures_util::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

use super::outcome::{Done, Failed, Outcome};
use super::runtime::block_on;
use super::snapshot;
use super::source::Source;
use crate::daemon::{self, Control};

/// Runs until SIGINT or SIGTERM.
pub(super) fn run(source: &Source) -> Outcome {
    let config = source.load()?;
    // An endpoint or a namespace that cannot work is the file's fault, not the world's.
    snapshot::etcd_settings(&config)?;
    let (stop, shutdown) = watch::channel(false);
    let (hangup, reload) = mpsc::channel(1);
    watch_signals(stop, hangup)
        .map_err(|error| Failed::Otherwise(format!("cannot listen for signals: {error}")))?;
    let again = source.clone();
    let load = move || again.load_again().map_err(|failed| failed.to_string());
    let control = Control {
        shutdown,
        reload,
        load: Arc::new(load),
    };
    block_on(daemon::run(config, control))?
        .map(|()| Done::Yes)
        .map_err(|error| Failed::Otherwise(format!("{error:#}")))
}

/// Turns `stop` true at the first signal and ends the process at the second. On a thread and a
/// runtime of its own: the second signal is for a daemon that does not stop, which may well be
/// one whose runtime is stuck.
fn watch_signals(stop: watch::Sender<bool>, reload: mpsc::Sender<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (listening, started) = oneshot::channel();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let Streams {
                    mut int,
                    mut term,
                    hangup,
                    unused,
                } = match streams() {
                    Ok(streams) => {
                        let _ = listening.send(Ok(()));
                        streams
                    }
                    Err(error) => {
                        let _ = listening.send(Err(error));
                        return;
                    }
                };
                tokio::spawn(ignore(unused));
                tokio::spawn(ask_to_reload(hangup, reload));
                let mut next = async || {
                    tokio::select! {
                        _ = int.recv() => ("SIGINT", 130),
                        _ = term.recv() => ("SIGTERM", 143),
                    }
                };
                let (name, _) = next().await;
                info!("{name}: stopping; a second signal ends this process at once");
                stop.send_replace(true);
                let (_, code) = next().await;
                std::process::exit(code);
            });
        })?;
    started
        .blocking_recv()
        .unwrap_or_else(|_| Err(io::Error::other("the signal thread ended")))
}

/// Signals that have no meaning here and would end the process where it stands: somebody means another
/// program, or expects a feature of one. The numbers are those of Linux on every common architecture.
const UNUSED: [(&str, i32); 7] = [
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGALRM", 14),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGIO", 29),
    ("SIGPWR", 30),
];

/// The signals that end the daemon, the one that has it reload, and those that do nothing.
struct Streams {
    int: Signal,
    term: Signal,
    hangup: Signal,
    unused: Vec<(&'static str, Signal)>,
}

/// Listens for them.
fn streams() -> io::Result<Streams> {
    let unused = UNUSED.map(|(name, number)| Ok((name, signal(SignalKind::from_raw(number))?)));
    let unused = unused.into_iter().collect::<io::Result<_>>()?;
    let used = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let [int, term, hangup] = used.map(signal);
    Ok(Streams {
        int: int?,
        term: term?,
        hangup: hangup?,
        unused,
    })
}

/// Passes SIGHUP on. One that comes while another one waits is the same wish.
async fn ask_to_reload(mut hangup: Signal, reload: mpsc::Sender<()>) {
    while hangup.recv().await.is_some() {
        info!("SIGHUP: reading the configuration again");
        let _ = reload.try_send(());
    }
}

/// Says of each signal that does nothing that it did nothing.
async fn ignore(unused: Vec<(&'static str, Signal)>) {
    let each = unused.into_iter().map(|(name, mut stream)| async move {
        while stream.recv().await.is_some() {
            info!("{name} does nothing here; SIGTERM stops this program");
        }
    });
    join_all(each).await;
}
