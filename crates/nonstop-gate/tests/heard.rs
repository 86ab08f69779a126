//! What the ear makes of the real sshd: reasons that the client is not told, whatever the client calls
//! itself and its account; and that nobody who does not listen holds up sshd. Needs root.

mod lab;

use lab::{Lab, in_a_box, sh};
use nonstop_api::heard::{EndedBy, Heard, Refusal, RefusedFor, Wanted};
use std::{
    io::Write,
    net::{Ipv4Addr, TcpStream},
    thread,
    time::{Duration, Instant},
};

impl Lab {
    /// Waits for a refusal of `user`, and gives it.
    fn refusal_of(&self, user: &str) -> Refusal {
        self.eventually(&format!("the refusal of {user} is heard"), || {
            self.refusals().iter().any(|r| r.user.as_deref() == Some(user))
        });
        let mut all = self.refusals();
        all.retain(|r| r.user.as_deref() == Some(user));
        all.pop().expect("heard")
    }

    fn refusals(&self) -> Vec<Refusal> {
        let heard = self.heard().into_iter();
        heard.filter_map(|h| if let Heard::Refused(r) = h { Some(r) } else { None }).collect()
    }

    /// Which processes are ears.
    fn ears(&self) -> Vec<String> {
        sh("for p in /proc/[0-9]*; do
                if tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '[n]onstop-gate ear'; then
                    echo ${p#/proc/} $(stat -c %u $p); fi; done")
        .lines()
        .map(String::from)
        .collect()
    }
}

/// A connection from `source` that says nothing and goes.
fn connect_from(source: Ipv4Addr) {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    use std::net::SocketAddrV4;
    let stranger = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&stranger, &SocketAddrV4::new(source, 0)).expect("an address of loopback");
    connect(&stranger, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2222)).expect("connected");
}

#[test]
fn the_reason_of_each_refusal_is_heard_and_not_told_to_the_client() {
    in_a_box("the_reason_of_each_refusal_is_heard_and_not_told_to_the_client", || {
        let lab = Lab::new();
        lab.open("alice");
        lab.open("bob");
        // Addresses of loopback count penalties apart.
        let from = |source: &'static str| ["-N", "-b", source];
        assert!(lab.ssh_to_its_end("nobody-there", &from("127.0.1.1")).is_err());
        let refused = lab.refusal_of("nobody-there");
        assert_eq!(refused.why, RefusedFor::UnknownAccount);
        assert_eq!(refused.source, Some(Ipv4Addr::new(127, 0, 1, 1)));
        assert!(refused.client.is_some_and(|c| c.starts_with("OpenSSH_")));

        let injected = "alice from 10.0.0.1 port 22 ssh2";
        assert!(lab.ssh_to_its_end(injected, &from("127.0.1.2")).is_err());
        let refused = lab.refusal_of(injected);
        assert_eq!(refused.why, RefusedFor::UnknownAccount);
        assert_eq!(refused.source, Some(Ipv4Addr::new(127, 0, 1, 2)));

        let keys = lab.key_file("alice");
        let own = std::fs::read_to_string(&keys).expect("there");
        let change = |text: String| std::fs::write(&keys, text).expect("written");
        change(own.replace("from=\"127.0.0.0/8\"", "from=\"192.0.2.0/24\""));
        let said = lab.ssh_to_its_end("alice", &from("127.0.1.3")).expect_err("refused");
        assert!(!said.contains("source") && !said.contains("host)"), "{said}");
        let refused = lab.refusal_of("alice");
        assert_eq!(refused.why, RefusedFor::Source);
        assert!(refused.key.is_some_and(|key| key.starts_with("SHA256:")));

        let expired = "restrict,expiry-time=\"202001010000Z\"";
        change(own.replace("restrict", expired));
        assert!(lab.ssh_to_its_end("alice", &from("127.0.1.4")).is_err());
        lab.eventually("the expiry is heard", || {
            lab.refusals().iter().any(|r| r.why == RefusedFor::Expired)
        });
        change(String::new());
        assert!(lab.ssh_to_its_end("alice", &from("127.0.1.5")).is_err());
        lab.eventually("the unknown key is heard", || {
            lab.refusals().iter().any(|r| r.why == RefusedFor::UnknownKey && r.key.is_some())
        });
        change(own);
        let old = ["-N", "-b", "127.0.1.6", "-o", "KexAlgorithms=diffie-hellman-group14-sha256"];
        assert!(lab.ssh_to_its_end("alice", &old).is_err());
        lab.answer(false);
        assert!(lab.ssh_to_its_end("bob", &from("127.0.1.7")).is_err());
        lab.answer(true);
        assert_eq!(lab.refusal_of("bob").why, RefusedFor::Daemon);
        let mut stranger = TcpStream::connect("127.0.0.1:2222").expect("connected");
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        lab.eventually("the rest is heard", || {
            let all = lab.refusals();
            let heard = |why| all.iter().any(|r| r.why == why);
            heard(RefusedFor::NoAlgorithms) && heard(RefusedFor::NotSsh)
        });
        // Whoever failed too often waits, and that is heard as well.
        std::fs::write(&keys, "").expect("written");
        for _ in 0..8 {
            drop(lab.ssh_to_its_end("alice", &from("127.0.1.8")));
        }
        lab.eventually("a penalty is heard", || {
            lab.refusals().iter().any(|r| {
                r.why == RefusedFor::Penalty && r.source == Some(Ipv4Addr::new(127, 0, 1, 8))
            })
        });
    });
}

#[test]
fn what_a_session_gets_and_does_not_get_is_heard() {
    in_a_box("what_a_session_gets_and_does_not_get_is_heard", || {
        let lab = Lab::new();
        lab.open("alice");
        let forwards = ["-N", "-L", "9000:127.64.0.1:8080", "-L", "9001:127.0.0.1:22"];
        let mut tunnel = lab.ssh("alice", &forwards);
        assert!(tunnel.ask(9000).is_some() && tunnel.ask(9001).is_none());
        for asked in [&["id"][..], &["-N", "-R", "9100:127.0.0.1:22"]] {
            drop(lab.ssh_to_its_end("alice", asked));
        }
        drop(tunnel);
        let denied = |what, to: &str| {
            lab.heard().iter().any(|heard| {
                matches!(heard, Heard::Denied { what: w, target, pid: Some(_), .. }
                    if *w == what && target == to)
            })
        };
        lab.eventually("all of it is heard", || {
            denied(Wanted::Forward, "127.0.0.1:22")
                && denied(Wanted::Session, "")
                && denied(Wanted::RemoteForward, "")
                && lab.heard().iter().any(|heard| {
                    matches!(heard, Heard::Forwarded { target, .. } if target == "127.64.0.1:8080")
                })
                && lab
                    .heard()
                    .iter()
                    .any(|heard| matches!(heard, Heard::Ended { how: EndedBy::Connection, .. }))
        });
        let clients = lab.heard().into_iter().filter(|h| matches!(h, Heard::Client { .. })).count();
        assert_eq!(clients, 3, "each session tells its client");
        assert!(lab.heard().contains(&Heard::Began));
    });
}

#[test]
fn nobody_who_does_not_listen_holds_up_a_login() {
    in_a_box("nobody_who_does_not_listen_holds_up_a_login", || {
        let lab = Lab::new();
        lab.open("alice");
        // The daemon takes nothing, and then the ear itself stands still: sshd writes until no
        // message finds room any more.
        lab.be_deaf(true);
        let ears = lab.ears();
        let ear = ears.first().and_then(|line| line.split_once(' ')).expect("an ear");
        assert_eq!((ears.len(), ear.1), (1, "64106"), "without rights");
        sh(&format!("kill -STOP {}", ear.0));
        for n in 0..600_u32 {
            // From many addresses: the firewall lets one of them make a few.
            let from = Ipv4Addr::from(0x7f00_0201 + n / 8);
            connect_from(from);
        }
        thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        let mut tunnel = lab.ssh("alice", &["-N", "-b", "127.0.1.9", "-L", "9000:127.64.0.1:8080"]);
        assert!(tunnel.ask(9000).is_some());
        println!("a login while nobody listens: {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        // Killed, it is started again; it tells that something may be lost, and hears on.
        sh(&format!("kill -KILL {}", ear.0));
        lab.be_deaf(false);
        lab.eventually("the loss is told", || {
            lab.heard().iter().any(|heard| matches!(heard, Heard::Lost { .. }))
        });
        assert!(tunnel.ask(9000).is_some(), "and all that time the tunnel stands");
        assert!(lab.ssh_to_its_end("nobody-there", &["-N", "-b", "127.0.1.10"]).is_err());
        assert_eq!(lab.refusal_of("nobody-there").why, RefusedFor::UnknownAccount);
    });
}
