//! Columns of text, aligned.

use std::fmt::Write as _;

/// What stands in a cell that has nothing to say.
const NOTHING: &str = "-";

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
    /// put into its message. An empty cell shows as `-`.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.into_iter().map(|cell| one_line(&cell)).collect());
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

/// Text as one line.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        NOTHING.to_owned()
    } else {
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
