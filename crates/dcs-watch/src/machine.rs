//! List, open, watch, then resume or relist: one enum and one pure step.
//!
//! Enters: [`Input`] (what etcd answered, what failed, that time passed), the moment, and
//! [`Timing`]. Leaves: the next state, and [`Output`]s in the order in which they are to be executed.
//! The machine does not choose how long to pause between tries; an output only says whether a pause
//! is due.
//!
//! The rules, and where they come from:
//!
//! - A watch is open when its created-response has been read, not when the call returned.
//! - A stream that broke is resumed only from a revision that a stream itself delivered with an
//!   event or with a progress notice that is ordered among the events. Answers to *requested*
//!   progress prove that etcd is alive, no more: before etcd 3.4.25 and 3.5.8 they may overtake
//!   events (etcd#15220).
//! - The watch asks from the revision that is already known, and the machine drops what the watch
//!   repeats. It does not ask from the revision after: newer etcd (etcd#20229) does not answer
//!   progress requests of a watch that begins in the future, and a quiet etcd would look dead.
//! - A view is fresh while it was complete within the silence limit. After a resume etcd may still
//!   have events to deliver: nothing counts as a sign of life until they have arrived.
//! - The last linearizable list sets cluster, revision and term. A stream that is behind them is
//!   dropped for a new list, and a list that is behind them means that etcd's history is another
//!   one ([`Known::lineage`]).
//! - The silence limit is checked before each input, so that a process that was itself suspended
//!   does not take old input that waited in its socket for a sign of life.

use std::time::Duration;

use crate::event::{Event, Record};
use crate::text::{EXCERPT_BYTES, excerpt};

mod messages;
mod state;

pub use messages::{Header, Input, Moment, Output, Reason, StreamStatus, Timing};
pub use state::{AfterConnect, Known, Machine, State, Watching};

/// How long a resumed stream must be quiet, while etcd still answers, before it counts as caught up.
/// etcd looks every 100 ms for what a new watch has missed, so much less could be too early.
const CAUGHT_UP_AFTER: Duration = Duration::from_secs(1);

/// One step: the next state, and what is to be done in this order.
pub fn step(
    machine: Machine,
    input: Input,
    now: Moment,
    timing: &Timing,
) -> (Machine, Vec<Output>) {
    let Machine { state, known } = machine;
    let silent = known.heard.is_some_and(|heard| overdue(heard, now, timing));
    let mut step = Step {
        known,
        now,
        timing,
        silent,
        out: Vec::new(),
    };
    if silent && step.known.fresh {
        step.known.fresh = false;
        let silence = timing.silence_after.as_millis();
        step.report(StreamStatus::Stale {
            reason: format!("etcd was silent for more than {silence} ms"),
        });
    }
    let state = match state {
        State::Idle => step.idle(&input),
        State::Connecting { then } => step.connecting(then, input),
        State::Listing {
            reason,
            first,
            keys,
        } => step.listing(reason, first, keys, input),
        State::Opening { after, listed } => step.opening(after, listed, input),
        State::Watching(watching) => step.watching(watching, input),
    };
    (
        Machine {
            state,
            known: step.known,
        },
        step.out,
    )
}

/// A step that is being taken. In each state, an input that is not named comes too late (its
/// request was dropped) or does not concern the state, and changes nothing.
struct Step<'a> {
    known: Known,
    now: Moment,
    timing: &'a Timing,
    /// The views were last known to be complete too long ago.
    silent: bool,
    out: Vec<Output>,
}

impl Step<'_> {
    fn idle(&mut self, input: &Input) -> State {
        if *input != Input::Start {
            return State::Idle;
        }
        self.out.push(Output::Connect {
            rotate: false,
            pause: false,
        });
        State::Connecting {
            then: AfterConnect::List(Reason::First),
        }
    }

    fn connecting(&mut self, then: AfterConnect, input: Input) -> State {
        match (then, input) {
            (AfterConnect::List(reason), Input::Connected) => self.list(reason, false),
            // After so long only a list shows what was missed.
            (AfterConnect::Resume { .. }, Input::Connected) if self.silent => {
                self.list(Reason::Silence, false)
            }
            (AfterConnect::Resume { after }, Input::Connected) => {
                self.out.push(Output::Open { from: after });
                State::Opening {
                    after,
                    listed: None,
                }
            }
            (then, Input::Failed { error }) => self.broken(error, then),
            (then, _) => State::Connecting { then },
        }
    }

    fn listing(
        &mut self,
        reason: Reason,
        first: Option<(Header, Moment)>,
        keys: usize,
        input: Input,
    ) -> State {
        match input {
            Input::Page {
                header,
                records,
                more,
            } => {
                let first = first.unwrap_or_else(|| {
                    self.compare_with_known(header);
                    self.out.push(Output::Event(Event::Init));
                    (header, self.now)
                });
                let keys = keys + records.len();
                match self.page(first.0.revision, records, more) {
                    Some(request) => {
                        self.out.push(request);
                        State::Listing {
                            reason,
                            first: Some(first),
                            keys,
                        }
                    }
                    None => self.listed(first, keys),
                }
            }
            Input::Failed { error } => self.broken(error, AfterConnect::List(reason)),
            _ => State::Listing {
                reason,
                first,
                keys,
            },
        }
    }

    /// Passes a page on; the request for the next page unless this was the last.
    fn page(&mut self, revision: i64, records: Vec<Record>, more: bool) -> Option<Output> {
        let last = records.last().map(|record| record.key.clone());
        let puts = records.into_iter().map(Event::InitPut);
        self.out.extend(puts.map(Output::Event));
        let after = last.filter(|_| more)?;
        Some(Output::NextPage { revision, after })
    }

    /// The list is complete: opens the watch from its revision.
    fn listed(&mut self, (first, since): (Header, Moment), keys: usize) -> State {
        let revision = first.revision;
        self.known.listed = self.now;
        self.out.push(Output::Event(Event::InitDone { revision }));
        self.report(StreamStatus::Listed { revision, keys });
        self.out.push(Output::Open { from: revision });
        State::Opening {
            after: revision,
            listed: Some(since),
        }
    }

    fn opening(&mut self, after: i64, listed: Option<Moment>, input: Input) -> State {
        match input {
            Input::Opened { header } => self.opened(after, listed, header),
            Input::Canceled {
                compact_revision,
                reason,
            } => self.canceled(compact_revision, &reason),
            Input::Failed { error } => {
                let then = match listed {
                    Some(_) => AfterConnect::List(Reason::Disconnected),
                    None => AfterConnect::Resume { after },
                };
                self.broken(error, then)
            }
            _ => State::Opening { after, listed },
        }
    }

    fn opened(&mut self, after: i64, listed: Option<Moment>, header: Header) -> State {
        if let Some(reason) = mismatch(&self.known, header, after) {
            return self.list(reason, true);
        }
        let behind = (header.revision > after).then_some(header.revision);
        // Opened, but so late that the view may not be resumed any more, or that the list has
        // grown old meanwhile.
        let too_late = match listed {
            None => self.silent,
            Some(since) => behind.is_some() && overdue(since, self.now, self.timing),
        };
        if too_late {
            return self.list(Reason::Silence, true);
        }
        self.known.revision = self.known.revision.max(header.revision);
        if behind.is_none() {
            self.known.heard = Some(self.now);
        } else if let Some(since) = listed {
            self.known.heard = Some(since);
        }
        if listed.is_some() {
            self.known.fresh = true;
            self.report(StreamStatus::Fresh);
        } else {
            self.report(StreamStatus::Resumed { after });
        }
        let delivered = listed.is_none().then_some(after);
        State::Watching(Watching {
            after,
            delivered,
            behind,
            opened: self.now,
            asked: self.now,
        })
    }

    fn watching(&mut self, mut watching: Watching, input: Input) -> State {
        // Whatever an overdue stream still delivers, only a list shows what is missing from it.
        if self.silent {
            if let Input::Failed { error } = input {
                self.report(StreamStatus::Broken { error });
            }
            return self.reconnect(AfterConnect::List(Reason::Silence));
        }
        if let Input::Events { header, .. } | Input::Progress { header, .. } = &input
            && let Some(reason) = mismatch(&self.known, *header, watching.after)
        {
            return self.list(reason, true);
        }
        match input {
            Input::Events { events, .. } => self.events(&mut watching, events),
            Input::Progress { header, ordered } => self.progress(&mut watching, header, ordered),
            Input::Canceled {
                compact_revision,
                reason,
            } => {
                return self.canceled(compact_revision, &reason);
            }
            Input::Failed { error } => {
                let then = match watching.delivered {
                    Some(after) => AfterConnect::Resume { after },
                    None => AfterConnect::List(Reason::Disconnected),
                };
                return self.broken(error, then);
            }
            Input::Gap => return self.list(Reason::Gap, true),
            Input::Tick => {
                let since_list = self.now.saturating_sub(self.known.listed);
                if since_list >= self.timing.relist_every {
                    return self.list(Reason::Timer, false);
                }
                self.ask_progress(&mut watching);
            }
            Input::Start | Input::Connected | Input::Page { .. } | Input::Opened { .. } => {}
        }
        State::Watching(watching)
    }

    /// Asks for progress after a quiet time, once for each such time.
    fn ask_progress(&mut self, watching: &mut Watching) {
        let heard = self.known.heard.unwrap_or(watching.opened);
        let quiet = self.now.saturating_sub(heard.max(watching.asked));
        if quiet >= self.timing.progress_every {
            self.out.push(Output::AskProgress);
            watching.asked = self.now;
        }
    }

    fn events(&mut self, watching: &mut Watching, events: Vec<Event>) {
        for event in events {
            let (Event::Put(record) | Event::Delete(record)) = &event else {
                continue;
            };
            // The first answer repeats what the watch began from.
            if record.mod_revision <= watching.after {
                continue;
            }
            watching.delivered = watching.delivered.max(Some(record.mod_revision));
            self.out.push(Output::Event(event));
        }
        if let Some(delivered) = watching.delivered {
            self.known.revision = self.known.revision.max(delivered);
            watching.behind = watching.behind.filter(|behind| delivered < *behind);
        }
        self.alive(watching);
    }

    fn progress(&mut self, watching: &mut Watching, header: Header, ordered: bool) {
        self.known.revision = self.known.revision.max(header.revision);
        if ordered {
            watching.delivered = watching.delivered.max(Some(header.revision));
        }
        if ordered || self.now.saturating_sub(watching.opened) >= CAUGHT_UP_AFTER {
            watching.behind = None;
        }
        self.alive(watching);
    }

    /// Counts the input as a sign of life, unless events are known to be on their way still.
    fn alive(&mut self, watching: &Watching) {
        if watching.behind.is_none() {
            self.known.heard = Some(self.now);
        }
    }

    fn canceled(&mut self, compact_revision: i64, reason: &str) -> State {
        if compact_revision > 0 {
            return self.list(Reason::Compacted, true);
        }
        let reason = if reason.is_empty() {
            "no reason given (an expired token or a missing permission looks like this)"
        } else {
            reason
        };
        self.report(StreamStatus::Broken {
            error: format!(
                "etcd canceled the watch: {}",
                excerpt(reason, 2 * EXCERPT_BYTES)
            ),
        });
        self.list(Reason::Canceled, true)
    }

    fn broken(&mut self, error: String, then: AfterConnect) -> State {
        self.report(StreamStatus::Broken { error });
        self.reconnect(then)
    }

    fn reconnect(&mut self, then: AfterConnect) -> State {
        self.out.push(Output::Connect {
            rotate: true,
            pause: true,
        });
        State::Connecting { then }
    }

    fn list(&mut self, reason: Reason, pause: bool) -> State {
        self.report(StreamStatus::Listing { reason });
        self.out.push(Output::List { pause });
        State::Listing {
            reason,
            first: None,
            keys: 0,
        }
    }

    /// Compares a list with what is known, begins a new lineage if the list cannot be of the same
    /// history, and takes the list for what is known from now on.
    fn compare_with_known(&mut self, header: Header) {
        let known = self.known;
        let reason = known.cluster_id.and_then(|cluster_id| {
            if cluster_id != header.cluster_id {
                let new = header.cluster_id;
                Some(format!(
                    "etcd cluster {new:x} answers where {cluster_id:x} did before"
                ))
            } else if header.revision < known.revision {
                let (old, new) = (known.revision, header.revision);
                Some(format!(
                    "etcd's revision fell from {old} to {new}: it was restored or wiped"
                ))
            } else if header.raft_term < known.raft_term {
                let (old, new) = (known.raft_term, header.raft_term);
                Some(format!(
                    "etcd's raft term fell from {old} to {new}: it was restored or wiped"
                ))
            } else {
                None
            }
        });
        self.known.cluster_id = Some(header.cluster_id);
        self.known.raft_term = header.raft_term;
        self.known.revision = header.revision;
        if let Some(reason) = reason {
            self.known.lineage += 1;
            self.report(StreamStatus::Lineage {
                lineage: self.known.lineage,
                reason,
            });
        }
    }

    fn report(&mut self, status: StreamStatus) {
        self.out.push(Output::Status(status));
    }
}

fn overdue(heard: Moment, now: Moment, timing: &Timing) -> bool {
    now.saturating_sub(heard) > timing.silence_after
}

/// Why a stream must be dropped for a list: its header is behind the last list.
fn mismatch(known: &Known, header: Header, after: i64) -> Option<Reason> {
    if known
        .cluster_id
        .is_some_and(|known| known != header.cluster_id)
    {
        Some(Reason::ClusterChanged)
    } else if header.raft_term < known.raft_term {
        Some(Reason::TermFell)
    } else if header.revision < after {
        Some(Reason::RevisionFell)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
