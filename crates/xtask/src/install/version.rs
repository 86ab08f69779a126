//! Debian's order of package versions (deb-version(7)).

use std::{cmp::Ordering, iter::Peekable, str::Bytes};

/// Compares two versions as dpkg does.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (epoch_a, rest_a) = epoch(a);
    let (epoch_b, rest_b) = epoch(b);
    let (upstream_a, revision_a) = rest_a.rsplit_once('-').unwrap_or((rest_a, "0"));
    let (upstream_b, revision_b) = rest_b.rsplit_once('-').unwrap_or((rest_b, "0"));
    epoch_a
        .cmp(&epoch_b)
        .then_with(|| part(upstream_a, upstream_b))
        .then_with(|| part(revision_a, revision_b))
}

fn epoch(version: &str) -> (u32, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

/// Non-digits by Debian's order of characters, then digits by number, in turn.
fn part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.bytes().peekable(), b.bytes().peekable());
    while a.peek().is_some() || b.peek().is_some() {
        loop {
            let (x, y) = (letter(&mut a), letter(&mut b));
            match x.cmp(&y) {
                Ordering::Equal if x == 0 => break,
                Ordering::Equal => {}
                other => return other,
            }
        }
        match number(&mut a).cmp(&number(&mut b)) {
            Ordering::Equal => {}
            other => return other,
        }
    }
    Ordering::Equal
}

/// The next non-digit's rank: `~` before the end, the end before letters, letters before the
/// rest.
fn letter(bytes: &mut Peekable<Bytes<'_>>) -> i32 {
    match bytes.next_if(|b| !b.is_ascii_digit()) {
        None => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_alphabetic() => b.into(),
        Some(b) => i32::from(b) + 256,
    }
}

fn number(bytes: &mut Peekable<Bytes<'_>>) -> u64 {
    let mut number = 0u64;
    while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
        number = number.saturating_mul(10).saturating_add((digit - b'0').into());
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn versions_are_ordered_as_dpkg_does() {
        let versions = [
            "9.0.0-4+deb12u2",
            "11.3.0-2~bpo12+1",
            "11.3.0",
            "11.3.0-2",
            "1:7.2+dfsg-7",
            "1:10.0",
            "1:10.0.2+ds-2+deb13u1~bpo12+1",
            "1:9.2p1-2+deb12u6",
            "1:10.0p1-7",
            "3.10.3~rc1",
            "3.10.3",
            "2.0.a",
            "2.0.b",
            "2.0+x",
            "1.09",
            "1.9",
        ];
        for a in versions {
            for b in versions {
                let dpkg = |relation| {
                    Command::new("dpkg")
                        .args(["--compare-versions", a, relation, b])
                        .status()
                        .expect("Debian")
                        .success()
                };
                let expected = if dpkg("lt") {
                    Ordering::Less
                } else if dpkg("gt") {
                    Ordering::Greater
                } else {
                    Ordering::Equal
                };
                assert_eq!(compare(a, b), expected, "{a} and {b}");
            }
        }
    }
}
