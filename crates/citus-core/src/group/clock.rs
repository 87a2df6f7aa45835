//! Moments as people read them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// RFC 3339 in UTC.
pub(super) fn text(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).unwrap_or_default()
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Some moment, for tests to count from.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "which moment it is does not matter"
)]
pub(super) fn zero() -> std::time::Instant {
    std::time::Instant::now()
}
