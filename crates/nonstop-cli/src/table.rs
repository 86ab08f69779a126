//! Tables for a terminal: columns as wide as their widest cell, Japanese counted double.

use std::fmt;
use unicode_width::UnicodeWidthStr;

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these headings.
    pub(crate) fn new(headings: [&str; N]) -> Table<N> {
        Table { rows: vec![headings.map(String::from)] }
    }

    /// Adds a row. Control characters, which a terminal would obey, are shown as `?`.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)));
    }
}

/// `text` on one line, without anything that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { if c == '\n' { ' ' } else { '?' } } else { c })
        .collect()
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].width()).max();
        let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line += cell;
                line += &" ".repeat(width - cell.width() + 2);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_in_japanese_too_and_escapes_are_not_obeyed() {
        let mut table = Table::new(["A", "B"]);
        table.row(["解析".into(), "x".into()]);
        table.row(["ab".into(), "\x1b[31mred".into()]);
        assert_eq!(table.to_string(), "A     B\n解析  x\nab    ?[31mred\n");
    }
}
