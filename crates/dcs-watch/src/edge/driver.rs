//! Drives the machine: carries out what it asks for, tells it what came of it, and keeps the
//! pauses and the choice of endpoint.
//!
//! One endpoint at a time, the next one after each failure: so that logs can name the one in use,
//! and one dead member costs one pause, not a share of the requests.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::counters::{Counters, bump};
use super::etcd::{Connection, EtcdError, Page, Stream};
use super::retry::Retry;
use super::settings::Settings;
use crate::event::Event;
use crate::machine::{self, Input, Known, Machine, News, Output, Timing};

/// What the one who is told replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Go on.
    Go,
    /// An event before this one is missing.
    Gap,
    /// It is enough.
    Stop,
}

/// Who is told of all that happens, in order.
pub(super) trait Sink {
    /// An event.
    fn event(&mut self, event: Event) -> Reply;
    /// How the stream fares.
    fn news(&mut self, news: &News, endpoint: &str, known: &Known) -> Reply;
}

/// What an errand brought home.
enum Errand {
    Connected(Connection),
    Page(Page),
    Opened(Box<Stream>, Input),
}

type Running = Pin<Box<dyn Future<Output = Result<Errand, EtcdError>> + Send>>;

/// Runs until `shutdown` is ready or the sink has had enough.
pub(super) async fn drive(
    settings: &Arc<Settings>,
    counters: &Counters,
    started: Instant,
    sink: &mut impl Sink,
    shutdown: impl Future<Output = ()>,
) {
    let timing = Timing {
        progress_every: settings.progress_every,
        silence_after: settings.silence_after,
        relist_every: settings.relist_every,
    };
    let mut retry = Retry::new(settings.retry_first, settings.retry_max);
    // Often enough to keep each limit to within a quarter.
    let mut ticks =
        tokio::time::interval((settings.progress_every / 2).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut machine = Machine::default();
    let mut inputs = VecDeque::from([Input::Start]);
    let mut turn = 0;
    let mut connection: Option<Connection> = None;
    let mut stream: Option<Box<Stream>> = None;
    let mut errand: Option<Running> = None;
    loop {
        let endpoint = settings.endpoints[turn % settings.endpoints.len()].as_str();
        let input = match inputs.pop_front() {
            Some(input) => input,
            None => tokio::select! {
                biased;
                () = &mut shutdown => return,
                home = run(&mut errand) => match home {
                    Ok(Errand::Connected(new)) => {
                        connection = Some(new);
                        Input::Connected
                    }
                    Ok(Errand::Page(Page { header, records, more })) => {
                        Input::Page { header, records, more }
                    }
                    Ok(Errand::Opened(new, first)) => {
                        stream = Some(new);
                        first
                    }
                    Err(error) => failed(endpoint, &error),
                },
                _ = ticks.tick() => Input::Tick,
                next = next(&mut stream) => match next {
                    Ok(Input::Failed { error }) => {
                        Input::Failed { error: format!("etcd {endpoint}: {error}") }
                    }
                    Ok(input) => input,
                    Err(error) => failed(endpoint, &error),
                },
            },
        };
        let outputs;
        (machine, outputs) = machine::step(machine, input, started.elapsed(), &timing);
        if let Some(heard) = machine.known.heard {
            counters.heard(heard);
        }
        for output in outputs {
            let endpoint = settings.endpoints[turn % settings.endpoints.len()].as_str();
            let mut wait = |pause: bool| if pause { retry.pause() } else { Duration::ZERO };
            let reply = match output {
                Output::Connect { rotate, pause } => {
                    stream = None;
                    connection = None;
                    if rotate {
                        bump(&counters.reconnects);
                        turn = (turn + 1) % settings.endpoints.len();
                    }
                    errand = Some(connect(settings, turn, wait(pause)));
                    Reply::Go
                }
                Output::List { pause } => {
                    stream = None;
                    bump(&counters.list_requests);
                    errand = page(settings, connection.as_ref(), None, wait(pause));
                    Reply::Go
                }
                Output::NextPage { revision, after } => {
                    bump(&counters.list_requests);
                    let on = Some((revision, after));
                    errand = page(settings, connection.as_ref(), on, Duration::ZERO);
                    Reply::Go
                }
                Output::Open { from } => {
                    bump(&counters.watch_requests);
                    errand = open(settings, connection.as_ref(), from);
                    Reply::Go
                }
                Output::AskProgress => {
                    if let Some(stream) = &mut stream {
                        bump(&counters.progress_requests);
                        stream.ask_progress().await;
                    }
                    Reply::Go
                }
                Output::Event(event) => {
                    if matches!(event, Event::Put(_) | Event::Delete(_)) {
                        bump(&counters.events);
                    }
                    sink.event(event)
                }
                Output::News(news) => {
                    match &news {
                        News::Listing { reason } => counters.relist(*reason),
                        News::Stale { .. } => bump(&counters.stale),
                        News::Fresh => retry.succeeded(),
                        News::Resumed { .. } => {
                            bump(&counters.resumes);
                            retry.succeeded();
                        }
                        _ => {}
                    }
                    sink.news(&news, endpoint, &machine.known)
                }
            };
            match reply {
                Reply::Go => {}
                Reply::Gap => inputs.push_back(Input::Gap),
                Reply::Stop => return,
            }
        }
    }
}

fn failed(endpoint: &str, error: &EtcdError) -> Input {
    Input::Failed {
        error: format!("etcd {endpoint}: {error}"),
    }
}

/// Waits for the errand, for ever if there is none.
async fn run(errand: &mut Option<Running>) -> Result<Errand, EtcdError> {
    let Some(running) = errand else {
        return std::future::pending().await;
    };
    let home = running.await;
    *errand = None;
    home
}

/// Waits for the stream, for ever if there is none.
async fn next(stream: &mut Option<Box<Stream>>) -> Result<Input, EtcdError> {
    let Some(open) = stream else {
        return std::future::pending().await;
    };
    let next = open.next().await;
    // A stream that failed, ended or was canceled says no more.
    if !matches!(
        next,
        Ok(Input::Opened { .. } | Input::Events { .. } | Input::Progress { .. })
    ) {
        *stream = None;
    }
    next
}

fn connect(settings: &Arc<Settings>, turn: usize, wait: Duration) -> Running {
    let settings = Arc::clone(settings);
    Box::pin(async move {
        tokio::time::sleep(wait).await;
        Connection::open(&settings, &settings.endpoints[turn])
            .await
            .map(Errand::Connected)
    })
}

fn page(
    settings: &Arc<Settings>,
    connection: Option<&Connection>,
    on: Option<(i64, Vec<u8>)>,
    wait: Duration,
) -> Option<Running> {
    let (settings, mut connection) = (Arc::clone(settings), connection?.clone());
    Some(Box::pin(async move {
        tokio::time::sleep(wait).await;
        connection.page(&settings, on).await.map(Errand::Page)
    }))
}

fn open(settings: &Arc<Settings>, connection: Option<&Connection>, from: i64) -> Option<Running> {
    let (settings, mut connection) = (Arc::clone(settings), connection?.clone());
    Some(Box::pin(async move {
        let (stream, first) = connection.watch(&settings, from).await?;
        Ok(Errand::Opened(Box::new(stream), first))
    }))
}
