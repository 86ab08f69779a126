use super::*;
use std::net::SocketAddrV4;

fn to(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new([10, 77, 0, 2].into(), port)
}

fn connection(cookie: u64, port: u16, sent: u64, received: u64) -> Connection {
    let inode = cookie as u32;
    Connection { cookie, uid: 70_001, inode, remote: to(port), sent, received }
}

/// Bytes in, out and connections of `session` to `port`.
fn counted(ledger: &Ledger, session: u64, port: u16) -> (u64, u64, u64) {
    let flow = ledger.flows(session).get(&to(port).to_string()).copied().unwrap_or_default();
    (flow.bytes_in, flow.bytes_out, flow.connections)
}

#[test]
fn open_connections_are_their_processes_and_short_ones_those_that_sshd_tells_of() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    let target = to(3389).to_string();
    let owner = |c: &Connection| Some(u64::from(c.inode / 100));
    // Two sessions of one person, to the same target.
    ledger.are_open(&[connection(101, 3389, 5, 7), connection(201, 3389, 1, 1)], owner);
    ledger.said(1, &target, 1);
    ledger.said(2, &target, 1);
    ledger.are_open(&[connection(101, 3389, 50, 70), connection(201, 3389, 9, 9)], owner);
    assert_eq!(counted(&ledger, 1, 3389), (50, 70, 1));
    // The first of them ends with more than was seen last.
    ledger.is_gone(connection(101, 3389, 60, 80), now);
    ledger.settle(now);
    assert_eq!(counted(&ledger, 1, 3389), (60, 80, 1));
    assert_eq!(counted(&ledger, 2, 3389), (9, 9, 1));
    // A short one is over before sshd's word of it comes.
    ledger.is_gone(connection(999, 3389, 1000, 2000), now);
    ledger.settle(now);
    ledger.said(2, &target, 1);
    ledger.settle(now);
    assert_eq!(counted(&ledger, 2, 3389), (1009, 2009, 2));
    assert_eq!(counted(&ledger, 1, 3389), (60, 80, 1));
    // One that no session had is nobody's, and forgotten.
    ledger.is_gone(connection(1000, 22, 5, 5), now);
    ledger.settle(now + PATIENCE);
    assert!(ledger.nobodys.is_empty() && ledger.said.is_empty());
}

#[test]
fn a_restarted_daemon_goes_on_and_says_that_it_was_away() {
    let mut ledger = Ledger::default();
    ledger.are_open(&[connection(101, 3389, 5, 7), connection(102, 80, 1, 1)], |_| Some(1));
    ledger.is_gone(connection(102, 80, 2, 2), Instant::now());
    let text = serde_json::to_vec(&Kept::from(&ledger)).expect("JSON");
    let mut ledger = Ledger::from(serde_json::from_slice::<Kept>(&text).expect("read"));
    ledger.are_open(&[connection(101, 3389, 500, 700)], |_| None);
    assert_eq!(counted(&ledger, 1, 3389), (500, 700, 1));
    assert_eq!(counted(&ledger, 1, 80), (2, 2, 1));
    assert!(ledger.uncounted.contains(&1));
    // What ended meanwhile keeps what was seen of it last.
    ledger.only_open(&BTreeSet::new());
    assert_eq!(counted(&ledger, 1, 3389), (500, 700, 1));
    ledger.forget(1);
    assert!(ledger.flows(1).is_empty());
}

#[test]
fn a_session_with_ten_thousand_targets_has_a_few() {
    let mut ledger = Ledger::default();
    for port in 1..10_000 {
        ledger.are_open(&[connection(port.into(), port, 1, 1)], |_| Some(1));
        ledger.is_gone(connection(port.into(), port, 1, 1), Instant::now());
    }
    let flows = ledger.flows(1);
    assert_eq!(flows.len(), TARGETS + 1);
    assert_eq!(flows.values().map(|flow| flow.bytes_in).sum::<u64>(), 9_999);
}
