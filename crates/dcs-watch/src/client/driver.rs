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
pub(crate) enum Reply {
    /// Go on.
    Go,
    /// An event before this one is missing.
    Gap,
    /// It is enough.
    Stop,
}

/// Who is told of all that happens, in order.
pub(crate) trait Sink {
    /// An event.
    fn event(&mut self, event: Event) -> Reply;
    /// How the stream fares.
    fn news(&mut self, news: &News, endpoint: &str, known: &Known) -> Reply;
}

/// What an errand brought home.
enum Errand {
    Connected(Box<Connection>),
    Page(Page),
    Opened(Box<Stream>, Input),
}

type Running = Pin<Box<dyn Future<Output = Result<Errand, EtcdError>> + Send>>;

/// Runs until `shutdown` is ready or the sink has had enough.
pub(crate) async fn drive(
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
    // Often enough to keep each limit to within a quarter.
    let mut ticks =
        tokio::time::interval((settings.progress_every / 2).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut machine = Machine::default();
    let mut inputs = VecDeque::from([Input::Start]);
    let mut driver = Driver {
        settings,
        counters,
        sink,
        retry: Retry::new(settings.retry_first, settings.retry_max),
        turn: 0,
        connection: None,
        stream: None,
        errand: None,
    };
    loop {
        let input = if let Some(input) = inputs.pop_front() {
            input
        } else {
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                home = run(&mut driver.errand) => driver.home(home),
                _ = ticks.tick() => Input::Tick,
                next = next(&mut driver.stream) => driver.heard(next),
            }
        };
        let outputs;
        (machine, outputs) = machine::step(machine, input, started.elapsed(), &timing);
        if let Some(heard) = machine.known.heard {
            counters.heard(heard);
        }
        for output in outputs {
            match driver.carry_out(output, &machine.known).await {
                Reply::Go => {}
                Reply::Gap => inputs.push_back(Input::Gap),
                Reply::Stop => return,
            }
        }
    }
}

struct Driver<'a, S> {
    settings: &'a Arc<Settings>,
    counters: &'a Counters,
    sink: &'a mut S,
    retry: Retry,
    /// The endpoint in use, by its place in the settings.
    turn: usize,
    connection: Option<Box<Connection>>,
    stream: Option<Box<Stream>>,
    errand: Option<Running>,
}

impl<S: Sink> Driver<'_, S> {
    fn endpoint(&self) -> &str {
        &self.settings.endpoints[self.turn]
    }

    fn home(&mut self, home: Result<Errand, EtcdError>) -> Input {
        match home {
            Ok(Errand::Connected(connection)) => {
                self.connection = Some(connection);
                Input::Connected
            }
            Ok(Errand::Page(Page {
                header,
                records,
                more,
            })) => Input::Page {
                header,
                records,
                more,
            },
            Ok(Errand::Opened(stream, first)) => {
                self.stream = Some(stream);
                first
            }
            Err(error) => self.failed(&error.what),
        }
    }

    fn heard(&self, next: Result<Input, EtcdError>) -> Input {
        match next {
            Ok(Input::Failed { error }) | Err(EtcdError { what: error, .. }) => self.failed(&error),
            Ok(input) => input,
        }
    }

    fn failed(&self, error: &str) -> Input {
        Input::Failed {
            error: format!("etcd {}: {error}", self.endpoint()),
        }
    }

    async fn carry_out(&mut self, output: Output, known: &Known) -> Reply {
        match output {
            Output::Connect { rotate, pause } => {
                self.stream = None;
                self.connection = None;
                if rotate {
                    bump(&self.counters.reconnects);
                    self.turn = (self.turn + 1) % self.settings.endpoints.len();
                }
                let wait = self.wait(pause);
                self.errand = Some(self.connect(wait));
            }
            Output::List { pause } => {
                self.stream = None;
                let wait = self.wait(pause);
                self.errand = self.page(None, wait);
            }
            Output::NextPage { revision, after } => {
                self.errand = self.page(Some((revision, after)), Duration::ZERO);
            }
            Output::Open { from } => self.errand = self.open(from),
            Output::AskProgress => {
                if let Some(stream) = &mut self.stream {
                    bump(&self.counters.progress_requests);
                    stream.ask_progress().await;
                }
            }
            Output::Event(event) => {
                if matches!(event, Event::Put(_) | Event::Delete(_)) {
                    bump(&self.counters.events);
                }
                return self.sink.event(event);
            }
            Output::News(news) => {
                self.count(&news);
                let endpoint = &self.settings.endpoints[self.turn];
                return self.sink.news(&news, endpoint, known);
            }
        }
        Reply::Go
    }

    fn count(&mut self, news: &News) {
        match news {
            News::Listing { reason } => self.counters.relist(*reason),
            News::Stale { .. } => bump(&self.counters.stale),
            News::Fresh => self.retry.succeeded(),
            News::Resumed { .. } => {
                bump(&self.counters.resumes);
                self.retry.succeeded();
            }
            News::Listed { .. } | News::Broken { .. } | News::Lineage { .. } => {}
        }
    }

    fn wait(&mut self, pause: bool) -> Duration {
        if pause {
            self.retry.pause()
        } else {
            Duration::ZERO
        }
    }

    fn connect(&self, wait: Duration) -> Running {
        let (settings, turn) = (Arc::clone(self.settings), self.turn);
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            let connection = Connection::open(&settings, &settings.endpoints[turn]).await?;
            Ok(Errand::Connected(Box::new(connection)))
        })
    }

    fn page(&self, on: Option<(i64, Vec<u8>)>, wait: Duration) -> Option<Running> {
        bump(&self.counters.list_requests);
        let (settings, mut connection) = (Arc::clone(self.settings), self.connection.clone()?);
        Some(Box::pin(async move {
            tokio::time::sleep(wait).await;
            connection.page(&settings, on).await.map(Errand::Page)
        }))
    }

    fn open(&self, from: i64) -> Option<Running> {
        bump(&self.counters.watch_requests);
        let (settings, mut connection) = (Arc::clone(self.settings), self.connection.clone()?);
        Some(Box::pin(async move {
            let (stream, first) = connection.watch(&settings, from).await?;
            Ok(Errand::Opened(Box::new(stream), first))
        }))
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
