//! Many samples of one event in few numbers. In: samples. Out: sums, medians and worsts.

use super::event::{Event, Who};
use super::sample::Sample;

/// The samples of one event with one number of groups, by the same mover.
pub(crate) struct Cell<'a> {
    pub(crate) who: Who,
    pub(crate) event: Event,
    pub(crate) groups: usize,
    pub(crate) samples: Vec<&'a Sample>,
}

/// Half are at most the first, all are at most the second. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) worst: f64,
}

impl<'a> Cell<'a> {
    /// All cells, in the order in which they were measured first; the poll's after the daemon's.
    pub(crate) fn all(samples: &'a [Sample]) -> Vec<Self> {
        let mut cells: Vec<Self> = Vec::new();
        for sample in samples {
            let known = cells.iter_mut().find(|cell| {
                (cell.who, cell.event, cell.groups) == (sample.who, sample.event, sample.groups)
            });
            match known {
                Some(cell) => cell.samples.push(sample),
                None => cells.push(Self {
                    who: sample.who,
                    event: sample.event,
                    groups: sample.groups,
                    samples: vec![sample],
                }),
            }
        }
        cells.sort_by_key(|cell| (cell.who == Who::Poll, cell.event, cell.groups));
        cells
    }

    pub(crate) fn sum(&self, value: impl Fn(&Sample) -> usize) -> usize {
        self.samples.iter().map(|sample| value(sample)).sum()
    }

    pub(crate) fn spread(&self, value: impl Fn(&Sample) -> f64) -> Spread {
        spread(self.samples.iter().map(|sample| value(sample))).unwrap_or(Spread {
            median: f64::NAN,
            worst: f64::NAN,
        })
    }
}

/// Of no values: none.
pub(crate) fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some(Spread {
        // Of an even number the worse of the two in the middle.
        median: *values.get(values.len() / 2)?,
        worst: *values.last()?,
    })
}
