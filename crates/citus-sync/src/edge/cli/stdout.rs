//! Text for the person or the pipe. A reader that has seen enough (`| head`) is no error.

use std::io::{self, Write as _};

use super::Failed;

/// Prints a page, or what is left of it that somebody wants to read.
pub(super) fn print(text: &str) -> Result<Reader, Failed> {
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
    print(&text)
}

/// Whether anybody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Yes.
    There,
    /// The other end of the pipe is closed.
    Gone,
}

/// Says on stderr what went wrong. If even that is closed there is nobody to tell.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
