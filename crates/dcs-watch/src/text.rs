//! Foreign text made safe to print: escaped and cut to a bound.
//!
//! Enters: text that another program wrote (a key, a value, a name, an error). Leaves: text that
//! stays on its line, cannot steer a terminal or reorder what is read, and cannot flood a log.
//!
//! Escaping is for readers, not for parsers: a backslash in the text stays as it is, so that clean
//! text is returned unchanged, and escaping twice is the same as escaping once.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Bytes of a foreign key or value that a message quotes: enough to recognise it, too little to
/// flood a log.
pub const EXCERPT_BYTES: usize = 120;

/// Bytes of a name (host, scope, member) that a message shows. DNS allows no host name longer than
/// 253 bytes, so every name that can work is shown whole.
pub const NAME_BYTES: usize = 255;

/// Text that displays with its control characters escaped, without an allocation.
///
/// ```
/// # use dcs_watch::text::Escaped;
/// assert_eq!(Escaped("one\ntwo\u{1b}[31m").to_string(), "one\\ntwo\\u{1b}[31m");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_control) {
            let (clean, tail) = rest.split_at(at);
            f.write_str(clean)?;
            let mut chars = tail.chars();
            if let Some(control) = chars.next() {
                write!(f, "{}", control.escape_default())?;
            }
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

/// Writes `\n`, `\t`, `\u{1b}` and the like for each control character (see [`is_control`]).
/// Clean text is borrowed as it is.
pub fn escape_control(text: &str) -> Cow<'_, str> {
    if text.contains(is_control) {
        Cow::Owned(Escaped(text).to_string())
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON with the control characters escaped that JSON itself allows inside of strings, so that no
/// data is lost. Ends of lines stay: JSON has them between its tokens alone.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    let needs_it = |c: char| is_control(c) && c != '\n';
    if !json.contains(needs_it) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if needs_it(c) {
            // All of them are in the plane that four digits cover.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// The beginning of a text, escaped: at most `max_bytes` bytes after escaping, cut between two
/// characters. When something was cut, the result ends with how much, as in `… (20 MB)`; this
/// adds at most 20 bytes to `max_bytes`. Text that is clean and short is borrowed as it is.
///
/// Reads no further than the cut, however long the text is.
pub fn excerpt(text: &str, max_bytes: usize) -> Cow<'_, str> {
    let mut escaped_bytes = 0;
    let mut clean = true;
    for (at, c) in text.char_indices() {
        let control = is_control(c);
        escaped_bytes += if control {
            c.escape_default().len()
        } else {
            c.len_utf8()
        };
        if escaped_bytes > max_bytes {
            let (kept, cut) = text.split_at(at);
            return Cow::Owned(format!("{}… ({})", Escaped(kept), size(cut.len())));
        }
        clean &= !control;
    }
    if clean {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(Escaped(text).to_string())
    }
}

/// [`excerpt`] of bytes; those that are not UTF-8 are shown as `U+FFFD`.
pub fn excerpt_bytes(bytes: &[u8], max_bytes: usize) -> String {
    // Every character is at least one byte, so no more than these can be shown; four bytes more
    // complete a character that begins within the bound.
    let (near, far) = bytes.split_at(bytes.len().min(max_bytes + 4));
    let mut shown = String::new();
    let mut read = 0;
    let mut push = |piece: &str, of_bytes: usize| {
        let before = shown.len();
        let _ = write!(shown, "{}", Escaped(piece));
        if shown.len() > max_bytes {
            shown.truncate(before);
            return false;
        }
        read += of_bytes;
        true
    };
    let mut buffer = [0; 4];
    'all: for chunk in near.utf8_chunks() {
        for c in chunk.valid().chars() {
            if !push(c.encode_utf8(&mut buffer), c.len_utf8()) {
                break 'all;
            }
        }
        if !chunk.invalid().is_empty() && !push("\u{fffd}", chunk.invalid().len()) {
            break;
        }
    }
    let cut = near.len() - read + far.len();
    if cut > 0 {
        let _ = write!(shown, "… ({})", size(cut));
    }
    shown
}

/// The first [`EXCERPT_BYTES`] of a foreign key or value, escaped and in double quotes, for a
/// message. Quotes inside stay as they are.
pub fn quoted(bytes: impl AsRef<[u8]>) -> String {
    format!("\"{}\"", excerpt_bytes(bytes.as_ref(), EXCERPT_BYTES))
}

/// Whether a character could break a line, steer a terminal, or change the order in which a line
/// is read: C0, DEL and C1 controls, the line and paragraph separators (U+2028, U+2029), and the
/// characters that control the direction of text (U+061C, U+200E, U+200F, U+202A to U+202E,
/// U+2066 to U+2069).
pub fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// A number of bytes in at most three digits and a decimal unit.
fn size(bytes: usize) -> String {
    if bytes == 1 {
        return "1 byte".to_owned();
    }
    let mut unit = 1;
    for name in ["bytes", "kB", "MB", "GB"] {
        let rounded = (bytes + unit / 2) / unit;
        if rounded < 1000 {
            return format!("{rounded} {name}");
        }
        unit *= 1000;
    }
    "over 1 TB".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Longest end that an excerpt may add: `… (999 bytes)`.
    const MARKER_BYTES: usize = 20;

    fn is_clean(text: &str) -> bool {
        !text.contains(is_control)
    }

    #[test]
    fn control_characters_become_visible_escapes() {
        for (text, shown) in [
            ("one\ntwo\r\n\tthree", r"one\ntwo\r\n\tthree"),
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("\0\u{7f}\u{85}\u{9b}", r"\u{0}\u{7f}\u{85}\u{9b}"),
            ("a\u{2028}b\u{2029}c", r"a\u{2028}b\u{2029}c"),
            ("\u{202e}gpj.exe", r"\u{202e}gpj.exe"),
            ("\u{2066}x\u{2069}", r"\u{2066}x\u{2069}"),
            ("\u{200f}\u{61c}", r"\u{200f}\u{61c}"),
        ] {
            assert_eq!(escape_control(text), shown);
            assert_eq!(Escaped(text).to_string(), shown);
            assert_eq!(excerpt(text, 100), shown);
            assert_eq!(excerpt_bytes(text.as_bytes(), 100), shown);
        }
    }

    #[test]
    fn clean_text_is_borrowed_unchanged() {
        for text in ["", "pg1", "håst-1.example", r"C:\new", "日本", "a\u{301}"] {
            assert!(matches!(escape_control(text), Cow::Borrowed(same) if same == text));
            assert!(matches!(excerpt(text, 20), Cow::Borrowed(same) if same == text));
            assert_eq!(excerpt_bytes(text.as_bytes(), 20), text);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters_and_says_how_much_is_missing() {
        assert_eq!(excerpt("abcdef", 5), "abcde… (1 byte)");
        assert_eq!(excerpt("abcdef", 6), "abcdef");
        assert_eq!(excerpt("abcdef", 0), "… (6 bytes)");
        assert_eq!(excerpt("ååå", 3), "å… (4 bytes)");
        assert_eq!(excerpt("ab\u{1b}c", 7), "ab… (2 bytes)");
        assert_eq!(
            excerpt(&"x".repeat(66_000), 100).len(),
            100 + "… (66 kB)".len()
        );
        let huge = "x".repeat(20_000_000);
        assert!(excerpt(&huge, 10).ends_with("x… (20 MB)"));
        assert!(excerpt_bytes(huge.as_bytes(), 10).ends_with("x… (20 MB)"));
    }

    #[test]
    fn sizes_have_at_most_three_digits() {
        for (bytes, text) in [
            (2, "2 bytes"),
            (999, "999 bytes"),
            (1000, "1 kB"),
            (1499, "1 kB"),
            (1500, "2 kB"),
            (999_499, "999 kB"),
            (999_500, "1 MB"),
            (20_000_000, "20 MB"),
            (4_000_000_000, "4 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(excerpt_bytes(b"a\xff\xfeb", 20), "a\u{fffd}\u{fffd}b");
        assert_eq!(excerpt_bytes(b"a\xff\xfeb", 4), "a\u{fffd}… (2 bytes)");
        // A character that the end of the bytes cuts off.
        assert_eq!(excerpt_bytes(b"a\xe2\x82", 20), "a\u{fffd}");
    }

    #[test]
    fn a_quoted_text_is_escaped_once_and_bounded() {
        assert_eq!(quoted("a\nb\\c"), "\"a\\nb\\c\"");
        assert_eq!(quoted(b"{\"a\":\xff"), "\"{\"a\":\u{fffd}\"");
        assert!(quoted("x".repeat(66_000)).len() < 150);
    }

    proptest! {
        #[test]
        fn escaped_text_has_no_control_character_and_is_stable(text: String) {
            let escaped = escape_control(&text);
            prop_assert!(is_clean(&escaped), "{escaped:?}");
            prop_assert_eq!(escape_control(&escaped), escaped.as_ref());
            prop_assert_eq!(Escaped(&text).to_string(), escaped.as_ref());
        }

        #[test]
        fn an_excerpt_is_clean_and_bounded(
            text in "[\\PCa-c\u{0}-\u{1f}\u{7f}-\u{9f}\u{2028}-\u{202e}\u{2066}-\u{2069}]{0,60}",
            max_bytes in 0..200_usize,
        ) {
            let shown = excerpt(&text, max_bytes);
            prop_assert!(is_clean(&shown), "{shown:?}");
            prop_assert!(shown.len() <= max_bytes + MARKER_BYTES, "{} bytes", shown.len());
            let whole = escape_control(&text);
            if whole.len() <= max_bytes {
                prop_assert_eq!(&shown, &whole);
                prop_assert_eq!(excerpt(&shown, max_bytes), shown.as_ref());
            } else {
                let kept = shown.rsplit_once("… (").unwrap().0;
                prop_assert!(whole.starts_with(kept) && kept.len() <= max_bytes);
            }
            prop_assert_eq!(excerpt_bytes(text.as_bytes(), max_bytes), shown.as_ref());
        }

        #[test]
        fn an_excerpt_of_any_bytes_is_clean_and_bounded(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            max_bytes in 0..200_usize,
        ) {
            let shown = excerpt_bytes(&bytes, max_bytes);
            prop_assert!(is_clean(&shown), "{shown:?}");
            prop_assert!(shown.len() <= max_bytes + MARKER_BYTES, "{} bytes", shown.len());
        }
    }
}
