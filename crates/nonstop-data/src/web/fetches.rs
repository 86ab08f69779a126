//! Who took which day: told before a download's first byte, then once a minute while it goes on.
//!
//! A line is one write into a pipe that never waits: where nobody reads, sums are kept and told
//! later, and no download is held up.

use nonstop_api::fetch::{Fetch, LONGEST};
use std::{
    collections::HashMap,
    io::Write,
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long sums are gathered.
const PAUSE: Duration = Duration::from_secs(60);
/// What is remembered at once; whatever else is asked for is told without being summed up.
const MOST: usize = 16_384;

/// What was taken and not told yet.
#[derive(Debug)]
pub(super) struct Fetches<W> {
    domain: String,
    server: String,
    table: Mutex<Table<W>>,
}

#[derive(Debug)]
struct Table<W> {
    out: W,
    open: HashMap<(Ipv4Addr, String), Sum>,
}

#[derive(Debug)]
struct Sum {
    what: String,
    bytes: u64,
    requests: u64,
    /// When it was told last.
    told: Option<Instant>,
}

impl<W: Write> Fetches<W> {
    /// Tells `out` for `server` of `domain`.
    pub(super) fn new(domain: &str, server: &str, out: W) -> Fetches<W> {
        let table = Mutex::new(Table { out, open: HashMap::new() });
        Fetches { domain: domain.into(), server: server.into(), table }
    }

    fn table(&self) -> MutexGuard<'_, Table<W>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `address` begins to take `what`, whose hash is `sha256`.
    pub(super) fn begin(&self, address: Ipv4Addr, what: &str, sha256: &str) {
        self.count(address, what, sha256, 0, 1);
    }

    /// `address` got `bytes` more of it.
    pub(super) fn more(&self, address: Ipv4Addr, what: &str, sha256: &str, bytes: u64) {
        self.count(address, what, sha256, bytes, 0);
    }

    fn count(&self, address: Ipv4Addr, what: &str, sha256: &str, bytes: u64, requests: u64) {
        let mut table = self.table();
        let key = (address, sha256.to_string());
        let mut sum = match table.open.remove(&key) {
            Some(sum) => sum,
            None => Sum { what: what.into(), bytes: 0, requests: 0, told: None },
        };
        sum.bytes += bytes;
        sum.requests += requests;
        if sum.told.is_none() {
            self.tell(&mut table.out, &key, &mut sum, Instant::now());
        }
        if table.open.len() < MOST {
            table.open.insert(key, sum);
        }
    }

    /// Tells what is due at `now`, and forgets what has ended.
    pub(super) fn tell_due(&self, now: Instant) {
        let mut table = self.table();
        let Table { out, open } = &mut *table;
        open.retain(|key, sum| {
            let due = sum.told.is_none_or(|told| now.duration_since(told) >= PAUSE);
            if due && sum.bytes + sum.requests == 0 {
                return false;
            }
            if due {
                self.tell(out, key, sum, now);
            }
            true
        });
    }

    fn tell(&self, out: &mut W, key: &(Ipv4Addr, String), sum: &mut Sum, now: Instant) {
        let fetch = Fetch {
            domain: self.domain.clone(),
            server: self.server.clone(),
            address: key.0,
            what: sum.what.clone(),
            sha256: Some(key.1.clone()),
            bytes: sum.bytes,
            requests: sum.requests,
        };
        let Ok(mut line) = serde_json::to_vec(&fetch) else { return };
        line.push(b'\n');
        // Less than PIPE_BUF, so that it is written whole or not at all.
        if line.len() <= LONGEST && out.write(&line).is_ok() {
            (sum.bytes, sum.requests, sum.told) = (0, 0, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const FROM: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 18);

    /// Takes no more than `room` lines.
    struct Pipe {
        lines: Vec<Fetch>,
        room: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if self.lines.len() == self.room {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.lines.push(serde_json::from_slice(line).expect("a line"));
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(fetches: &Fetches<Pipe>) -> Vec<(u64, u64)> {
        fetches.table().out.lines.iter().map(|line| (line.requests, line.bytes)).collect()
    }

    #[test]
    fn a_download_is_told_before_its_first_byte_and_then_once_a_minute() {
        let fetches = Fetches::new("intermediate", "pcap", Pipe { lines: vec![], room: 9 });
        let now = Instant::now();
        fetches.begin(FROM, "2026-11-27.pcap", "ab");
        assert_eq!(told(&fetches), [(1, 0)]);
        fetches.more(FROM, "2026-11-27.pcap", "ab", 5);
        fetches.begin(FROM, "2026-11-27.pcap", "ab");
        fetches.more(FROM, "2026-11-27.pcap", "ab", 6);
        fetches.tell_due(now + Duration::from_secs(30));
        assert_eq!(told(&fetches), [(1, 0)]);
        fetches.tell_due(now + Duration::from_secs(70));
        assert_eq!(told(&fetches), [(1, 0), (1, 11)]);
        fetches.tell_due(now + Duration::from_secs(140));
        assert!(fetches.table().open.is_empty(), "it has ended");
    }

    #[test]
    fn where_nobody_reads_sums_are_kept() {
        let fetches = Fetches::new("intermediate", "pcap", Pipe { lines: vec![], room: 0 });
        fetches.begin(FROM, "2026-11-27.pcap", "ab");
        fetches.more(FROM, "2026-11-27.pcap", "ab", 7);
        fetches.table().out.room = 1;
        fetches.tell_due(Instant::now());
        assert_eq!(told(&fetches), [(1, 7)]);
    }
}
