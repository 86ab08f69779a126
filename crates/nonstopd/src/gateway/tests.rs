use super::*;
use crate::SystemClock;
use jiff::Timestamp;
use nonstop_api::heard::EndedBy;
use nonstop_store::{NewAccount, NewSession};
use std::net::Ipv4Addr;

struct Lab {
    gateway: Gateway,
    db: Arc<Db>,
    _dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().expect("a folder");
        let db = Arc::new(Db::open(&dir.path().join("db"), Timestamp::now()).expect("opens"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let file = dir.path().join("flows");
        let meter = Meter::new(Arc::clone(&db), Arc::clone(&clock), "run".into(), 1..=2, file);
        let gateway = Gateway::new(Arc::clone(&db), clock, "run".into(), Arc::new(meter));
        Lab { gateway, db, _dir: dir }
    }

    fn session(&self, pid: u32) -> u64 {
        let account = "alice".parse().expect("a name");
        let new = NewSession {
            account,
            source: "198.51.100.7".into(),
            port: 5,
            fingerprint: "SHA256:x".into(),
            client: self.gateway.client_of(pid),
            pid,
            run: "run".into(),
        };
        self.db.write("sshd", Timestamp::now(), |w| w.open_session(&new)).expect("recorded")
    }

    fn account(&self) {
        let new = NewAccount {
            name: "alice".parse().expect("a name"),
            full_name: "Alice".into(),
            affiliation: String::new(),
            role: nonstop_model::Role::Staff,
            edition: None,
            sources: vec![],
            keys: vec![],
        };
        let added = self.db.write("root", Timestamp::now(), |w| w.add_account(&new));
        added.expect("added");
    }

    fn hear(&self, heard: Vec<Heard>) {
        self.gateway.take_in(heard).expect("recorded");
        self.gateway.write().expect("written");
    }

    /// Rows of trace of `action`: subject and detail.
    fn trace(&self, action: &str) -> Vec<(String, serde_json::Value)> {
        let rows = self.db.read(|read| read.trace_rows(10_000)).expect("read");
        let rows = rows.into_iter().filter(|row| row.action == action);
        rows.map(|row| (row.subject, row.detail)).collect()
    }
}

fn refusal(user: &str, source: Ipv4Addr) -> Heard {
    Heard::Refused(Refusal {
        pid: Some(9),
        source: Some(source),
        user: Some(user.into()),
        why: RefusedFor::UnknownKey,
        key: Some("SHA256:k".into()),
        client: Some("OpenSSH_9\u{202e}\n".into()),
    })
}

const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

#[test]
fn a_refused_login_is_a_row_with_its_reason_and_a_flood_is_a_few() {
    let lab = Lab::new();
    lab.hear(vec![refusal("alice", SOURCE)]);
    let rows = lab.trace("login.refused");
    assert_eq!(rows[0].0, "alice");
    assert_eq!(rows[0].1["why"], "unknown_key");
    assert_eq!(rows[0].1["source"], "198.51.100.7");
    assert_eq!(rows[0].1["key"], "SHA256:k");
    for n in 0..5_000_u32 {
        lab.hear(vec![refusal(&format!("user{n}"), SOURCE)]);
    }
    for n in 0..2_000_u32 {
        lab.hear(vec![refusal("alice", Ipv4Addr::from(0x0a00_0000 + n))]);
    }
    let rows = lab.trace("login.refused");
    assert!(rows.len() <= ROWS_OF_ALL + 15, "{}", rows.len());
    let since = Timestamp::UNIX_EPOCH;
    let told = lab.db.read(|read| read.refusals(since, 10_000)).expect("read");
    assert_eq!(told.len(), rows.len());
    assert!(told.iter().any(|row| row.user == OTHERS && row.source == "198.51.100.7"));
}

#[test]
fn what_the_daemon_refused_itself_is_told_once() {
    let lab = Lab::new();
    let alike = Alike {
        source: "198.51.100.7".into(),
        user: "alice".into(),
        why: RefusedFor::Daemon,
        reason: "the account is suspended".into(),
        fingerprint: String::new(),
        client: String::new(),
    };
    lab.gateway.refused_by_daemon(9, alike);
    lab.hear(vec![refusal("alice", SOURCE)]);
    let rows = lab.trace("login.refused");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].1["reason"], "the account is suspended");
}

#[test]
fn denials_clients_and_ends_are_those_of_the_session_whose_process_it_was() {
    let lab = Lab::new();
    lab.account();
    lab.hear(vec![Heard::Client { pid: 9, client: "PuTTY".into() }]);
    let first = lab.session(9);
    let second = lab.session(19);
    lab.hear(vec![
        Heard::Client { pid: 19, client: "OpenSSH_10".into() },
        Heard::Denied {
            child: 20,
            pid: Some(19),
            count: 3,
            what: Wanted::Forward,
            target: "127.0.0.1:22\n".into(),
        },
        Heard::Ended { pid: 19, how: EndedBy::Silence },
        Heard::Ended { pid: 4242, how: EndedBy::Client },
    ]);
    let session = |id| lab.db.read(|read| read.session(id)).expect("read");
    assert_eq!((session(first).client.as_str(), session(first).ended.as_str()), ("PuTTY", ""));
    assert_eq!(session(second).client, "OpenSSH_10");
    assert_eq!(session(second).ended, "the client did not answer any more");
    let rows = lab.trace("gateway.denied");
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].0.as_str(), &rows[0].1["session"]), ("alice", &json!(second)));
    assert_eq!(rows[0].1["target"], "127.0.0.1:22");
    assert_eq!(rows[0].1["tries"], 3);
}

#[test]
fn what_was_lost_is_told() {
    let lab = Lab::new();
    lab.account();
    lab.session(9);
    lab.hear(vec![Heard::Began, Heard::Lost { words: 7 }, Heard::Lost { words: 0 }]);
    assert_eq!(lab.trace("gateway.lost")[0].1["at_least"], 8);
    assert_eq!(lab.trace("gateway.deaf").len(), 1);
    assert_eq!(lab.gateway.silence(), None);
}
