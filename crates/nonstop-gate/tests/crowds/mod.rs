//! Crowds at the real sshd: whatever one source does, another one's person logs in.

use crate::lab::{Lab, Tunnel, in_a_box, sh};
use std::{
    io::Write,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What a crowd does, in Python: 1,000 connections from one address at once, each held as long as the
/// server lets it (`hold`), or dropped and made again for as long as it lives (`drop`); or one from
/// each of 5,000 addresses, and then a hundred of others a second (`many`).
const CROWD: &str = r#"
import selectors, socket, sys, time
source, act = sys.argv[1:]
def connect(source=source):
    s = socket.socket()
    s.setblocking(False)
    s.bind((source, 0))
    s.connect_ex(("127.0.0.1", 2222))
    return s
def others():
    for n in range(1 << 20):
        yield f"127.{16 | n >> 16}.{n >> 8 & 255}.{n & 255}"
if act == "many":
    other = others()
    for n in range(5000):
        connect(next(other)).close()
    print("there", flush=True)
    while True:
        connect(next(other)).close()
        time.sleep(0.01)
waiting = selectors.DefaultSelector()
for n in range(1000):
    waiting.register(connect(), selectors.EVENT_READ)
print("there", flush=True)
while True:
    for key, _ in waiting.select():
        s = key.fileobj
        try:
            more = s.recv(4096)
        except OSError:
            more = b""
        if act == "drop" or not more:
            waiting.unregister(s)
            s.close()
            waiting.register(connect(), selectors.EVENT_READ)
"#;

/// A thousand connections; ended when dropped.
struct Crowd(Child);

impl Crowd {
    fn from(source: &str, act: &str) -> Crowd {
        let mut child = Command::new("python3")
            .args(["-", source, act])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut script = child.stdin.take().expect("a pipe");
        script.write_all(CROWD.as_bytes()).expect("taken");
        drop(script);
        let mut there = [0; 6];
        let mut said = child.stdout.take().expect("a pipe");
        std::io::Read::read_exact(&mut said, &mut there).expect("it is there");
        Crowd(child)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Logs in from `source` and gives how long it took until the portal answered.
fn log_in(lab: &Lab, user: &str, source: &str, port: u16) -> (Duration, Option<Tunnel>) {
    let own = if user == "alice" { "127.64.0.1" } else { "127.64.0.2" };
    let forward = format!("{port}:{own}:8080");
    let begun = Instant::now();
    let mut tunnel = lab.ssh(user, &["-N", "-b", source, "-L", &forward]);
    let there = tunnel.ask(port).is_some();
    (begun.elapsed(), there.then_some(tunnel))
}

/// What sshd says of connections that are not logged in. (What the host tracks is measured in the
/// firewall's own tests: on loopback the kernel tracks what is sent, too.)
fn load() -> String {
    let titles =
        sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o '[0-9]* of [0-9-]* startups'");
    titles.trim().into()
}

#[test]
fn a_thousand_connections_from_one_source_do_not_keep_another_person_out() {
    in_a_box(
        "crowds::a_thousand_connections_from_one_source_do_not_keep_another_person_out",
        || {
            let lab = Lab::with_share(64, 60);
            lab.open("alice");
            lab.open("bob");
            sh("ip addr add 192.0.2.9/32 dev lo");
            let mut port = 9000;
            for (what, source, act) in [
                ("nobody", "", ""),
                ("held by a registered source", "127.0.0.7", "hold"),
                ("dropped by a registered source", "127.0.0.8", "drop"),
                ("held by a stranger", "192.0.2.9", "hold"),
                ("dropped by a stranger", "192.0.2.9", "drop"),
            ] {
                let crowd = (!act.is_empty()).then(|| Crowd::from(source, act));
                thread::sleep(Duration::from_secs(u64::from(crowd.is_some())));
                let mut took = Vec::new();
                for n in 0..6 {
                    let source = Ipv4Addr::new(127, 0, 1, n + 1).to_string();
                    port += 1;
                    let (time, tunnel) = log_in(&lab, "alice", &source, port);
                    assert!(tunnel.is_some(), "{what}: alice from {source} does not get in");
                    assert!(time < Duration::from_secs(2), "{what}: {time:?}");
                    took.push(time);
                }
                took.sort();
                println!(
                    "1,000 connections {what}: a login takes {:?}, at most {:?}; {}",
                    took[3],
                    took[5],
                    load()
                );
                drop(crowd);
            }
            let refused = lab.firewall().refused().expect("asked");
            let of =
                |source: [u8; 4]| refused.iter().find(|one| one.source == Ipv4Addr::from(source));
            assert!(
                of([127, 0, 0, 7]).is_some_and(|one| one.registered && one.packets > 900),
                "{refused:?}"
            );
            assert!(
                of([192, 0, 2, 9]).is_some_and(|one| !one.registered && one.packets > 900),
                "{refused:?}"
            );
        },
    );
}

#[test]
fn more_addresses_than_the_kernel_counts_keep_nobody_out() {
    in_a_box("crowds::more_addresses_than_the_kernel_counts_keep_nobody_out", || {
        let lab = Lab::with_share(64, 60);
        lab.open("alice");
        let crowd = Crowd::from("", "many");
        let counted = sh("nft list set inet nonstop gateway_new | grep -o 127.16 | wc -l");
        assert!(counted.trim().parse::<u32>().expect("a number") > 4000, "{counted}");
        thread::sleep(Duration::from_secs(2));
        for n in 0..6 {
            let source = Ipv4Addr::new(127, 0, 2, n + 1).to_string();
            let (time, tunnel) = log_in(&lab, "alice", &source, 9000 + u16::from(n));
            println!("a login beside addresses without end: {time:?}");
            assert!(tunnel.is_some(), "alice from {source} does not get in");
            assert!(time < Duration::from_secs(2), "{time:?}");
        }
        drop(crowd);
    });
}

#[test]
fn many_people_behind_one_address_log_in_one_after_another() {
    in_a_box("crowds::many_people_behind_one_address_log_in_one_after_another", || {
        let lab = Lab::with_share(64, 60);
        lab.open("alice");
        lab.open("bob");
        let begun = Instant::now();
        let mut tunnels = Vec::new();
        for n in 0..40 {
            let user = if n % 2 == 0 { "alice" } else { "bob" };
            let (time, tunnel) = log_in(&lab, user, "127.0.0.5", 9000 + n);
            let tunnel = tunnel.unwrap_or_else(|| panic!("number {n} does not get in"));
            assert!(time < Duration::from_secs(4), "number {n}: {time:?}");
            tunnels.push(tunnel);
        }
        println!("40 logins from one address: {:?}; {}", begun.elapsed(), load());
        assert_eq!(lab.sessions(), [70_001, 70_002]);
    });
}
