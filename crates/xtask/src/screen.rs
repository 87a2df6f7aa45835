//! Output on the terminal. In: headings and lines. Out: text, bold where the
//! terminal can do it and `NO_COLOR` is not set.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Lines of a timeline are cut at this column, unless `COLUMNS` is set.
const WIDTH: usize = 110;

/// A heading, with an empty line before it.
pub(crate) fn heading(text: &str) {
    put(&format!("\n{}\n", bold(text)));
}

/// An indented line.
pub(crate) fn line(text: &str) {
    put(&format!("  {text}\n"));
}

/// Prints what is being done, does it, and prints how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    put(&format!("  {what:<66}"));
    let began = Instant::now();
    let outcome = work();
    match &outcome {
        Ok(_) => put(&format!(" {:>8}\n", seconds(began.elapsed()))),
        Err(_) => put("   failed\n"),
    }
    outcome
}

/// Prints text as it is. Ignores a closed output (`| head`): the command must still finish its work.
pub(crate) fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// `12.3 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Seconds or milliseconds, whichever reads better.
pub(crate) fn span(duration: Duration) -> String {
    if duration >= Duration::from_secs(1) {
        format!("{:.2} s", duration.as_secs_f64())
    } else {
        format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
    }
}

/// The width of the terminal.
pub(crate) fn width() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(WIDTH)
}

fn bold(text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !std::io::stdout().is_terminal() {
        return text.to_owned();
    }
    format!("\x1b[1m{text}\x1b[0m")
}
