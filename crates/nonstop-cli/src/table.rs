//! Tables for a terminal: columns as wide as their widest cell, Japanese counted double; the last
//! column, which holds the longest text, gives way where the terminal is too narrow.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The last column is never made narrower than this.
const NARROWEST: usize = 12;

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

impl<const N: usize> Table<N> {
    /// The table as text, at most `width` columns wide where that can be done by cutting the
    /// last column; `None` cuts nothing.
    pub(crate) fn text(&self, width: Option<usize>) -> String {
        let widest = |column: usize| self.rows.iter().map(|row| row[column].width()).max();
        let mut widths: Vec<usize> = (0..N).map(|column| widest(column).unwrap_or(0)).collect();
        if let (Some(width), Some((last, rest))) = (width, widths.split_last_mut()) {
            let before: usize = rest.iter().map(|w| w + 2).sum();
            *last = (*last).min(width.saturating_sub(before).max(NARROWEST));
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = cut(cell, *width);
                line += &cell;
                line += &" ".repeat(width.saturating_sub(cell.width()) + 2);
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// `text`, or its beginning and `…`, at most `width` columns wide.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let mut kept = String::new();
    let mut room = width.saturating_sub(1);
    for c in text.chars() {
        let Some(rest) = room.checked_sub(c.width().unwrap_or(0)) else { break };
        room = rest;
        kept.push(c);
    }
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_in_japanese_too_and_escapes_are_not_obeyed() {
        let mut table = Table::new(["A", "B"]);
        table.row(["解析".into(), "x".into()]);
        table.row(["ab".into(), "\x1b[31mred".into()]);
        assert_eq!(table.text(None), "A     B\n解析  x\nab    ?[31mred\n");
    }

    #[test]
    fn a_narrow_terminal_cuts_the_last_column_between_characters() {
        let mut table = Table::new(["ID", "PURPOSE"]);
        table.row(["r1".into(), "ダークネットの観測データを解析する".into()]);
        assert_eq!(table.text(Some(19)), "ID  PURPOSE\nr1  ダークネットの…\n");
        // Too narrow for anything: what can be read is still shown.
        assert_eq!(table.text(Some(3)), "ID  PURPOSE\nr1  ダークネッ…\n");
    }
}
