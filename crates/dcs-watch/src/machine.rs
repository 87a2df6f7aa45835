//! List, open, watch, then resume or relist: one enum and one pure step.
//!
//! Enters: [`Input`] (what etcd answered, what failed, that time passed), the moment, and
//! [`Timing`]. Leaves: the next state, and [`Output`]s in the order in which they are to be carried
//! out. Pauses between tries are not counted here: an output only says whether one is due.
//!
//! The rules, and where they come from:
//!
//! - A watch is open when its created-response has been read, not when the call returned.
//! - A stream that broke is resumed only from a revision that a stream itself delivered with an
//!   event or with a progress notice that is ordered among the events. Answers to *requested*
//!   progress prove that etcd is alive, no more: before etcd 3.4.25 and 3.5.8 they may overtake
//!   events (etcd#15220).
//! - The watch asks from the revision it already has and drops what that repeats, rather than from
//!   the one after: newer etcd (etcd#20229) leaves progress requests of a watch that begins in the
//!   future unanswered, and a quiet etcd would look dead.
//! - A view is fresh for as long as it was complete within the silence limit. After a resume etcd
//!   may still have events for us: nothing counts as a sign of life until those have arrived.
//! - What the last linearizable list said of cluster, revision and term is the measure: a stream
//!   that is behind it is left for a new list, and a list that is behind it means that etcd's
//!   history is another one ([`Known::lineage`]).
//! - The silence limit is checked before each input, so that a process that was itself suspended
//!   does not take what waited in its socket for news.

use std::fmt;
use std::time::Duration;

use crate::event::{Event, Record};

/// Time since some fixed start; only differences count.
pub type Moment = Duration;

/// How long a stream that has been resumed may be quiet before it counts as caught up when etcd
/// still answers. etcd looks for what a new watch has missed every 100 ms.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The limits the machine keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After how much quiet to ask for a sign of life.
    pub progress_every: Duration,
    /// After how much silence to give up.
    pub silence_after: Duration,
    /// How often to list for no reason at all.
    pub relist_every: Duration,
}

/// What etcd says of itself in each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The store's revision.
    pub revision: i64,
    /// The raft term.
    pub raft_term: u64,
}

/// Why a list is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing is known yet.
    First,
    /// The stream broke before it had delivered anything.
    Disconnected,
    /// etcd has compacted away what the watch would need.
    Compacted,
    /// etcd canceled the watch.
    Canceled,
    /// Nothing was heard for too long.
    Silence,
    /// Another etcd cluster answered.
    ClusterChanged,
    /// The revision was lower than one known before.
    RevisionFell,
    /// The raft term was lower than one known before.
    TermFell,
    /// An event is missing.
    Gap,
    /// It was time.
    Timer,
}

impl Reason {
    /// All of them, in a fixed order.
    pub const ALL: [Self; 10] = [
        Self::First,
        Self::Disconnected,
        Self::Compacted,
        Self::Canceled,
        Self::Silence,
        Self::ClusterChanged,
        Self::RevisionFell,
        Self::TermFell,
        Self::Gap,
        Self::Timer,
    ];

    /// A word for a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Disconnected => "disconnected",
            Self::Compacted => "compacted",
            Self::Canceled => "canceled",
            Self::Silence => "silence",
            Self::ClusterChanged => "cluster_changed",
            Self::RevisionFell => "revision_fell",
            Self::TermFell => "term_fell",
            Self::Gap => "gap",
            Self::Timer => "timer",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "nothing is known yet",
            Self::Disconnected => "the watch broke off before it had delivered anything",
            Self::Compacted => "etcd has compacted the revisions in between",
            Self::Canceled => "etcd canceled the watch",
            Self::Silence => "etcd was silent for too long",
            Self::ClusterChanged => "another etcd cluster answered",
            Self::RevisionFell => "etcd's revision is lower than before",
            Self::TermFell => "etcd's raft term is lower than before",
            Self::Gap => "an event is missing",
            Self::Timer => "it was time for a full look",
        })
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Begin.
    Start,
    /// The connection that was asked for stands.
    Connected,
    /// A page of a list.
    Page {
        /// etcd's header; of the first page it says the revision of the list.
        header: Header,
        /// The keys in it.
        records: Vec<Record>,
        /// There are more.
        more: bool,
    },
    /// The watch was confirmed.
    Opened {
        /// etcd's header.
        header: Header,
    },
    /// Events.
    Events {
        /// etcd's header.
        header: Header,
        /// Puts and deletes in the order of their revisions.
        events: Vec<Event>,
    },
    /// A sign of life.
    Progress {
        /// etcd's header.
        header: Header,
        /// Sent by etcd on its own accord, in order with the events: everything up to the header's
        /// revision has been delivered.
        ordered: bool,
    },
    /// etcd ended the watch.
    Canceled {
        /// Not 0: the first revision that is still there.
        compact_revision: i64,
        /// In etcd's words, often none.
        reason: String,
    },
    /// The connection, the list, or the watch failed.
    Failed {
        /// What and where, in words.
        error: String,
    },
    /// Whoever folds the events misses one.
    Gap,
    /// Time passed.
    Tick,
}

/// What is to be done, or to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Drop connection and stream, and connect.
    Connect {
        /// To the next endpoint.
        rotate: bool,
        /// After a pause.
        pause: bool,
    },
    /// Drop the stream, and list from the start.
    List {
        /// After a pause.
        pause: bool,
    },
    /// List on.
    NextPage {
        /// At this revision.
        revision: i64,
        /// After this key.
        after: Vec<u8>,
    },
    /// Open a watch of everything from this revision on.
    Open {
        /// The revision, itself included: what it repeats is dropped here.
        from: i64,
    },
    /// Ask for a sign of life in the stream.
    AskProgress,
    /// For whoever folds the events.
    Event(Event),
    /// For whoever wants to know how the stream fares.
    News(News),
}

/// How the stream fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A list begins.
    Listing {
        /// Why.
        reason: Reason,
    },
    /// A list is complete.
    Listed {
        /// At this revision.
        revision: i64,
        /// So many keys.
        keys: usize,
    },
    /// The watch is open and the view complete.
    Fresh,
    /// The watch goes on where an earlier one broke off.
    Resumed {
        /// After this revision.
        after: i64,
    },
    /// A connection, a list or a watch failed.
    Broken {
        /// What and where, in words.
        error: String,
    },
    /// etcd has been silent for too long.
    Stale {
        /// In words.
        reason: String,
    },
    /// etcd's history is not the one known before.
    Lineage {
        /// The new count.
        lineage: u64,
        /// In words.
        reason: String,
    },
}

/// Where the machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not started.
    Idle,
    /// Waits for a connection.
    Connecting {
        /// What then.
        then: Then,
    },
    /// Waits for pages of a list.
    Listing {
        /// Why it lists.
        reason: Reason,
        /// The first page's header and when it came.
        first: Option<(Header, Moment)>,
        /// Keys so far.
        keys: usize,
    },
    /// Waits for the watch to be confirmed.
    Opening {
        /// The revision that is already known.
        after: i64,
        /// After a list: the moment at which that was complete. None when resuming.
        listed: Option<Moment>,
    },
    /// The watch is open.
    Watching {
        /// The revision that was known when it opened.
        after: i64,
        /// The last revision a stream delivered.
        delivered: Option<i64>,
        /// Events up to this revision may still be on their way.
        behind: Option<i64>,
        /// When it opened.
        opened: Moment,
        /// When a sign of life was last asked for.
        asked: Moment,
    },
}

/// What to do with a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// List.
    List(Reason),
    /// Open a watch after this revision.
    Resume {
        /// The revision.
        after: i64,
    },
}

/// What is known of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The cluster that gave the last list.
    pub cluster_id: Option<u64>,
    /// The raft term of the last list: only a list goes through a quorum, and a member that is cut
    /// off may count its own term up.
    pub raft_term: u64,
    /// The highest revision seen in this lineage.
    pub revision: i64,
    /// How often etcd's history turned out to be another one.
    pub lineage: u64,
    /// When the views were last known to be complete; none before the first time.
    pub heard: Option<Moment>,
    /// They count as fresh.
    pub fresh: bool,
    /// When the last list was complete.
    pub listed: Moment,
}

/// The state and what is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Where it is.
    pub state: State,
    /// What it knows.
    pub known: Known,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: State::Idle,
            known: Known::default(),
        }
    }
}

/// One step.
pub fn step(
    machine: Machine,
    input: Input,
    now: Moment,
    timing: &Timing,
) -> (Machine, Vec<Output>) {
    let Machine { state, mut known } = machine;
    let mut out = Vec::new();
    let silent = known.heard.is_some_and(|heard| overdue(heard, now, timing));
    if silent && known.fresh {
        known.fresh = false;
        let reason = format!(
            "nothing heard from etcd for {} ms",
            timing.silence_after.as_millis()
        );
        out.push(Output::News(News::Stale { reason }));
    }
    let state = match (state, input) {
        (State::Idle, Input::Start) => {
            out.push(Output::Connect {
                rotate: false,
                pause: false,
            });
            State::Connecting {
                then: Then::List(Reason::First),
            }
        }

        // Whatever an overdue stream still says, only a list can tell what is missing from it.
        (State::Watching { .. }, Input::Failed { error }) if silent => {
            out.push(Output::News(News::Broken { error }));
            reconnect(Then::List(Reason::Silence), &mut out)
        }
        (State::Watching { .. }, _) if silent => reconnect(Then::List(Reason::Silence), &mut out),
        (
            State::Connecting {
                then: Then::Resume { .. },
            },
            Input::Connected,
        ) if silent => list(Reason::Silence, false, &mut out),
        (State::Opening { listed: None, .. }, Input::Opened { .. }) if silent => {
            list(Reason::Silence, false, &mut out)
        }

        (
            State::Connecting {
                then: Then::List(reason),
            },
            Input::Connected,
        ) => list(reason, false, &mut out),
        (
            State::Connecting {
                then: Then::Resume { after },
            },
            Input::Connected,
        ) => {
            out.push(Output::Open { from: after });
            State::Opening {
                after,
                listed: None,
            }
        }
        (State::Connecting { then }, Input::Failed { error }) => {
            out.push(Output::News(News::Broken { error }));
            reconnect(then, &mut out)
        }

        (
            State::Listing {
                reason,
                first,
                keys,
            },
            Input::Page {
                header,
                records,
                more,
            },
        ) => {
            let (first, since) = first.unwrap_or_else(|| {
                judge(&mut known, header, &mut out);
                out.push(Output::Event(Event::Init));
                (header, now)
            });
            let keys = keys + records.len();
            let last = records.last().map(|record| record.key.clone());
            out.extend(
                records
                    .into_iter()
                    .map(|record| Output::Event(Event::InitPut(record))),
            );
            if let (true, Some(after)) = (more, last) {
                out.push(Output::NextPage {
                    revision: first.revision,
                    after,
                });
                State::Listing {
                    reason,
                    first: Some((first, since)),
                    keys,
                }
            } else {
                known.listed = now;
                out.push(Output::Event(Event::InitDone {
                    revision: first.revision,
                }));
                out.push(Output::News(News::Listed {
                    revision: first.revision,
                    keys,
                }));
                out.push(Output::Open {
                    from: first.revision,
                });
                State::Opening {
                    after: first.revision,
                    listed: Some(since),
                }
            }
        }
        (State::Listing { reason, .. }, Input::Failed { error }) => {
            out.push(Output::News(News::Broken { error }));
            reconnect(Then::List(reason), &mut out)
        }

        (State::Opening { after, listed }, Input::Opened { header }) => {
            if let Some(reason) = mismatch(&known, header, after) {
                list(reason, true, &mut out)
            } else if listed.is_some_and(|since| overdue(since, now, timing))
                && header.revision > after
            {
                // The list has grown old while the watch was being opened.
                list(Reason::Silence, true, &mut out)
            } else {
                known.revision = known.revision.max(header.revision);
                let behind = (header.revision > after).then_some(header.revision);
                if let Some(since) = listed {
                    known.heard = Some(if behind.is_none() { now } else { since });
                    known.fresh = true;
                    out.push(Output::News(News::Fresh));
                } else {
                    out.push(Output::News(News::Resumed { after }));
                    if behind.is_none() {
                        known.heard = Some(now);
                    }
                }
                let delivered = listed.is_none().then_some(after);
                State::Watching {
                    after,
                    delivered,
                    behind,
                    opened: now,
                    asked: now,
                }
            }
        }
        (State::Opening { after, listed }, Input::Failed { error }) => {
            out.push(Output::News(News::Broken { error }));
            let then = match listed {
                Some(_) => Then::List(Reason::Disconnected),
                None => Then::Resume { after },
            };
            reconnect(then, &mut out)
        }

        (
            State::Watching {
                after,
                delivered,
                behind,
                opened,
                asked,
            },
            Input::Events { header, events },
        ) => {
            if let Some(reason) = mismatch(&known, header, after) {
                list(reason, true, &mut out)
            } else {
                let mut last = delivered.unwrap_or(after);
                for event in events {
                    if let Event::Put(record) | Event::Delete(record) = &event {
                        // The first answer repeats what the watch began from.
                        if record.mod_revision <= after {
                            continue;
                        }
                        last = last.max(record.mod_revision);
                        out.push(Output::Event(event));
                    }
                }
                known.revision = known.revision.max(last);
                let behind = behind.filter(|behind| last < *behind);
                if behind.is_none() {
                    known.heard = Some(now);
                }
                let delivered = delivered.or((last > after).then_some(last)).map(|_| last);
                State::Watching {
                    after,
                    delivered,
                    behind,
                    opened,
                    asked,
                }
            }
        }
        (
            State::Watching {
                after,
                delivered,
                behind,
                opened,
                asked,
            },
            Input::Progress { header, ordered },
        ) => {
            if let Some(reason) = mismatch(&known, header, after) {
                list(reason, true, &mut out)
            } else {
                known.revision = known.revision.max(header.revision);
                let delivered = if ordered {
                    delivered.max(Some(header.revision))
                } else {
                    delivered
                };
                let settled = ordered || now.saturating_sub(opened) >= SETTLED_AFTER;
                let behind = behind.filter(|_| !settled);
                if behind.is_none() {
                    known.heard = Some(now);
                }
                State::Watching {
                    after,
                    delivered,
                    behind,
                    opened,
                    asked,
                }
            }
        }
        (
            State::Opening { .. } | State::Watching { .. },
            Input::Canceled {
                compact_revision,
                reason,
            },
        ) => {
            if compact_revision > 0 {
                list(Reason::Compacted, true, &mut out)
            } else {
                let reason = if reason.is_empty() {
                    "etcd canceled the watch and gave no reason (an expired token or a missing right looks like this)".to_owned()
                } else {
                    format!("etcd canceled the watch: {reason}")
                };
                out.push(Output::News(News::Broken { error: reason }));
                list(Reason::Canceled, true, &mut out)
            }
        }
        (State::Watching { delivered, .. }, Input::Failed { error }) => {
            out.push(Output::News(News::Broken { error }));
            let then = match delivered {
                Some(after) => Then::Resume { after },
                None => Then::List(Reason::Disconnected),
            };
            reconnect(then, &mut out)
        }
        (State::Watching { .. }, Input::Gap) => list(Reason::Gap, true, &mut out),
        (
            State::Watching {
                after,
                delivered,
                behind,
                opened,
                asked,
            },
            Input::Tick,
        ) => {
            if now.saturating_sub(known.listed) >= timing.relist_every {
                list(Reason::Timer, false, &mut out)
            } else {
                let quiet_since = known.heard.unwrap_or(opened).max(asked);
                let ask = now.saturating_sub(quiet_since) >= timing.progress_every;
                let asked = if ask {
                    out.push(Output::AskProgress);
                    now
                } else {
                    asked
                };
                State::Watching {
                    after,
                    delivered,
                    behind,
                    opened,
                    asked,
                }
            }
        }

        // Time passing elsewhere, and answers that come after their question was dropped.
        (state, _) => state,
    };
    (Machine { state, known }, out)
}

fn overdue(heard: Moment, now: Moment, timing: &Timing) -> bool {
    now.saturating_sub(heard) > timing.silence_after
}

fn reconnect(then: Then, out: &mut Vec<Output>) -> State {
    out.push(Output::Connect {
        rotate: true,
        pause: true,
    });
    State::Connecting { then }
}

fn list(reason: Reason, pause: bool, out: &mut Vec<Output>) -> State {
    out.push(Output::News(News::Listing { reason }));
    out.push(Output::List { pause });
    State::Listing {
        reason,
        first: None,
        keys: 0,
    }
}

/// Whether a stream's header is behind what the last list said.
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

/// Holds a list against what is known, and begins a new lineage if it cannot be the same history.
fn judge(known: &mut Known, header: Header, out: &mut Vec<Output>) {
    let reason = match known.cluster_id {
        None => None,
        Some(cluster_id) if cluster_id != header.cluster_id => Some(format!(
            "etcd cluster {:x} answers where {cluster_id:x} did before",
            header.cluster_id
        )),
        Some(_) if header.revision < known.revision => Some(format!(
            "etcd's revision fell from {} to {}: it was restored or wiped",
            known.revision, header.revision
        )),
        Some(_) if header.raft_term < known.raft_term => Some(format!(
            "etcd's raft term fell from {} to {}: it was restored or wiped",
            known.raft_term, header.raft_term
        )),
        Some(_) => None,
    };
    known.cluster_id = Some(header.cluster_id);
    known.raft_term = header.raft_term;
    if let Some(reason) = reason {
        known.lineage += 1;
        known.revision = header.revision;
        out.push(Output::News(News::Lineage {
            lineage: known.lineage,
            reason,
        }));
    }
    known.revision = known.revision.max(header.revision);
}

#[cfg(test)]
mod tests;
