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

/// How often [`alive`] must be said, half of what systemd allows; `None` when it does not ask.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}
