//! Text for the person or the pipe. A reader that has seen enough (`| head`) is no error. No control
//! character but the end of a line leaves here, whatever a server or etcd wrote: it could steer the
//! reader's terminal.

use std::borrow::Cow;
use std::io::{self, Write as _};

use dcs_watch::text::{escape_control, escape_json};

use super::outcome::Failed;

/// Prints a page, or as much of it as the reader takes.
pub(super) fn print(text: &str) -> Result<Reader, Failed> {
    write(&clean_lines(text))
}

/// Prints a page in place of all that the terminal shows.
pub(super) fn print_anew(text: &str) -> Result<Reader, Failed> {
    write(&format!("{CLEAR}{}", clean_lines(text)))
}

/// Moves the cursor home and clears what is below it: less flicker than clearing first.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Text of several lines without any other control character.
pub(super) fn clean_lines(text: &str) -> String {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(escape_control).collect();
    lines.join("\n")
}

fn write(text: &str) -> Result<Reader, Failed> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failed::Otherwise(format!(
            "cannot write the answer: {error}"
        ))),
    }
}

/// Prints a value as indented JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<Reader, Failed> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failed::Otherwise(format!("cannot write JSON: {error}")))?;
    text.push('\n');
    write(&escape_json(&text))
}

/// A value as one line of JSON.
pub(super) fn json_line(value: &impl serde::Serialize) -> Result<String, Failed> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failed::Otherwise(format!("cannot write JSON: {error}")))?;
    Ok(escape_json(&text).into_owned())
}

/// Whether the other end of the pipe is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Yes.
    There,
    /// The other end of the pipe is closed.
    Gone,
}

/// Prints a message on stderr. If that is closed as well, the message is lost.
pub(super) fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "{}", clean_lines(text));
}

#[cfg(test)]
mod tests {
    use dcs_watch::text::is_control;

    use super::*;

    #[test]
    fn a_page_keeps_its_lines_and_no_other_control_character() {
        let page = "scope  wk1\u{1b}[2J\nrow    a\tb\u{9b}\n";
        let clean = "scope  wk1\\u{1b}[2J\nrow    a\\tb\\u{9b}\n";
        assert_eq!(clean_lines(page), clean);
    }

    #[test]
    fn json_says_the_same_without_control_characters() {
        let value = serde_json::json!({"scope": "a\u{9b}\u{202e}\u{1b}b"});
        let json = serde_json::to_string_pretty(&value).unwrap();
        let text = escape_json(&json);
        assert!(!text.contains(|c| is_control(c) && c != '\n'), "{text:?}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, value);
    }
}
