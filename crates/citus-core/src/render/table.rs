//! Columns of text, aligned; and texts of servers and etcd as a page shows them: escaped, cut to a
//! bound, on one line.

use std::borrow::Cow;
use std::fmt::Write as _;

use dcs_watch::text::{NAME_BYTES, excerpt};

/// What stands in a cell that has nothing to say.
const NOTHING: &str = "-";

/// How much of a name is shown, in bytes. A name that was cut before, as a scope is, keeps the mark that
/// says how much is missing.
const CELL_BYTES: usize = NAME_BYTES + 32;

/// How much of a sentence is shown, in bytes: what a server says may have megabytes.
const LINE_BYTES: usize = 4 << 10;

/// Rows under a header. The last column is never padded, so it may hold sentences.
#[derive(Clone, Debug)]
pub struct Table {
    indent: usize,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Each with how many rows stand above it.
    notes: Vec<(usize, String)>,
}

impl Table {
    /// An empty table with this header.
    pub fn new(header: &[&'static str]) -> Self {
        Self {
            indent: 0,
            header: header.to_vec(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The same, with every line moved right by this many spaces.
    #[must_use]
    pub fn indented(self, indent: usize) -> Self {
        Self { indent, ..self }
    }

    /// Adds a row. Line breaks inside a cell become spaces: a row is one line, whatever a server
    /// put into its message. An empty cell shows as `-`. All cells but the last are names, and cut as
    /// such: one long name would make every line that long, and a width over 65,535 is a panic.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let shown = |(column, cell): (usize, String)| {
            let is_last = column + 1 == N;
            line_of(&cell, if is_last { LINE_BYTES } else { CELL_BYTES })
        };
        self.rows
            .push(cells.into_iter().enumerate().map(shown).collect());
    }

    /// Adds a line below the last row that belongs to it and to no column.
    pub fn note(&mut self, text: &str) {
        self.notes.push((self.rows.len(), one_line(text)));
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, each line ended.
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = self
            .header
            .iter()
            .map(|title| title.chars().count())
            .collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        let header: Vec<&str> = self.header.clone();
        self.line(&mut text, &widths, &header);
        for (above, row) in (1..).zip(&self.rows) {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            self.line(&mut text, &widths, &cells);
            for (_, note) in self.notes.iter().filter(|(rows, _)| *rows == above) {
                let _ = writeln!(text, "{:indent$}{note}", "", indent = self.indent + 4);
            }
        }
        text
    }

    fn line(&self, text: &mut String, widths: &[usize], cells: &[&str]) {
        let mut line = " ".repeat(self.indent);
        for (cell, width) in cells.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Text as one line of a bounded length.
pub(super) fn one_line(text: &str) -> String {
    line_of(text, LINE_BYTES)
}

fn line_of(text: &str, bytes: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        NOTHING.to_owned()
    } else {
        excerpt(&words.join(" "), bytes).into_owned()
    }
}

/// A name as it is shown: a scope, a member, a database, a formation.
pub(super) fn name(text: &str) -> Cow<'_, str> {
    excerpt(text, CELL_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_66_000_bytes_and_a_sentence_of_megabytes_are_cut() {
        let mut table = Table::new(&["NAME", "SENTENCE"]);
        table.row(["x".repeat(66_000), "y".repeat(20_000_000)]);
        table.note(&"z".repeat(66_000));
        let text = table.render();
        assert!(text.len() < 10_000, "{} bytes", text.len());
        assert!(text.contains("x… (66 kB)  y"), "{text}");
        assert!(
            text.contains("y… (20 MB)") && text.contains("z… (62 kB)"),
            "{text}"
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let mut table = Table::new(&["A", "LONG TITLE", "C"]).indented(2);
        table.row([
            "äöü".to_owned(),
            String::new(),
            "a sentence\nof two lines".to_owned(),
        ]);
        table.row(["1".to_owned(), "a longer cell".to_owned(), String::new()]);
        assert_eq!(
            table.render(),
            "  A    LONG TITLE     C\n\
             \x20 äöü  -              a sentence of two lines\n\
             \x20 1    a longer cell  -\n"
        );
    }
}
