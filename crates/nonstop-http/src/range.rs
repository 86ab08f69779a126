//! Which bytes of a file a request asks for: `Range` as RFC 9110, 14.2 has it.

use std::ops::Range;

/// Ranges of one request: more are answered with the whole file, as the RFC allows.
const MOST: usize = 16;

/// What a `Range` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The whole file: no range, or one that says nothing.
    Whole,
    /// These parts, in the order asked; none is empty.
    Parts(Vec<Range<u64>>),
    /// Nothing that the file has.
    Beyond,
}

/// What `value` asks for of a file of `length` bytes.
pub fn asked(value: &str, length: u64) -> Asked {
    let Some(ranges) = parse(value) else { return Asked::Whole };
    let parts: Vec<Range<u64>> = ranges.into_iter().filter_map(|r| r.within(length)).collect();
    // Parts that come to more than the file are no use to anybody but whoever wants to keep a
    // server busy.
    let sum: u64 = parts.iter().map(|part| part.end - part.start).sum();
    match (parts.is_empty(), sum > length) {
        (true, _) => Asked::Beyond,
        (false, true) => Asked::Whole,
        (false, false) => Asked::Parts(parts),
    }
}

/// One range as it is written.
#[derive(Debug, Clone, Copy)]
enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

impl Spec {
    fn within(self, length: u64) -> Option<Range<u64>> {
        match self {
            Spec::From { first, .. } if first >= length => None,
            Spec::From { first, last } => {
                Some(first..last.map_or(length, |last| last.saturating_add(1).min(length)))
            }
            Spec::Suffix(0) => None,
            Spec::Suffix(_) if length == 0 => None,
            Spec::Suffix(bytes) => Some(length.saturating_sub(bytes)..length),
        }
    }
}

/// None if it is not a list of ranges of bytes, or too long a one.
fn parse(value: &str) -> Option<Vec<Spec>> {
    let (unit, list) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs = list.split(',').map(str::trim).filter(|spec| !spec.is_empty());
    let specs: Vec<Spec> = specs.take(MOST + 1).map(spec).collect::<Option<_>>()?;
    (1..=MOST).contains(&specs.len()).then_some(specs)
}

fn spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    Some(match (first, last) {
        ("", bytes) => Spec::Suffix(number(bytes)?),
        (first, "") => Spec::From { first: number(first)?, last: None },
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From { first, last: Some(last) })?
        }
    })
}

/// A number of digits alone, as large as any when it is larger.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the first of each up to, and without, the second.
    fn parts(bounds: &[(u64, u64)]) -> Asked {
        Asked::Parts(bounds.iter().map(|(start, end)| *start..*end).collect())
    }

    #[test]
    fn ranges_are_cut_at_the_end_of_the_file() {
        for (value, gives) in [
            ("bytes=0-0", parts(&[(0, 1)])),
            ("bytes=0-99", parts(&[(0, 100)])),
            ("bytes=10-", parts(&[(10, 100)])),
            ("Bytes = 90-1000", parts(&[(90, 100)])),
            ("bytes=-5", parts(&[(95, 100)])),
            ("bytes=-500", parts(&[(0, 100)])),
            ("bytes=0-99999999999999999999999999", parts(&[(0, 100)])),
            ("bytes=0-1, 4-5 ,,-2", parts(&[(0, 2), (4, 6), (98, 100)])),
            ("bytes=200-300,1-1", parts(&[(1, 2)])),
        ] {
            assert_eq!(asked(value, 100), gives, "{value}");
        }
    }

    #[test]
    fn what_lies_beyond_the_file_cannot_be_had() {
        for value in ["bytes=100-", "bytes=100-200,300-", "bytes=-0"] {
            assert_eq!(asked(value, 100), Asked::Beyond, "{value}");
        }
        assert_eq!(asked("bytes=0-", 0), Asked::Beyond);
        assert_eq!(asked("bytes=-1", 0), Asked::Beyond);
    }

    #[test]
    fn what_makes_no_sense_or_too_much_of_it_is_the_whole_file() {
        let many = format!("bytes={}", "1-1,".repeat(17));
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "bytes=a-b",
            "bytes=0x1-2",
            "bytes=+1-2",
            "lines=1-2",
            "bytes=1-2,x",
            "bytes=0-,0-",
            &many,
        ] {
            assert_eq!(asked(value, 100), Asked::Whole, "{value}");
        }
        assert_eq!(asked(&format!("bytes={}", "1-1,".repeat(16)), 100), parts(&[(1, 2); 16]));
    }
}
