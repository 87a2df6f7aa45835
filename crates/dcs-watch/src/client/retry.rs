//! Pauses between tries: jittered, capped, short again after a calm time.
//!
//! The only file that names the `backoff` crate.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use tokio::time::Instant;

/// Pauses between tries.
///
/// ```
/// # use dcs_watch::client::Retry;
/// # use std::time::Duration;
/// let mut retry = Retry::new(Duration::from_millis(50), Duration::from_secs(5));
/// let first = retry.pause();
/// assert!(first <= Duration::from_millis(75));
/// ```
#[derive(Debug)]
pub struct Retry {
    backoff: ExponentialBackoff,
    calm_after: Duration,
    calm_since: Option<Instant>,
}

impl Retry {
    /// Pauses that begin at `first` and grow by half each time up to `max`, each give or take half
    /// of itself, so that many clients of one server do not come back together.
    pub fn new(first: Duration, max: Duration) -> Self {
        let mut backoff = ExponentialBackoff {
            initial_interval: first,
            max_interval: max,
            multiplier: 1.5,
            randomization_factor: 0.5,
            // Never gives up: the caller decides how long to try.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Self {
            backoff,
            calm_after: max * 2,
            calm_since: None,
        }
    }

    /// How long to wait before the next try. The pauses begin anew after a calm time of twice the
    /// longest pause. Not sooner, or a server that works for a moment and breaks again would be
    /// tried at full speed for ever.
    pub fn pause(&mut self) -> Duration {
        if self
            .calm_since
            .take()
            .is_some_and(|since| since.elapsed() >= self.calm_after)
        {
            self.backoff.reset();
        }
        self.backoff
            .next_backoff()
            .unwrap_or(self.backoff.max_interval)
    }

    /// A try succeeded: the calm time begins, and lasts until the next [`pause`](Self::pause).
    pub fn succeeded(&mut self) {
        self.calm_since.get_or_insert_with(Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_up_to_the_cap_and_never_end() {
        let mut retry = Retry::new(FIRST, MAX);
        let pauses: Vec<_> = (0..100).map(|_| retry.pause()).collect();
        assert!(
            pauses[0] >= FIRST / 2 && pauses[0] <= FIRST * 3 / 2,
            "{:?}",
            pauses[0]
        );
        assert!(
            pauses.iter().all(|pause| *pause <= MAX * 3 / 2 + FIRST),
            "{pauses:?}"
        );
        assert!(
            pauses[50..].iter().all(|pause| *pause >= MAX / 2),
            "{pauses:?}"
        );
    }

    #[test]
    fn pauses_are_jittered() {
        let mut retry = Retry::new(MAX, MAX);
        let pauses: std::collections::HashSet<_> = (0..20).map(|_| retry.pause()).collect();
        assert!(pauses.len() > 10);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_begin_anew_only_after_a_calm_time() {
        let mut retry = Retry::new(FIRST, MAX);
        for _ in 0..50 {
            retry.pause();
        }
        retry.succeeded();
        tokio::time::advance(MAX).await;
        retry.succeeded();
        assert!(retry.pause() >= MAX / 2, "a moment of success is no calm");
        retry.succeeded();
        tokio::time::advance(MAX * 2).await;
        assert!(retry.pause() <= FIRST * 3 / 2, "calm");
        assert!(retry.pause() <= FIRST * 9 / 4, "and grows from there");
    }
}
