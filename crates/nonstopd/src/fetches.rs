//! What machines got from the servers of data domains, written into the trace with whose they are.
//!
//! A server says an address, as the kernel gave it, and what it sent there; environment and person
//! come from the database. Neither a server nor a machine can fill the trace: what one environment
//! gets of one thing is one row a minute, and an environment has so many rows a minute. The last of
//! them is of all other things together, and names each by its hash, up to so many; of those beyond it
//! has the number, and a digest by which a list of them can be checked.

use crate::{Clock, publisher::plain, server::listen, status::chain};
use ipnet::Ipv4Net;
use nonstop_api::fetch::{Fetch, LONGEST};
use nonstop_model::{AccountName, EnvironmentId, EnvironmentState, Lab, MachineId};
use nonstop_store::{Db, StoreError};
use rustix::net::sockopt::socket_peercred;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read},
    net::Ipv4Addr,
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{error, warn};

/// One row for one thing and environment in this time.
const ROW_EVERY: Duration = Duration::from_secs(60);
/// Rows of one environment in that time; what goes beyond is one row together.
const ROWS: usize = 30;
/// What that row calls what was got.
const OTHERS: &str = "(more)";
/// Hashes that such a row names.
const NAMED: usize = 300;
/// How often what was summed up is written.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Connections at once: `nonstop-data serve`, and a few by hand.
const AT_ONCE: usize = 8;
/// The longest name that is kept, in characters.
const NAME: usize = 100;

/// What is summed up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Its segment: all of an environment together.
    segment: Ipv4Net,
    domain: String,
    server: String,
    what: String,
    sha256: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sum {
    bytes: u64,
    requests: u64,
    /// Of what has no row of its own.
    others: Others,
}

/// Hashes of things that share a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Others {
    named: BTreeSet<String>,
    /// Takings of those that are not named.
    beyond: u64,
    /// SHA-256 of the last digest and the next hash, as hexadecimal digits one after the other.
    digest: String,
}

impl Others {
    fn add(&mut self, sha256: String) {
        if self.named.contains(&sha256) {
            return;
        }
        if self.named.len() < NAMED {
            self.named.insert(sha256);
            return;
        }
        self.beyond = self.beyond.saturating_add(1);
        self.digest = hex::encode(Sha256::digest(self.digest.clone() + &sha256));
    }

    /// What the row says of them; nothing where there are none.
    fn tell(&self, detail: &mut Value) {
        if !self.named.is_empty() {
            detail["sha256s"] = json!(self.named);
        }
        if self.beyond > 0 {
            detail["beyond"] = json!({ "count": self.beyond, "digest": self.digest });
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// The address that asked last.
    address: Ipv4Addr,
    sum: Sum,
    /// When it was written last.
    written: Option<Instant>,
}

/// A row of trace in the making.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    key: Key,
    address: Ipv4Addr,
    sum: Sum,
}

/// Sums by environment and thing.
#[derive(Debug, Default)]
struct Sums(BTreeMap<Key, Entry>);

impl Sums {
    fn add(&mut self, fetch: Fetch) {
        let Ok(segment) = Ipv4Net::new(fetch.address, 28).map(|net| net.trunc()) else { return };
        let known = fetch
            .sha256
            .filter(|sha256| sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit()));
        let name = |text: &str| crate::prover::cut(&plain(text), NAME);
        let mut key = Key {
            segment,
            domain: name(&fetch.domain),
            server: name(&fetch.server),
            what: name(&fetch.what),
            sha256: known,
        };
        let of_it = self.0.keys().filter(|other| other.segment == segment).count();
        let mut other = None;
        if of_it >= ROWS && !self.0.contains_key(&key) {
            key.what = OTHERS.into();
            other = key.sha256.take();
        }
        let new = Entry { address: fetch.address, sum: Sum::default(), written: None };
        let entry = self.0.entry(key).or_insert(new);
        entry.address = fetch.address;
        entry.sum.bytes = entry.sum.bytes.saturating_add(fetch.bytes);
        entry.sum.requests = entry.sum.requests.saturating_add(fetch.requests);
        if let Some(sha256) = other {
            entry.sum.others.add(sha256);
        }
    }

    /// What is to be written at `now`; it is then written.
    fn due(&mut self, now: Instant) -> Vec<Row> {
        let mut rows = Vec::new();
        self.0.retain(|key, entry| {
            let waits = entry.written.is_some_and(|at| now.duration_since(at) < ROW_EVERY);
            if waits {
                return true;
            }
            if entry.sum == Sum::default() {
                // Nothing for a minute: it is forgotten.
                return false;
            }
            let sum = std::mem::take(&mut entry.sum);
            rows.push(Row { key: key.clone(), address: entry.address, sum });
            entry.written = Some(now);
            true
        });
        rows
    }
}

/// Hears what servers tell.
#[derive(Clone)]
pub struct Fetches {
    lab: Lab,
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    sums: Arc<Mutex<Sums>>,
}

impl Fetches {
    /// Listens at the lab's socket, for root and for the user and group of the servers.
    pub fn start(
        lab: &Lab,
        (uid, gid): (u32, u32),
        db: Arc<Db>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<()> {
        let fetches = Fetches { lab: lab.clone(), db, clock, sums: Arc::default() };
        let listener = listen(&lab.data_socket(), Some(gid), 0o660)?;
        let writer = fetches.clone();
        thread::Builder::new().name("fetches".into()).spawn(move || {
            loop {
                thread::sleep(WRITE_EVERY);
                writer.write_due();
            }
        })?;
        thread::Builder::new()
            .name("fetches".into())
            .spawn(move || fetches.accept(&listener, uid))
            .map(drop)
    }

    fn accept(&self, listener: &UnixListener, uid: u32) -> ! {
        let busy = Arc::new(AtomicUsize::new(0));
        loop {
            let Ok((socket, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            let peer = socket_peercred(&socket).map(|peer| peer.uid.as_raw());
            if !peer.is_ok_and(|peer| peer == 0 || peer == uid) {
                continue;
            }
            if busy.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
                busy.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let (fetches, busy) = (self.clone(), Arc::clone(&busy));
            thread::spawn(move || {
                fetches.hear(socket);
                busy.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    /// Hears lines to the end, or to the first that cannot be.
    fn hear(&self, socket: UnixStream) {
        let mut lines = BufReader::new(socket);
        loop {
            let mut line = Vec::new();
            match lines.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            match serde_json::from_slice::<Fetch>(&line) {
                Ok(fetch) => {
                    lock(&self.sums).add(fetch);
                    self.write_due();
                }
                Err(_) => {
                    warn!("a server of a data domain said what cannot be: it is not heard further");
                    return;
                }
            }
        }
    }

    fn write_due(&self) {
        let rows = lock(&self.sums).due(Instant::now());
        if rows.is_empty() {
            return;
        }
        if let Err(e) = self.write(&rows) {
            error!("record what machines fetched: {}", chain(&e));
        }
    }

    fn write(&self, rows: &[Row]) -> Result<(), StoreError> {
        let whose = self.db.read(|read| self.whose(read))?;
        self.db.write("nonstop-data", self.clock.now(), |w| {
            for Row { key, address, sum } in rows {
                let owner = whose.get(&key.segment);
                let machine = owner.and_then(|owner| owner.machines.get(address));
                let mut detail = json!({
                    "environment": owner.map(|owner| owner.environment),
                    "account": owner.map(|owner| &owner.account),
                    "machine": machine,
                    "address": address,
                    "sha256": key.sha256,
                    "bytes": sum.bytes,
                    "requests": sum.requests,
                });
                sum.others.tell(&mut detail);
                let subject = format!("{}/{}/{}", key.domain, key.server, key.what);
                w.trace("data.fetch", &subject, detail)?;
            }
            Ok(())
        })
    }

    /// Environments by segment.
    fn whose(
        &self,
        read: &nonstop_store::Read<'_>,
    ) -> Result<BTreeMap<Ipv4Net, Owner>, StoreError> {
        let mut owners = BTreeMap::new();
        for environment in read.environments(self.lab.network.pool, false)? {
            // An ended one may have got something a moment ago; a granted one has its segment now.
            let granted = environment.state == EnvironmentState::Granted;
            let Ok(net) = Ipv4Net::new(environment.segment.host(), 28) else { continue };
            let machines = environment.machines.iter();
            let owner = Owner {
                environment: environment.id,
                account: environment.account.clone(),
                machines: machines.filter_map(|m| Some((m.address?, m.id))).collect(),
            };
            if granted || !owners.contains_key(&net.trunc()) {
                owners.insert(net.trunc(), owner);
            }
        }
        Ok(owners)
    }
}

struct Owner {
    environment: EnvironmentId,
    account: AccountName,
    machines: BTreeMap<Ipv4Addr, MachineId>,
}

fn lock(sums: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(last: u8, what: &str) -> Fetch {
        Fetch {
            domain: "intermediate".into(),
            server: "pcap".into(),
            address: Ipv4Addr::new(10, 77, 0, last),
            what: what.into(),
            sha256: None,
            bytes: 10,
            requests: 1,
        }
    }

    #[test]
    fn one_thing_is_one_row_a_minute_with_its_sum() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        sums.add(fetch(18, "2030-01-31.pcap"));
        assert_eq!(sums.due(begun).len(), 1, "the first is written at once");
        for _ in 0..100 {
            // Two machines of one environment.
            sums.add(fetch(18, "2030-01-31.pcap"));
            sums.add(fetch(19, "2030-01-31.pcap"));
        }
        assert_eq!(sums.due(begun + Duration::from_secs(59)), []);
        let rows = sums.due(begun + ROW_EVERY);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].sum, Sum { bytes: 2000, requests: 200, ..Sum::default() });
        assert_eq!(sums.due(begun + 2 * ROW_EVERY), []);
        assert!(sums.0.is_empty(), "and is forgotten");
    }

    #[test]
    fn whoever_asks_for_thousands_of_things_fills_neither_memory_nor_trace() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        for n in 0..10_000 {
            sums.add(fetch(18, &format!("name {n} of many\n")));
        }
        sums.add(fetch(34, "another environment's"));
        let rows = sums.due(begun);
        assert_eq!(rows.len(), ROWS + 2);
        let all: u64 = rows.iter().map(|row| row.sum.requests).sum();
        assert_eq!(all, 10_001);
        assert!(rows.iter().all(|row| !row.key.what.contains('\n')));
    }

    /// The fetch of the sample `n`.
    fn sample(n: u32) -> Fetch {
        Fetch { sha256: Some(format!("{n:064x}")), ..fetch(18, &format!("sample {n}")) }
    }

    #[test]
    fn what_has_no_row_of_its_own_is_named_by_its_hash() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        let all = || (0..50).chain(0..50);
        all().for_each(|n| sums.add(sample(n)));
        let rows = sums.due(begun);
        assert_eq!(rows.len(), ROWS + 1);
        let own = rows.iter().filter_map(|row| row.key.sha256.clone());
        let shared = rows.iter().flat_map(|row| row.sum.others.named.iter().cloned());
        let named: BTreeSet<String> = own.chain(shared).collect();
        assert_eq!(named, (0..50).map(|n| format!("{n:064x}")).collect());
        let more = rows.iter().find(|row| row.key.what == OTHERS).expect("one");
        assert_eq!((more.sum.requests, more.sum.others.beyond), (40, 0));
        // A minute later it is about that minute.
        all().for_each(|n| sums.add(sample(n + 40)));
        let rows = sums.due(begun + ROW_EVERY);
        let more = rows.iter().find(|row| row.key.what == OTHERS).expect("one");
        assert_eq!(more.sum.others.named.len(), 50);
        let mut detail = json!({});
        more.sum.others.tell(&mut detail);
        assert_eq!(detail["sha256s"][0], format!("{:064x}", 40));
        assert_eq!(detail["beyond"], Value::Null);
    }

    #[test]
    fn of_what_is_too_much_to_be_named_there_is_a_number_and_a_digest() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        let most = (ROWS + NAMED) as u32;
        (0..most + 2).for_each(|n| sums.add(sample(n)));
        let rows = sums.due(begun);
        let more = rows.iter().find(|row| row.key.what == OTHERS).expect("one");
        let mut detail = json!({});
        more.sum.others.tell(&mut detail);
        assert_eq!(detail["sha256s"].as_array().map(Vec::len), Some(NAMED));
        let one = hex::encode(Sha256::digest(format!("{most:064x}")));
        let both = hex::encode(Sha256::digest(format!("{one}{:064x}", most + 1)));
        assert_eq!(detail["beyond"], json!({ "count": 2, "digest": both }));
        assert!(detail.to_string().len() < 40 << 10);
    }
}
