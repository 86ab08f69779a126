//! Comma- or tab-separated values as rows of cells (RFC 4180).

use super::Shown;

const MOST_ROWS: usize = 100;
const MOST_CELLS: usize = 30;
/// The longest cell, in characters.
const LONGEST_CELL: usize = 200;

/// The rows of `text`, if it is a table: at least two rows, of the same number of cells, more than one.
pub(super) fn rows(text: &str) -> Option<Vec<Vec<String>>> {
    ['\t', ',', ';'].into_iter().find_map(|separator| {
        let rows = split(text, separator);
        let width = rows.first()?.len();
        // The last row may be cut.
        let whole = &rows[..rows.len().min(MOST_ROWS).saturating_sub(1).max(1)];
        let alike = width > 1 && rows.len() > 1 && whole.iter().all(|row| row.len() == width);
        alike.then_some(rows)
    })
}

/// A table of `rows`, of which there may be more.
pub(super) fn bounded(mut rows: Vec<Vec<String>>, more: bool) -> Shown {
    let mut cut = more || rows.len() > MOST_ROWS;
    rows.truncate(MOST_ROWS);
    for row in &mut rows {
        cut |= row.len() > MOST_CELLS;
        row.truncate(MOST_CELLS);
        for cell in row {
            if let Some((at, _)) = cell.char_indices().nth(LONGEST_CELL) {
                cell.truncate(at);
                cell.push('…');
            }
        }
    }
    Shown::Table { rows, cut }
}

fn split(text: &str, separator: char) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let (mut row, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted || cell.is_empty() => quoted = !quoted,
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
                if rows.len() > MOST_ROWS {
                    return rows;
                }
            }
            '\r' if !quoted => {}
            c if c == separator && !quoted => row.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    if !row.is_empty() || !cell.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_rows_of_the_same_number_of_cells() {
        let rows = rows("日付,件数\r\n2030-01-31,\"1,5 \"\"x\"\"\"\nz,3\n").expect("a table");
        assert_eq!(rows[1], ["2030-01-31", "1,5 \"x\""]);
        assert_eq!(rows.len(), 3);
        assert!(super::rows("a\tb\n1\t2\n").is_some());
        assert!(super::rows("Dear all,\nthis is no table.\nBye, bye, bye\n").is_none());
        assert!(super::rows("one line, alone").is_none());
    }
}
