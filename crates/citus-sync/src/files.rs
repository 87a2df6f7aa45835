//! Files that an operator wrote: the configuration, passwords, the token. In: a path. Out: its text, or
//! why it is of no use.
//!
//! Reading one never blocks: a named pipe that nobody writes to would freeze the daemon, which reads a
//! pgpass file at every connect.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// More than any configuration or pgpass file has; a mistyped path may name a log of gigabytes.
const LONGEST: u64 = 4 << 20;

/// Permissions of group and others. libpq, too, takes no pgpass file that has any.
const GROUP_AND_OTHERS: u32 = 0o077;

/// What some editors put before the first character of a file (U+FEFF).
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a plain file, without a byte order mark.
///
/// # Errors
///
/// It is no plain file, cannot be read, is not UTF-8, or has more than 4 MiB.
pub fn read(path: &Path) -> io::Result<String> {
    // Before it is opened: to open a pipe is to wait for its other end.
    is_plain(&fs::metadata(path)?)?;
    text_of(File::open(path)?)
}

/// As [`read`], but takes a pipe, too: `-c <(…)`. For what is read once, before anything runs.
///
/// # Errors
///
/// As [`read`].
pub fn read_once(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.file_type().is_fifo() {
        return text_of(File::open(path)?);
    }
    read(path)
}

/// As [`read`], for a pgpass file.
///
/// # Errors
///
/// As [`read`]; and that others than its owner have access to it.
pub fn read_passfile(path: &Path) -> io::Result<String> {
    only_its_owner(&fs::metadata(path)?)?;
    read(path)
}

/// Whether only the owner has access, as libpq wants it of a pgpass file.
///
/// # Errors
///
/// Who else has, and what to do.
pub fn only_its_owner(file: &Metadata) -> io::Result<()> {
    let mode = file.mode() & 0o777;
    if mode & GROUP_AND_OTHERS == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "group or others have access to it (mode {mode:04o}), and libpq does not take such a pgpass \
             file either: chmod 0600"
        ),
    ))
}

fn is_plain(file: &Metadata) -> io::Result<()> {
    let kind = file.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else {
        "a device or a socket"
    };
    Err(io::Error::other(format!("it is {what}, not a plain file")))
}

fn text_of(file: File) -> io::Result<String> {
    let mut text = String::new();
    let length = file.take(LONGEST + 1).read_to_string(&mut text)?;
    if length as u64 > LONGEST {
        let longest = LONGEST >> 20;
        return Err(io::Error::other(format!("it is longer than {longest} MiB")));
    }
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (bytes, text) in [
            (&b"\xef\xbb\xbfa: 1\n"[..], "a: 1\n"),
            (b"\xef\xbb\xbf", ""),
            (b"a\xef\xbb\xbf", "a\u{feff}"),
        ] {
            fs::write(file.path(), bytes).unwrap();
            assert_eq!(read(file.path()).unwrap(), text);
        }
        // UTF-16, as some editors save it.
        fs::write(file.path(), b"\xff\xfea\0").unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        assert!(error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn what_is_no_plain_file_is_refused_without_waiting_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, word) in [
            (pipe.as_path(), "a named pipe"),
            (folder.path(), "a directory"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_file_without_end_is_not_read_to_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        assert!(error.contains("longer than 4 MiB"), "{error}");
    }

    #[test]
    fn a_pgpass_file_is_its_owners_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "*:*:*:*:secret\n").unwrap();
        for (mode, allowed) in [(0o600, true), (0o400, true), (0o640, false), (0o602, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let read = read_passfile(file.path());
            assert_eq!(read.is_ok(), allowed, "{mode:o}: {read:?}");
        }
    }
}
