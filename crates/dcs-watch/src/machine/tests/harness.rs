//! A machine with a clock that only the test moves, and the inputs that the tests feed it.

use std::time::Duration;

use crate::event::{Event, Record};
use crate::machine::*;

pub(super) const TIMING: Timing = Timing {
    progress_every: Duration::from_secs(2),
    silence_after: Duration::from_secs(7),
    relist_every: Duration::from_secs(600),
};

pub(super) fn head(revision: i64) -> Header {
    Header {
        cluster_id: 1,
        member_id: 1,
        revision,
        raft_term: 5,
    }
}

pub(super) fn record(key: &str, revision: i64) -> Record {
    Record {
        key: key.into(),
        mod_revision: revision,
        version: 1,
        ..Record::default()
    }
}

pub(super) fn put(revision: i64) -> Event {
    Event::Put(record("k", revision))
}

pub(super) fn events(revision: i64, of: &[i64]) -> Input {
    Input::Events {
        header: head(revision),
        events: of.iter().copied().map(put).collect(),
    }
}

pub(super) fn page(revision: i64, keys: &[&str], more: bool) -> Input {
    let records = keys.iter().map(|key| record(key, 1)).collect();
    Input::Page {
        header: head(revision),
        records,
        more,
    }
}

pub(super) fn failed() -> Input {
    Input::Failed {
        error: "it broke".into(),
    }
}

pub(super) fn canceled(compact_revision: i64) -> Input {
    Input::Canceled {
        compact_revision,
        reason: String::new(),
    }
}

pub(super) fn answer(revision: i64) -> Input {
    Input::Progress {
        header: head(revision),
        ordered: false,
    }
}

/// A machine with a clock that only the test moves.
pub(super) struct Harness {
    pub(super) machine: Machine,
    pub(super) now: Duration,
}

impl Harness {
    pub(super) fn new() -> Self {
        Self {
            machine: Machine::default(),
            now: Duration::from_secs(100),
        }
    }

    /// Started, connected, listed at 10, opened with etcd at 10.
    pub(super) fn watching() -> Self {
        let mut harness = Self::listed(10);
        harness.feed(Input::Opened { header: head(10) });
        harness
    }

    pub(super) fn listed(revision: i64) -> Self {
        let mut harness = Self::new();
        harness.feed(Input::Start);
        harness.feed(Input::Connected);
        harness.feed(page(revision, &["k"], false));
        harness
    }

    pub(super) fn feed(&mut self, input: Input) -> Vec<Output> {
        let (machine, out) = step(self.machine.clone(), input, self.now, &TIMING);
        self.machine = machine;
        out
    }

    pub(super) fn wait(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self
    }

    /// What is to be done, without what is to be reported.
    pub(super) fn actions(&mut self, input: Input) -> Vec<Output> {
        let out = self.feed(input);
        out.into_iter()
            .filter(|out| !matches!(out, Output::Status(_)))
            .collect()
    }

    pub(super) fn statuses(&mut self, input: Input) -> Vec<StreamStatus> {
        self.feed(input)
            .into_iter()
            .filter_map(|out| {
                if let Output::Status(status) = out {
                    Some(status)
                } else {
                    None
                }
            })
            .collect()
    }

    pub(super) fn assert_relists(&mut self, input: Input, reason: Reason) {
        let out = self.feed(input);
        assert!(
            out.contains(&Output::Status(StreamStatus::Listing { reason })),
            "{out:?}"
        );
        assert!(
            out.iter().any(|out| matches!(out, Output::List { .. })),
            "{out:?}"
        );
        assert!(
            matches!(self.machine.state, State::Listing { reason: now, .. } if now == reason),
            "{:?}",
            self.machine.state
        );
    }

    pub(super) fn state(&self) -> &State {
        &self.machine.state
    }
}

pub(super) const RECONNECT: Output = Output::Connect {
    rotate: true,
    pause: true,
};
