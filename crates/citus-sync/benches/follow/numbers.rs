//! Samples in, percentiles out.

use std::time::Duration;

use serde::Serialize;

/// Of one series, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Numbers {
    /// How many there were.
    pub(crate) count: usize,
    /// The least.
    pub(crate) min: f64,
    /// Half were at most this.
    pub p50: f64,
    /// 95 of 100 were at most this.
    pub p95: f64,
    /// 99 of 100 were at most this.
    pub p99: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Numbers {
    /// Percentiles by nearest rank; all NaN where there is nothing.
    pub(crate) fn of(samples: &[Duration]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted
                .get(rank - 1)
                .map_or(f64::NAN, |sample| (sample.as_secs_f64() * 1e6).round())
        };
        Self {
            count: sorted.len(),
            min: at(0),
            p50: at(50),
            p95: at(95),
            p99: at(99),
            max: at(100),
        }
    }

    fn all(&self) -> [f64; 5] {
        [self.min, self.p50, self.p95, self.p99, self.max]
    }

    /// In milliseconds, for a table.
    pub(crate) fn row(&self, name: &str) -> Vec<String> {
        let cells = self.all().map(|micros| format!("{:.2}", micros / 1e3));
        [name.to_owned()].into_iter().chain(cells).collect()
    }

    /// By another series, for a table.
    pub(crate) fn ratio_row(&self, name: &str, by: &Self) -> Vec<String> {
        let cells = self.all().into_iter().zip(by.all());
        let cells = cells.map(|(mine, other)| format!("{:.2}", ratio(mine, other)));
        [name.to_owned()].into_iter().chain(cells).collect()
    }
}

/// `of` by `by`.
pub(crate) fn ratio(of: f64, by: f64) -> f64 {
    of / by
}
