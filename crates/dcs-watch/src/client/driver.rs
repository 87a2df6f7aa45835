//! Drives the machine: executes its outputs, feeds it the answers, and chooses the endpoint and
//! the pauses.
//!
//! One endpoint at a time, and the next one after each failure: so the log can name the endpoint in
//! use, and a dead member costs one pause, not a share of the requests.

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
use crate::machine::{self, Input, Known, Machine, Output, StreamStatus, Timing};

/// What a sink wants after an event or a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Go on.
    Continue,
    /// An event before this one is missing.
    Gap,
    /// End the drive.
    Stop,
}

/// Receives the events and the status of the stream, in order.
pub(crate) trait Sink {
    /// An event.
    fn event(&mut self, event: Event) -> Reply;
    /// How the stream is doing.
    fn status(&mut self, status: &StreamStatus, endpoint: &str, known: &Known) -> Reply;
}

/// The answer to a request.
enum Answer {
    Connected(Box<Connection>),
    Page(Page),
    Opened(Box<Stream>, Input),
}

type Request = Pin<Box<dyn Future<Output = Result<Answer, EtcdError>> + Send>>;

/// Runs until `shutdown` is ready or the sink stops it.
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
        endpoint_index: 0,
        connection: None,
        stream: None,
        request: None,
    };
    loop {
        let input = if let Some(input) = inputs.pop_front() {
            input
        } else {
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                answer = answer_of(&mut driver.request) => driver.answered(answer),
                _ = ticks.tick() => Input::Tick,
                next = next_of(&mut driver.stream) => driver.streamed(next),
            }
        };
        let outputs;
        (machine, outputs) = machine::step(machine, input, started.elapsed(), &timing);
        if let Some(heard) = machine.known.heard {
            counters.heard(heard);
        }
        for output in outputs {
            match driver.execute(output, &machine.known).await {
                Reply::Continue => {}
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
    /// Of the endpoint in use, in the settings.
    endpoint_index: usize,
    connection: Option<Box<Connection>>,
    stream: Option<Box<Stream>>,
    request: Option<Request>,
}

impl<S: Sink> Driver<'_, S> {
    fn endpoint(&self) -> &str {
        &self.settings.endpoints[self.endpoint_index]
    }

    /// Keeps what a request returned; the input for the machine.
    fn answered(&mut self, answer: Result<Answer, EtcdError>) -> Input {
        match answer {
            Ok(Answer::Connected(connection)) => {
                self.connection = Some(connection);
                Input::Connected
            }
            Ok(Answer::Page(Page {
                header,
                records,
                more,
            })) => Input::Page {
                header,
                records,
                more,
            },
            Ok(Answer::Opened(stream, first)) => {
                self.stream = Some(stream);
                first
            }
            Err(error) => self.failed(&error.what),
        }
    }

    fn streamed(&self, next: Result<Input, EtcdError>) -> Input {
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

    async fn execute(&mut self, output: Output, known: &Known) -> Reply {
        match output {
            Output::Connect { rotate, pause } => {
                self.stream = None;
                self.connection = None;
                if rotate {
                    bump(&self.counters.reconnects);
                    self.endpoint_index = (self.endpoint_index + 1) % self.settings.endpoints.len();
                }
                let wait = self.wait(pause);
                self.request = Some(self.connect(wait));
            }
            Output::List { pause } => {
                self.stream = None;
                let wait = self.wait(pause);
                self.request = self.page(None, wait);
            }
            Output::NextPage { revision, after } => {
                self.request = self.page(Some((revision, after)), Duration::ZERO);
            }
            Output::Open { from } => self.request = self.open(from),
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
            Output::Status(status) => {
                self.count(&status);
                let endpoint = &self.settings.endpoints[self.endpoint_index];
                return self.sink.status(&status, endpoint, known);
            }
        }
        Reply::Continue
    }

    fn count(&mut self, status: &StreamStatus) {
        match status {
            StreamStatus::Listing { reason } => self.counters.relist(*reason),
            StreamStatus::Stale { .. } => bump(&self.counters.stale),
            StreamStatus::Fresh => self.retry.succeeded(),
            StreamStatus::Resumed { .. } => {
                bump(&self.counters.resumes);
                self.retry.succeeded();
            }
            StreamStatus::Listed { .. }
            | StreamStatus::Broken { .. }
            | StreamStatus::Lineage { .. } => {}
        }
    }

    fn wait(&mut self, pause: bool) -> Duration {
        if pause {
            self.retry.pause()
        } else {
            Duration::ZERO
        }
    }

    fn connect(&self, wait: Duration) -> Request {
        let (settings, index) = (Arc::clone(self.settings), self.endpoint_index);
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            let connection = Connection::open(&settings, &settings.endpoints[index]).await?;
            Ok(Answer::Connected(Box::new(connection)))
        })
    }

    fn page(&self, on: Option<(i64, Vec<u8>)>, wait: Duration) -> Option<Request> {
        bump(&self.counters.list_requests);
        let (settings, mut connection) = (Arc::clone(self.settings), self.connection.clone()?);
        Some(Box::pin(async move {
            tokio::time::sleep(wait).await;
            connection.page(&settings, on).await.map(Answer::Page)
        }))
    }

    fn open(&self, from: i64) -> Option<Request> {
        bump(&self.counters.watch_requests);
        let (settings, mut connection) = (Arc::clone(self.settings), self.connection.clone()?);
        Some(Box::pin(async move {
            let (stream, first) = connection.watch(&settings, from).await?;
            Ok(Answer::Opened(Box::new(stream), first))
        }))
    }
}

/// Waits for the request's answer, for ever if there is no request.
async fn answer_of(request: &mut Option<Request>) -> Result<Answer, EtcdError> {
    let Some(running) = request else {
        return std::future::pending().await;
    };
    let answer = running.await;
    *request = None;
    answer
}

/// Waits for the stream's next input, for ever if there is no stream.
async fn next_of(stream: &mut Option<Box<Stream>>) -> Result<Input, EtcdError> {
    let Some(open) = stream else {
        return std::future::pending().await;
    };
    let next = open.next().await;
    // A stream that failed, ended or was canceled delivers no more.
    if !matches!(
        next,
        Ok(Input::Opened { .. } | Input::Events { .. } | Input::Progress { .. })
    ) {
        *stream = None;
    }
    next
}
