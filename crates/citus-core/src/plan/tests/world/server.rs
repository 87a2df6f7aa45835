//! A PostgreSQL of the model: a log that grows, is streamed, replayed, cut and rewound.

use dcs_watch::Lsn;

use super::super::super::{Position, ProbeState};

/// What the log is made of. Every entry is unique, so that two logs which part are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Entry {
    /// A transaction of one database.
    Write { database: usize, id: u32 },
    /// A promotion.
    Timeline(u32),
}

/// How many entries a segment of the log has: streaming begins at the start of one.
const SEGMENT: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    /// In recovery, whether it follows or is being promoted.
    Standby,
    /// Takes writes.
    Primary,
}

#[derive(Clone, Debug)]
pub(in super::super) struct Server {
    state: State,
    /// What is on its disk.
    pub(in super::super) log: Vec<Entry>,
    pub(in super::super) replayed: usize,
    /// What `pg_last_wal_receive_lsn()` says.
    pub(in super::super) received: Option<usize>,
    pub(in super::super) started: i64,
    /// No packet gets through between it and citus-sync.
    pub(in super::super) cut_from_us: bool,
    /// … and between it and the coordinator.
    pub(in super::super) cut_from_coordinator: bool,
}

/// Where a log of so many entries ends.
pub(in super::super) fn lsn(entries: usize) -> Lsn {
    Lsn(8 * entries as u64)
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            state: State::Standby,
            log: vec![Entry::Timeline(1)],
            replayed: 1,
            received: Some(1),
            started: 1,
            cut_from_us: false,
            cut_from_coordinator: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state != State::Down
    }

    pub(super) fn is_primary(&self) -> bool {
        self.state == State::Primary
    }

    fn is_standby(&self) -> bool {
        self.state == State::Standby
    }

    pub(super) fn timeline(&self) -> Option<u32> {
        self.log.iter().rev().find_map(|entry| match entry {
            Entry::Timeline(timeline) => Some(*timeline),
            Entry::Write { .. } => None,
        })
    }

    /// What it answers to a probe that gets through.
    pub(super) fn answer(&self) -> (ProbeState, Position) {
        if self.is_primary() {
            let position = Position {
                written: Some(lsn(self.log.len())),
                replayed: None,
                exhausted: false,
            };
            return (ProbeState::Writable, position);
        }
        let position = Position {
            written: self.received.map(lsn),
            replayed: Some(lsn(self.replayed)),
            exhausted: false,
        };
        (ProbeState::InRecovery, position)
    }

    /// Its log is the beginning of the other's.
    pub(super) fn follows(&self, other: &Self) -> bool {
        other.log.starts_with(&self.log)
    }

    /// It asks to stream, or receives so many entries.
    pub(super) fn stream(&mut self, from: &Self, entries: usize) {
        if !self.is_standby() || !self.follows(from) {
            return;
        }
        if self.received.is_none() {
            // Only once it has replayed what it has.
            if self.replayed == self.log.len() {
                self.received = Some(self.log.len() - self.log.len() % SEGMENT);
            }
            return;
        }
        let have = self.log.len();
        let until = from.log.len().min(have + entries);
        self.log.extend_from_slice(&from.log[have..until]);
        self.received = Some(self.log.len());
    }

    pub(super) fn replay(&mut self, entries: usize) {
        if self.is_standby() {
            self.replayed = self.log.len().min(self.replayed + entries);
        }
    }

    /// It takes writes, after all that it has.
    pub(super) fn end_promotion(&mut self, timeline: u32) {
        self.log.push(Entry::Timeline(timeline));
        self.replayed = self.log.len();
        self.received = None;
        self.state = State::Primary;
    }

    /// It is gone, from one moment to the next.
    pub(super) fn crash(&mut self) {
        if self.is_primary() {
            // What it wrote it has applied; as a standby it would begin with that.
            self.replayed = self.log.len();
        }
        self.state = State::Down;
    }

    pub(super) fn start(&mut self, as_primary: bool) {
        self.state = if as_primary {
            State::Primary
        } else {
            State::Standby
        };
        self.started += 1;
        self.received = None;
    }

    /// It is made a copy of the primary, as `pg_rewind` does, and started anew.
    pub(super) fn rewind(&mut self, primary: &Self) {
        self.log.clone_from(&primary.log);
        self.replayed = self.log.len();
        self.start(false);
    }
}
