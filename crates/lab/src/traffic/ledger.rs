//! The ledger of one writer. In: the writes it sent, and those that were acknowledged. Out:
//! whether the tables agree: each acknowledged write is there once, each write without an
//! answer at most once, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail, ensure};

/// A write. Its number is never used again, even if the write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: i64,
    pub(crate) number: i64,
}

/// What one writer knows of its writes.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The writer's id in the table.
    pub(crate) writer: i64,
    /// The keys, written in turn.
    pub(crate) keys: Vec<i64>,
    /// Numbers begin after this one.
    base: i64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last number that was sent.
    last: i64,
    /// Numbers that were sent and are not acknowledged (yet).
    doubtful: BTreeSet<i64>,
    /// Key to the last number that was acknowledged.
    acknowledged: BTreeMap<i64, i64>,
}

impl Ledger {
    pub(crate) fn new(writer: i64, keys: Vec<i64>, base: i64) -> Self {
        let state = State {
            last: base,
            doubtful: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
        };
        Self {
            writer,
            keys,
            base,
            state: Mutex::new(state),
        }
    }

    /// The next write. From now on the table may have it.
    pub(crate) fn next(&self) -> Entry {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.doubtful.insert(number);
        let turn = usize::try_from(number - self.base).unwrap_or(0);
        let key = self.keys[turn % self.keys.len()];
        Entry { key, number }
    }

    /// From now on the table must have this write.
    pub(crate) fn acknowledge(&self, entry: Entry) {
        let mut state = self.state();
        state.doubtful.remove(&entry.number);
        state.acknowledged.insert(entry.key, entry.number);
    }

    /// The last acknowledged number of a key: no later read may return a lower one.
    pub(crate) fn acknowledged(&self, key: i64) -> Option<i64> {
        self.state().acknowledged.get(&key).copied()
    }

    /// Checks all numbers that the table has of this writer, repeated ones included. Returns the
    /// number of acknowledged writes.
    pub(crate) fn check_all(&self, found: &[i64]) -> Result<usize> {
        let state = self.state();
        let mut there = BTreeSet::new();
        for number in found {
            self.check_sent(&state, *number)?;
            ensure!(
                there.insert(*number),
                "write {} was executed twice",
                number - self.base
            );
        }
        let mut acknowledged = 0;
        for number in self.base + 1..=state.last {
            if state.doubtful.contains(&number) {
                continue;
            }
            acknowledged += 1;
            ensure!(
                there.contains(&number),
                "write {} of {} was acknowledged, and is lost",
                number - self.base,
                state.last - self.base
            );
        }
        Ok(acknowledged)
    }

    /// Checks the last number of each key, for tables that keep only that. Returns the number of keys
    /// that were written.
    pub(crate) fn check_last(&self, found: &BTreeMap<i64, i64>) -> Result<usize> {
        let state = self.state();
        for (key, last) in &state.acknowledged {
            match found.get(key) {
                Some(there) if there >= last => self.check_sent(&state, *there)?,
                there => bail!(
                    "write {} of key {key} was acknowledged, and the table has {:?}: it is lost",
                    last - self.base,
                    there.map(|number| number - self.base)
                ),
            }
        }
        Ok(state.acknowledged.len())
    }

    fn check_sent(&self, state: &State, number: i64) -> Result<()> {
        ensure!(
            number > self.base && number <= state.last,
            "the table has write {}, which was never sent",
            number - self.base
        );
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes 101 to 104; 103 has no answer.
    fn ledger() -> Ledger {
        let ledger = Ledger::new(1, vec![7, 8], 100);
        for _ in 0..4 {
            let entry = ledger.next();
            if entry.number != 103 {
                ledger.acknowledge(entry);
            }
        }
        ledger
    }

    fn complaint<T: std::fmt::Debug>(outcome: Result<T>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn a_write_without_an_answer_may_be_there_or_not() {
        assert_eq!(ledger().check_all(&[101, 102, 104]).unwrap(), 3);
        assert_eq!(ledger().check_all(&[104, 103, 102, 101]).unwrap(), 3);
    }

    #[test]
    fn a_lost_write_is_found() {
        let said = complaint(ledger().check_all(&[101, 103, 104]));
        assert!(
            said.contains("write 2 of 4 was acknowledged, and is lost"),
            "{said}"
        );
    }

    #[test]
    fn a_write_that_was_executed_twice_is_found_acknowledged_or_not() {
        for twice in [101, 103] {
            let said = complaint(ledger().check_all(&[101, 102, 103, 104, twice]));
            assert!(said.contains("executed twice"), "{said}");
        }
    }

    #[test]
    fn a_write_that_was_never_sent_is_found() {
        for stray in [100, 105] {
            let said = complaint(ledger().check_all(&[101, 102, 104, stray]));
            assert!(said.contains("never sent"), "{said}");
        }
    }

    #[test]
    fn a_table_that_keeps_one_write_of_a_key_must_have_the_last_acknowledged_one() {
        // Keys in turn: 8 has 101 and 103, 7 has 102 and 104.
        let found = |seven, eight| BTreeMap::from([(7, seven), (8, eight)]);
        assert_eq!(ledger().check_last(&found(104, 101)).unwrap(), 2);
        assert_eq!(ledger().check_last(&found(104, 103)).unwrap(), 2);
        assert!(complaint(ledger().check_last(&found(102, 101))).contains("lost"));
        assert!(complaint(ledger().check_last(&BTreeMap::from([(7, 104)]))).contains("lost"));
        assert!(complaint(ledger().check_last(&found(105, 101))).contains("never sent"));
    }
}
