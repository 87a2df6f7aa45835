//! The lines of a pgpass file, by the rules of libpq.
//!
//! `host:port:database:user:password`, first match wins; `*` alone in a field matches anything; `\`
//! takes the special meaning from the character after it; a line that begins with `#` is a comment.
//! The file's permissions are for its reader to check: only text comes in here.

/// The password for a login, if a line of `text` matches and has one.
pub fn look_up(text: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let port = port.to_string();
    let wanted = [host, &port, database, user];
    let password = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .find_map(|line| password_of(line, wanted))?;
    // libpq, too, stops at the first match and takes an empty password for none.
    (!password.is_empty()).then_some(password)
}

/// The password of `line` if its first four fields match.
fn password_of(line: &str, wanted: [&str; 4]) -> Option<String> {
    let mut rest = line;
    for value in wanted {
        let field = Field::first_of(rest);
        if !field.matches(value) {
            return None;
        }
        rest = field.rest?;
    }
    Some(Field::first_of(rest).text)
}

/// What stands before the next bare colon.
struct Field<'a> {
    text: String,
    any: bool,
    /// What follows the colon; `None` when there was no colon.
    rest: Option<&'a str>,
}

impl<'a> Field<'a> {
    fn first_of(line: &'a str) -> Self {
        let mut text = String::new();
        let mut chars = line.char_indices();
        let mut end = line.len();
        while let Some((i, c)) = chars.next() {
            match c {
                ':' => {
                    end = i;
                    break;
                }
                // A backslash at the very end stands for itself.
                '\\' => text.push(chars.next().map_or('\\', |(_, escaped)| escaped)),
                c => text.push(c),
            }
        }
        Self {
            text,
            any: &line[..end] == "*",
            rest: line.get(end + 1..),
        }
    }

    fn matches(&self, value: &str) -> bool {
        self.any || self.text == value
    }
}

#[cfg(test)]
mod tests {
    use super::look_up;

    fn cn(text: &str) -> Option<String> {
        look_up(text, "10.0.0.1", 5432, "app", "postgres")
    }

    #[test]
    fn lines_of_a_passfile_match_as_in_libpq() {
        for (text, expected) in [
            ("10.0.0.1:5432:app:postgres:s3cret", Some("s3cret")),
            ("*:*:*:*:any", Some("any")),
            ("10.0.0.1:*:*:postgres:wild", Some("wild")),
            // the first match wins, whatever comes later
            (
                "*:*:*:postgres:first\n10.0.0.1:5432:app:postgres:second",
                Some("first"),
            ),
            (
                "10.0.0.2:5432:app:postgres:no\n10.0.0.1:5432:app:postgres:yes",
                Some("yes"),
            ),
            ("10.0.0.1:5433:app:postgres:no", None),
            ("10.0.0.1:5432:App:postgres:no", None),
            ("10.0.0.1:5432:app:post:no", None),
            ("# 10.0.0.1:5432:app:postgres:no", None),
            ("#*:*:*:*:no\n\n*:*:*:*:yes\r\n", Some("yes")),
            // escapes
            (r"10.0.0.1:5432:app:postgres:a\:b\\c", Some(r"a:b\c")),
            (r"10.0.0.1:5432:a\pp:postgres:x", Some("x")),
            (r"\*:5432:app:postgres:star-is-a-name", None),
            (r"*:*:*:*:end\", Some(r"end\")),
            // a bare colon ends the password
            ("*:*:*:*:a:b", Some("a")),
            ("*:*:*:*:", None),
            ("*:*:*:*:\n*:*:*:*:never-reached", None),
            // too few fields
            ("10.0.0.1:5432:app", None),
            ("10.0.0.1:5432:app:postgres", None),
            ("", None),
            ("*:*:*:*:pâss", Some("pâss")),
        ] {
            assert_eq!(cn(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn an_ipv6_host_is_escaped() {
        let text = r"fe80\:\:1:5432:*:*:six";
        assert_eq!(
            look_up(text, "fe80::1", 5432, "a", "b").as_deref(),
            Some("six")
        );
    }
}
