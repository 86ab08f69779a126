//! What servers of data domains report, at the real socket: it stands in the trace with whose
//! machine it was, and what cannot be is not heard.

use nonstop_api::fetch::Fetch;
use nonstop_model::{EnvironmentTemplate, Lab, Password, Period, Role, capacity::Room};
use nonstop_store::{Db, Grant, GrantedMachine, NewAccount, TraceRow};
use nonstopd::{Clock, SystemClock, fetches::Fetches};
use std::{
    io::Write,
    os::unix::net::UnixStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const TEMPLATE: &str =
    "version: 1\ntitle: t\nmachines: [{role: analyst, image: micro, memory_mib: 96}]";

/// A lab with alice's machine m1 at the first address of the first segment.
fn lab() -> (tempfile::TempDir, Lab, Arc<Db>) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let mut lab = Lab::parse("lab.yaml", "version: 1\nname: fetches\n").expect("valid");
    (lab.state, lab.run) = (dir.path().into(), dir.path().into());
    let now = SystemClock.now();
    let until = now.checked_add(Duration::from_secs(3600)).expect("an hour later");
    let db = Arc::new(Db::open(&lab.database(), now).expect("opens"));
    db.write("sato", now, |w| {
        w.add_account(&NewAccount {
            name: "alice".parse().expect("a name"),
            full_name: "Alice".into(),
            affiliation: "Somewhere".into(),
            role: Role::Researcher,
            edition: None,
            sources: Vec::new(),
            keys: Vec::new(),
        })?;
        w.grant_environment(&Grant {
            account: "alice".parse().expect("a name"),
            template_name: "micro".parse().expect("a name"),
            template: EnvironmentTemplate::parse("t", TEMPLATE, None).expect("valid"),
            period: Period::new(now, until).expect("ordered"),
            machines: vec![GrantedMachine {
                image: "micro".parse().expect("a name"),
                image_digest: "d".into(),
                guest_user: None,
                password: Password("secret".into()),
                desktop_port: None,
            }],
            pool: lab.network.pool,
            room: Room { memory_mib: 1 << 20, machines: 4 },
        })
    })
    .expect("granted");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Fetches::start(&lab, (0, 0), Arc::clone(&db), clock).expect("listens");
    (dir, lab, db)
}

fn report(address: &str, what: &str) -> Vec<u8> {
    let fetch = Fetch {
        domain: "intermediate".into(),
        server: "pcap".into(),
        address: address.parse().expect("an address"),
        what: what.into(),
        sha256: Some("ab".repeat(32)),
        bytes: 4096,
        requests: 1,
    };
    [serde_json::to_vec(&fetch).expect("JSON"), b"\n".to_vec()].concat()
}

fn fetched(db: &Db, rows: usize) -> Vec<TraceRow> {
    let begun = Instant::now();
    loop {
        let mut found = db.read(|r| r.trace_rows(1000)).expect("rows");
        found.retain(|row| row.action == "data.fetch");
        if found.len() >= rows || begun.elapsed() > Duration::from_secs(10) {
            found.reverse();
            return found;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_fetch_stands_in_the_trace_with_environment_and_person() {
    let (_dir, lab, db) = lab();
    let environment = &db.read(|r| r.environments(lab.network.pool, false)).expect("read")[0];
    let address = environment.machines[0].address.expect("on its segment").to_string();
    let mut server = UnixStream::connect(lab.data_socket()).expect("connects");
    server.write_all(&report(&address, "2030-01-31.pcap")).expect("told");
    // Of nobody's: kept, with the address alone.
    server.write_all(&report("10.99.0.1", "2030-01-31.pcap")).expect("told");
    let rows = fetched(&db, 2);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].subject, "intermediate/pcap/2030-01-31.pcap");
    let detail = &rows[0].detail;
    assert_eq!((&detail["environment"], &detail["account"]), (&"e1".into(), &"alice".into()));
    assert_eq!((&detail["machine"], &detail["bytes"]), (&"m1".into(), &4096.into()));
    assert!(rows[1].detail["account"].is_null() && rows[1].detail["address"] == "10.99.0.1");
    // The same again: no further row for a minute.
    for _ in 0..50 {
        server.write_all(&report(&address, "2030-01-31.pcap")).expect("told");
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(fetched(&db, 2).len(), 2);
}

#[test]
fn a_line_that_cannot_be_ends_its_connection_and_nothing_else() {
    let (_dir, lab, db) = lab();
    let mut odd = UnixStream::connect(lab.data_socket()).expect("connects");
    odd.write_all(&[b'x'; 4096]).expect("told");
    let begun = Instant::now();
    while odd.write_all(&report("10.77.0.2", "after")).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is heard still");
        thread::sleep(Duration::from_millis(10));
    }
    let mut good = UnixStream::connect(lab.data_socket()).expect("connects");
    good.write_all(&report("10.77.0.2", "good")).expect("told");
    let rows = fetched(&db, 1);
    assert_eq!(rows.len(), 1);
    assert!(rows[0].subject.ends_with("/good"), "{}", rows[0].subject);
}
