//! The gateway's host key is changed under the stock client, which notices nothing.

use crate::lab::{Lab, in_a_box};
use std::fs;

#[test]
fn the_host_key_stays_and_whoever_logs_in_while_it_is_changed_knows_both() {
    in_a_box(
        "host_key::the_host_key_stays_and_whoever_logs_in_while_it_is_changed_knows_both",
        || {
            let lab = Lab::new();
            lab.open("alice");
            let keys = lab.host_keys();
            let first = keys.show().expect("there");
            assert!(
                first.current.starts_with("ssh-ed25519 AAAA") && first.next.is_none(),
                "{first:?}"
            );
            lab.gate().prepare().expect("again");
            assert_eq!(keys.show().expect("there"), first);
            assert!(!keys.finish().expect("nothing to finish"));
            let (known, absent) = (
                lab.known_hosts("known", &first.current),
                lab.known_hosts("absent", &first.current),
            );
            let mut open = lab.ssh("alice", &["-N", "-L", "9000:127.64.0.1:8080"]);
            assert!(open.ask(9000).is_some());

            let both = keys.rotate().expect("begun");
            let next = both.next.clone().expect("a next one").0;
            assert_eq!(both.current, first.current);
            assert_eq!(
                keys.rotate().expect("begun before"),
                both,
                "once begun it stays the same key"
            );
            assert!(open.ask(9000).is_some(), "what is open goes on");
            // The client is shown the key that it knows, and told of the next.
            lab.eventually("a client that knows the current key logs in", || {
                lab.logs_in_knowing("alice", &known)
            });
            let learnt = fs::read_to_string(&known).expect("there");
            assert!(learnt.contains(&first.current) && learnt.contains(&next), "{learnt}");

            assert!(keys.finish().expect("finished"));
            let after = keys.show().expect("there");
            assert_eq!((after.current.clone(), after.next), (next, None));
            lab.eventually("the new key is shown", || lab.shown_host_key() == after.current);
            assert!(lab.logs_in_knowing("alice", &known), "who was told notices nothing");
            assert!(!lab.logs_in_knowing("alice", &absent), "who was not turns away");
            lab.gate().prepare().expect("at the next start");
            assert_eq!(keys.show().expect("there").current, after.current);
            assert!(open.ask(9000).is_some(), "what is open goes on");
        },
    );
}

#[test]
fn a_daemon_that_died_in_the_middle_of_a_change_finishes_what_it_began() {
    in_a_box(
        "host_key::a_daemon_that_died_in_the_middle_of_a_change_finishes_what_it_began",
        || {
            let lab = Lab::new();
            let keys = lab.host_keys();
            let next = keys.rotate().expect("begun").next.expect("a next one").0;
            // Killed when the private key was in its place, and nothing else done yet.
            let state = "/run/state/gate/ssh_host_ed25519_key";
            fs::rename(format!("{state}.next"), state).expect("moved");
            lab.gate().prepare().expect("the next daemon");
            assert_eq!(keys.show().expect("there").current, next);
            lab.eventually("sshd was told", || lab.shown_host_key() == next);
        },
    );
}
