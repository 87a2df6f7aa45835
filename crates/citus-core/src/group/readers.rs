//! Reads that still run at a leader which is about to stop. Reads were sent to a standby, but those
//! that had begun before run on, and would fail with the server. So a hold is answered, to Patroni's
//! hook above all, once they have ended: or after a moment, because writers wait, too.

use std::time::{Duration, Instant};

/// How long those that run may take, once reads are moved. One that reads for longer is no reason to keep
/// everybody's writes waiting.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Readers {
    watched: Option<Watched>,
    number: u64,
}

#[derive(Clone, Debug)]
struct Watched {
    number: u64,
    /// When reads were moved.
    since: Option<Instant>,
    /// Databases in which it is not known yet.
    under_way: usize,
}

impl Readers {
    /// Begins to watch in so many databases, unless it does; the number of the watch.
    pub(super) fn watch(&mut self, databases: usize) -> Option<u64> {
        if self.watched.is_some() {
            return None;
        }
        self.number += 1;
        self.watched = Some(Watched {
            number: self.number,
            since: None,
            under_way: databases,
        });
        Some(self.number)
    }

    /// Reads are moved; whether that is news to the watch.
    pub(super) fn moved(&mut self, now: Instant) -> bool {
        match &mut self.watched {
            Some(watched) if watched.since.is_none() => {
                watched.since = Some(now);
                true
            }
            _ => false,
        }
    }

    /// Whether nothing runs at the leader any more, or has for too long. To be asked once reads are
    /// [moved](Readers::moved).
    pub(super) fn are_done(&self, now: Instant) -> bool {
        self.watched.as_ref().is_none_or(|watched| {
            watched.under_way == 0 || watched.since.is_some_and(|since| now >= since + PATIENCE)
        })
    }

    /// Whether something was found to run there until our patience ended.
    pub(super) fn are_left(&self) -> bool {
        let watched = self.watched.as_ref();
        watched.is_some_and(|watched| watched.since.is_some() && watched.under_way > 0)
    }

    /// When our patience ends.
    pub(super) fn until(&self) -> Option<Instant> {
        Some(self.watched.as_ref()?.since? + PATIENCE)
    }

    /// Nobody waits any more; whether there was a watch.
    pub(super) fn forget(&mut self) -> bool {
        self.watched.take().is_some()
    }

    /// It is known in one more database, or will never be.
    pub(super) fn known(&mut self, number: u64) {
        if let Some(watched) = &mut self.watched
            && watched.number == number
        {
            watched.under_way = watched.under_way.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::zero;
    use super::*;

    #[test]
    fn a_hold_is_answered_when_the_last_statement_has_ended_or_after_a_moment() {
        let (mut readers, zero) = (Readers::default(), zero());
        assert!(readers.are_done(zero), "nobody watches");
        assert_eq!(readers.watch(2), Some(1));
        assert_eq!(readers.watch(2), None, "one watch at a time");
        assert!(!readers.are_done(zero) && readers.until().is_none());
        assert!(readers.moved(zero));
        assert!(!readers.moved(zero), "told once");
        readers.known(1);
        readers.known(7);
        assert!(!readers.are_done(zero), "one database is not known yet");
        assert!(readers.are_done(zero + PATIENCE) && readers.are_left());
        assert_eq!(readers.until(), Some(zero + PATIENCE));
        readers.known(1);
        assert!(readers.are_done(zero) && !readers.are_left());
        assert!(readers.forget());
        assert_eq!(readers.watch(1), Some(2));
    }
}
