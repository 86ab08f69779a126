//! Lines of another process, which may be of any length and have anything in them.

use std::io::{BufRead, Read as _};

/// The longest line of a server's log that is passed on, in bytes.
pub(crate) const LONGEST_OF_A_LOG: usize = 1000;

/// The next line without its end, cut at `longest` bytes; None at the end.
pub(crate) fn line(from: &mut impl BufRead, longest: usize) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let most = u64::try_from(longest).unwrap_or(u64::MAX);
    from.take(most).read_until(b'\n', &mut line).ok()?;
    if line.is_empty() {
        return None;
    }
    let mut whole = line.ends_with(b"\n");
    if whole {
        line.pop();
    }
    while !whole {
        let mut rest = Vec::new();
        from.take(most).read_until(b'\n', &mut rest).ok()?;
        whole = rest.is_empty() || rest.ends_with(b"\n");
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn lines_are_cut_at_the_longest_and_the_next_one_is_whole() {
        let mut from = BufReader::new(&b"short\n0123456789abcdefghij\n\nlast"[..]);
        let lines: Vec<_> = std::iter::from_fn(|| line(&mut from, 8)).collect();
        assert_eq!(lines, [&b"short"[..], b"01234567", b"", b"last"]);
    }
}
