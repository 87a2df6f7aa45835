//! systemd: READY, STOPPING and WATCHDOG, where it asks for them; nothing anywhere else.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// Sends a state to systemd. A failure is logged and changes nothing.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!("sd_notify: {error}");
    }
}

/// The service is up.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The service is on its way down.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The service is alive.
pub(super) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// The shortest interval of [`alive`]: a typing mistake in `WATCHDOG_USEC` must not keep a core busy.
const SHORTEST: Duration = Duration::from_millis(10);

/// How often [`alive`] must be said, half of what systemd allows; `None` when it does not ask, or
/// allows no time at all, which is systemd's way to turn the watchdog off.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().and_then(interval_of)
}

fn interval_of(limit: Duration) -> Option<Duration> {
    (!limit.is_zero()).then(|| (limit / 2).max(SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_without_time_is_none_and_one_with_little_keeps_no_core_busy() {
        let micros = Duration::from_micros;
        for (limit, interval) in [
            (micros(0), None),
            (micros(1), Some(SHORTEST)),
            (micros(400_000), Some(micros(200_000))),
            (micros(u64::MAX), Some(micros(u64::MAX) / 2)),
        ] {
            assert_eq!(interval_of(limit), interval, "{limit:?}");
        }
    }
}
