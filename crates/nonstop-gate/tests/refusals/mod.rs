//! The table of refusals at the real sshd, with a played daemon: what the client sees, and what the ear
//! tells. What becomes of that in a real lab's trace: `tests/lab/refusals.rs`.

use crate::lab::{Lab, in_a_box, sh};
use nonstop_api::heard::{Heard, RefusedFor};
use nonstop_testkit::{
    place::Place,
    refusals::{
        DENIED,
        Hears::{Denied, Nothing, Refused},
        INSIDE, OUTSIDE, Row, UNKNOWN_ACCOUNT, attempt,
    },
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

const GATE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2222);

/// Tries each row from an address of its own; gives what was not refused as it should be.
fn try_all(lab: &Lab, net: u8, rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let (what, _, _, hears) = row;
        let from = Ipv4Addr::new(127, 0, net, n as u8 + 1);
        let before = lab.heard().len();
        let tried = attempt(row, &Place::here(), lab.folder(), from, GATE).expect("tried");
        let heard = lab.within(Duration::from_secs(3), || {
            let heard = lab.heard();
            let mut new = heard.iter().skip(before);
            match hears {
                Nothing => true,
                Denied(wanted) => {
                    new.any(|h| matches!(h, Heard::Denied { what, .. } if what == wanted))
                }
                Refused(why) => new.any(|h| matches!(h, Heard::Refused(r) if r.why == *why)),
            }
        });
        println!("{what:34} {} {hears:?}", tried.said.trim().lines().last().unwrap_or_default());
        if !tried.refused || !heard {
            let heard: Vec<_> = lab.heard().into_iter().skip(before).collect();
            wrong.push(format!("{what}: {}\n    heard {heard:?}", tried.said));
        }
    }
    wrong
}

/// Keys of a stranger, of another account, of kinds that are refused; a certificate.
fn keys(lab: &Lab) {
    sh(&format!(
        "cd {}
         for k in stranger bobs certified ca; do ssh-keygen -q -t ed25519 -N '' -f $k; done
         ssh-keygen -q -s ca -I alice -n alice certified.pub
         ssh-keygen -q -t rsa -b 1024 -N '' -f rsa1024; ssh-keygen -q -t rsa -b 2048 -N '' -f rsa
         keys=/run/nonstop/gate/keys
         for k in rsa1024 rsa; do
             sed -n \"s|ssh-ed25519.*|$(cut -d' ' -f1,2 $k.pub)|p\" $keys/alice > line; cat line >> $keys/alice
             sed -i '/^$/d' $keys/alice; done
         sed -i \"s|ssh-ed25519 [^ ]*$|$(cut -d' ' -f1,2 bobs.pub)|\" $keys/bob",
        lab.folder().display()
    ));
}

#[test]
fn a_session_forwards_to_its_own_targets_and_whatever_else_it_asks_for_is_refused_and_heard() {
    in_a_box(
        "refusals::a_session_forwards_to_its_own_targets_and_whatever_else_it_asks_for_is_refused_and_heard",
        || {
            let lab = Lab::new();
            lab.open("alice");
            lab.open("bob");
            let mut own = lab.ssh("alice", &["-N", "-L", "9000:127.64.0.1:8080"]);
            assert!(own.ask(9000).is_some());
            let wrong = try_all(&lab, 2, INSIDE);
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            assert!(own.ask(9000).is_some(), "and all that time the tunnel stands");
        },
    );
}

#[test]
fn who_has_not_the_key_the_address_or_the_algorithms_is_refused_and_heard() {
    in_a_box(
        "refusals::who_has_not_the_key_the_address_or_the_algorithms_is_refused_and_heard",
        || {
            let lab = Lab::new();
            lab.open("alice");
            lab.open("bob");
            keys(&lab);
            let mut wrong = try_all(&lab, 3, OUTSIDE);
            let daemons: &[Row] = &[(
                "suspended just now",
                "alice -N",
                "Connection closed",
                Refused(RefusedFor::Daemon),
            )];
            lab.answer(false);
            wrong.extend(try_all(&lab, 4, daemons));
            lab.answer(true);
            // The key line is the second wall of address and time.
            let keys = lab.key_file("alice");
            let own = std::fs::read_to_string(&keys).expect("there");
            for (net, change, why) in [
                (
                    5,
                    own.replace("from=\"127.0.0.0/8\"", "from=\"192.0.2.0/24\""),
                    RefusedFor::Source,
                ),
                (
                    6,
                    own.replace("restrict", "restrict,expiry-time=\"202001010000Z\""),
                    RefusedFor::Expired,
                ),
                (7, String::new(), RefusedFor::UnknownKey),
            ] {
                std::fs::write(&keys, change).expect("written");
                wrong.extend(try_all(
                    &lab,
                    net,
                    &[("by its key line", "alice -N", DENIED, Refused(why))],
                ));
            }
            // The kernel is the first: nothing of it comes to sshd.
            sh("ip addr add 192.0.2.9/32 dev lo");
            let elsewhere =
                "O=\"$O -o BindAddress=192.0.2.9\"; ssh_ -b 192.0.2.9 -i id -l alice -N";
            wrong.extend(try_all(&lab, 8, &[("another address", elsewhere, "timed out", Nothing)]));
            let refused = lab.firewall().refused().expect("asked");
            assert!(
                refused
                    .iter()
                    .any(|one| one.source == Ipv4Addr::new(192, 0, 2, 9) && !one.registered)
            );
            lab.close("alice");
            let gone = ("suspended, revoked, removed", "alice -N", DENIED, UNKNOWN_ACCOUNT);
            wrong.extend(try_all(&lab, 9, &[gone]));
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            // DSA is none of this OpenSSH's: nobody can try it, and nothing allows it.
            let allowed =
                sh("/usr/sbin/sshd -T -f /run/nonstop/gate/sshd_config | grep -i algorithms");
            assert!(!allowed.contains("dss") && !allowed.contains("ssh-rsa"), "{allowed}");
        },
    );
}
