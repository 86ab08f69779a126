//! One line a request for staff, bounded in length and number, and escaped: what a machine sends
//! here must neither fill a disk nor play tricks on whoever reads.

use nonstop_http::segment;
use std::{
    collections::HashMap,
    fmt::Write as _,
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The longest path that is shown, in bytes.
const LONGEST_PATH: usize = 80;
/// Lines that a segment may have at once, and one more for each of [`PAUSE`].
const AT_ONCE: f64 = 20.0;
const PAUSE: Duration = Duration::from_millis(500);
/// Segments that are remembered.
const SEGMENTS: usize = 8192;

/// How many lines each segment may still have.
#[derive(Debug, Default)]
pub(super) struct Log {
    buckets: Mutex<HashMap<Ipv4Addr, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
    unsaid: u64,
}

/// What a line tells.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Who asked.
    pub(super) address: Ipv4Addr,
    /// How, as sent.
    pub(super) method: &'a str,
    /// For what, as sent.
    pub(super) path: &'a str,
    /// The answer.
    pub(super) status: u16,
    /// Bytes of the answer's body that were handed to the kernel.
    pub(super) bytes: u64,
    /// How long it took.
    pub(super) took: Duration,
    /// What staff should see to, each with a line of its own.
    pub(super) trouble: &'a [String],
}

/// The most of those for one request.
const TROUBLES: usize = 5;

impl Log {
    /// Says `entry` on standard error, unless its segment has said too much.
    pub(super) fn say(&self, entry: &Entry<'_>) {
        if let Some(unsaid) = self.may(entry.address, Instant::now()) {
            eprintln!("{}", line(entry, unsaid));
            for trouble in entry.trouble.iter().take(TROUBLES) {
                eprintln!("cannot be served: {trouble}");
            }
        }
    }

    /// Whether a line may be said, and how many of this segment could not be since the last one.
    fn may(&self, address: Ipv4Addr, now: Instant) -> Option<u64> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= SEGMENTS {
            buckets.retain(|_, bucket| bucket.now(now) < AT_ONCE || bucket.unsaid > 0);
        }
        if buckets.len() >= SEGMENTS && !buckets.contains_key(&segment(address)) {
            return None;
        }
        let bucket =
            buckets.entry(segment(address)).or_insert(Bucket { left: AT_ONCE, at: now, unsaid: 0 });
        (bucket.left, bucket.at) = (bucket.now(now), now);
        if bucket.left < 1.0 {
            bucket.unsaid += 1;
            return None;
        }
        bucket.left -= 1.0;
        Some(std::mem::take(&mut bucket.unsaid))
    }
}

impl Bucket {
    fn now(&self, now: Instant) -> f64 {
        let more = now.duration_since(self.at).as_secs_f64() / PAUSE.as_secs_f64();
        (self.left + more).min(AT_ONCE)
    }
}

fn line(entry: &Entry<'_>, unsaid: u64) -> String {
    let Entry { address, method, path, status, bytes, took, trouble: _ } = entry;
    let (method, path) = (shown(method, 16), shown(path, LONGEST_PATH));
    let mut line = format!("{address} {method} {path} {status} {bytes} {}ms", took.as_millis());
    if unsaid > 0 {
        let _ = write!(line, " (and {unsaid} requests of its segment that are not shown)");
    }
    line
}

/// `text` with nothing but printable ASCII and without blanks, cut at `longest` bytes of it.
pub(super) fn shown(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    for byte in text.bytes().take(longest) {
        match byte {
            b'\\' => shown.push_str("\\\\"),
            0x21..=0x7e => shown.push(char::from(byte)),
            _ => drop(write!(shown, "\\x{byte:02x}")),
        }
    }
    if text.len() > longest {
        shown.push_str("...");
    }
    match shown.is_empty() {
        true => "-".into(),
        false => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 18);

    #[test]
    fn a_line_is_short_and_printable_whatever_was_asked_for() {
        let path = format!("/\x1b[2J\n10.0.0.1 GET \\ é{}", "a".repeat(9000));
        let took = Duration::from_millis(3);
        let (method, trouble) = ("GET", &[][..]);
        let entry =
            Entry { address: FROM, method, path: &path, status: 404, bytes: 9, took, trouble };
        let line = line(&entry, 7);
        assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line}");
        assert!(
            line.starts_with(r"10.77.0.18 GET /\x1b[2J\x0a10.0.0.1\x20GET\x20\\\x20\xc3\xa9aaa"),
            "{line}"
        );
        assert!(line.ends_with("... 404 9 3ms (and 7 requests of its segment that are not shown)"));
        assert!(line.len() < 300);
    }

    #[test]
    fn whoever_asks_without_end_is_told_of_by_number() {
        let (log, now) = (Log::default(), Instant::now());
        let said = (0..1000).filter_map(|_| log.may(FROM, now)).count();
        assert_eq!(said, 20);
        assert_eq!(log.may(Ipv4Addr::new(10, 77, 0, 40), now), Some(0), "another segment");
        assert_eq!(log.may(FROM, now + Duration::from_secs(1)), Some(980));
    }
}
