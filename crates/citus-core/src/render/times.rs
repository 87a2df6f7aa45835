//! Moments and spans of time, as a person reads them.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::table::one_line;

/// `2026-11-22 10:00:00Z (2h 5m ago)`; what is no moment is shown as it is.
pub(super) fn moment(text: &str, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::parse(text, &Rfc3339) else {
        return one_line(text);
    };
    let ago = (now - then).whole_seconds().max(0);
    format!("{} ({} ago)", clock(then), seconds(ago))
}

/// `2026-11-22 10:00:00Z (in 18s)`, or that it is over.
pub(super) fn deadline(text: &str, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::parse(text, &Rfc3339) else {
        return one_line(text);
    };
    match (then - now).whole_seconds() {
        left @ 1.. => format!("{} (in {})", clock(then), seconds(left)),
        _ => format!("{} (now)", clock(then)),
    }
}

/// `2026-11-22 10:00:00Z`; what is no moment is shown as it is.
pub(super) fn instant(text: &str) -> String {
    OffsetDateTime::parse(text, &Rfc3339).map_or_else(|_| one_line(text), clock)
}

fn clock(moment: OffsetDateTime) -> String {
    let moment = moment.to_offset(UtcOffset::UTC);
    let (hour, minute, second) = moment.time().as_hms();
    format!("{} {hour:02}:{minute:02}:{second:02}Z", moment.date())
}

/// The two greatest units: the seconds of three days are of no use.
fn seconds(total: i64) -> String {
    let (days, hours) = (total / 86_400, total / 3_600 % 24);
    let (minutes, seconds) = (total / 60 % 60, total % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")];
    let first = parts
        .iter()
        .position(|(number, _)| *number > 0)
        .unwrap_or(3);
    let shown = parts
        .iter()
        .skip(first)
        .take(2)
        .filter(|(number, _)| *number > 0);
    let words: Vec<String> = shown
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if words.is_empty() {
        "0s".to_owned()
    } else {
        words.join(" ")
    }
}

pub(super) fn milliseconds(total: u64) -> String {
    match total {
        0..10_000 => format!("{total} ms"),
        _ => seconds(i64::try_from(total / 1_000).unwrap_or(i64::MAX)),
    }
}

/// Milliseconds with one decimal while that says something.
pub(super) fn microseconds(total: u64) -> String {
    match total {
        0..100_000 => format!("{}.{} ms", total / 1_000, total % 1_000 / 100),
        _ => milliseconds(total / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::parse("2026-11-22T12:05:09Z", &Rfc3339).unwrap()
    }

    #[test]
    fn times_are_said_in_the_units_that_matter() {
        assert_eq!(seconds(0), "0s");
        assert_eq!(seconds(59), "59s");
        assert_eq!(seconds(3_600), "1h");
        assert_eq!(seconds(7_509), "2h 5m");
        assert_eq!(seconds(266_400), "3d 2h");
        assert_eq!(microseconds(4_260), "4.2 ms");
        assert_eq!(microseconds(231_400), "231 ms");
        assert_eq!(microseconds(25_000_000), "25s");
        assert_eq!(moment("yesterday", now()), "yesterday");
        // A daemon whose clock is ahead of ours has not started in the future.
        assert_eq!(
            moment("2026-11-22T12:05:10Z", now()),
            "2026-11-22 12:05:10Z (0s ago)"
        );
    }

    #[test]
    fn a_deadline_says_how_long_it_is_away() {
        let east = "2026-11-22T14:05:27.5+02:00";
        assert_eq!(deadline(east, now()), "2026-11-22 12:05:27Z (in 18s)");
        assert_eq!(
            deadline("2026-11-22T12:05:09Z", now()),
            "2026-11-22 12:05:09Z (now)"
        );
        assert_eq!(deadline("soon", now()), "soon");
        assert_eq!(instant(east), "2026-11-22 12:05:27Z");
    }
}
