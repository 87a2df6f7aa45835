//! Events in order of time. In: lines from any source, each with its moment. Out:
//! text with milliseconds since a chosen moment.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A shared list of events; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    entries: Arc<Mutex<Vec<Entry>>>,
}

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it happened.
    pub at: Instant,
    /// Where it happened, or what reported it.
    pub source: String,
    /// What happened.
    pub text: String,
}

impl Timeline {
    /// Adds an event that happened now.
    pub fn add(&self, source: &str, text: &str) {
        self.add_at(Instant::now(), source, text);
    }

    /// Adds an event that happened at a known moment.
    pub fn add_at(&self, at: Instant, source: &str, text: &str) {
        let entry = Entry {
            at,
            source: source.into(),
            text: text.into(),
        };
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(entry);
    }

    /// All lines, in order of time.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    /// The lines between two moments, each with its milliseconds after `from`,
    /// no wider than `width` characters.
    pub fn render(&self, from: Instant, to: Instant, width: usize) -> String {
        let mut text = String::new();
        for entry in self.entries() {
            if entry.at < from || entry.at > to {
                continue;
            }
            let milliseconds = entry.at.duration_since(from).as_secs_f64() * 1000.0;
            let line = format!(
                "{milliseconds:>10.1} ms  {:<13} {}",
                entry.source, entry.text
            );
            let _ = writeln!(text, "{}", shortened(line.trim_end(), width));
        }
        text
    }
}

fn shortened(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_come_in_order_of_time_and_within_the_window() {
        let zero = Instant::now();
        let after = |ms: u64| zero + Duration::from_millis(ms);
        let timeline = Timeline::default();
        timeline.add_at(after(2500), "row", "moved");
        timeline.add_at(after(0), "operator", "switchover");
        timeline.add_at(after(9000), "too late", "not shown");
        let text = timeline.render(zero, after(3000), 80);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "0.0 ms  operator      switchover",
                "2500.0 ms  row           moved"
            ]
        );
    }

    #[test]
    fn a_long_line_is_cut_and_ends_with_an_ellipsis() {
        assert_eq!(shortened("ääää", 4), "ääää");
        assert_eq!(shortened("äääää", 4), "äää…");
    }
}
