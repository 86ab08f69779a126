//! Lists that fit into one answer, whatever those who wrote what is in them have written.

use serde::Serialize;
use std::iter::zip;

/// The bytes of a list in one answer, beside what else is in it.
pub const LIST: (usize, usize) = (nonstop_api::MAX_MESSAGE_BYTES as usize - (256 << 10), 0);

/// As many of `all` from the first on as have room in `bytes` at least in short, in full those from the
/// first on for which there is room beside them, or in `more_bytes`; and whether there are more.
pub fn fitting<T: Serialize>(
    all: Vec<T>,
    (bytes, more_bytes): (usize, usize),
    short: impl Fn(&T) -> T,
) -> (Vec<T>, bool) {
    let mut left = bytes;
    let mut shortened = Vec::new();
    for one in all.iter().map(short) {
        let Some(rest) = left.checked_sub(length(&one)) else { break };
        left = rest;
        shortened.push(one);
    }
    let more = shortened.len() < all.len();
    left += more_bytes;
    let told = zip(all, shortened).map(|(full, short)| {
        let longer = length(&full).saturating_sub(length(&short));
        match left.checked_sub(longer) {
            Some(rest) => {
                left = rest;
                full
            }
            None => short,
        }
    });
    (told.collect(), more)
}

/// Its bytes in an answer, with the comma behind it.
fn length(one: &impl Serialize) -> usize {
    serde_json::to_vec(one).map_or(usize::MAX, |json| json.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_told_in_full_and_more_of_them_in_short() {
        let short = |text: &String| text.chars().take(1).collect();
        let all = |n: usize| vec!["abcdefg".to_string(); n];
        assert_eq!(fitting(all(2), (100, 0), short), (all(2), false));
        // Ten bytes each in full, four in short.
        let (told, more) = fitting(all(4), (22, 0), short);
        assert_eq!((told.join(" "), more), ("abcdefg a a a".into(), false));
        let (told, more) = fitting(all(4), (11, 0), short);
        assert_eq!((told.join(" "), more), ("a a".into(), true));
        let (told, more) = fitting(all(4), (11, 4), short);
        assert_eq!((told.join(" "), more), ("abcdefg a".into(), true));
        assert_eq!(fitting(all(1), (3, 0), short), (vec![], true));
    }
}
