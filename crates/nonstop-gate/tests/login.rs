//! The whole login path: stock sshd with our configuration, PAM with our hook, accounts through
//! NSS, the firewall, and the stock ssh client; in namespaces of the test's own. Needs root.

mod audit;
mod crowds;
mod host_key;
mod lab;
mod refusals;

use lab::{Lab, in_a_box};
use nonstop_api::LoginEvent;
use std::{
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_person_forwards_to_what_is_permitted_and_gets_nothing_else() {
    in_a_box("a_person_forwards_to_what_is_permitted_and_gets_nothing_else", || {
        let lab = Lab::new();
        lab.open("alice");
        let mut tunnel = lab.ssh(
            "alice",
            &[
                "-N",
                "-L",
                "9000:127.64.0.1:8080",
                "-L",
                "9001:127.0.0.1:22",
                "-L",
                "9002:127.64.0.2:8080",
            ],
        );
        assert_eq!(tunnel.ask(9000).as_deref(), Some("portal\n"));
        assert_eq!(tunnel.ask(9001), None, "sshd of the host");
        assert_eq!(tunnel.ask(9002), None, "another account's portal");
        assert_eq!(lab.sessions(), [70_001]);
        for refused in [
            &["id"][..],
            &["-tt"],
            &["-s", "sftp"],
            &["-N", "-o", "ExitOnForwardFailure=yes", "-R", "9100:127.0.0.1:22"],
            &["-N", "-o", "ExitOnForwardFailure=yes", "-R", "9101"],
            &["-N", "-o", "ExitOnForwardFailure=yes", "-R", "/run/x:127.0.0.1:22"],
            &["-o", "Tunnel=yes", "-w", "0:0", "-o", "ExitOnForwardFailure=yes", "-N"],
            &["-W", "127.0.0.1:22"],
        ] {
            let output = lab.ssh_to_its_end("alice", refused);
            assert!(output.is_err(), "{refused:?}: {output:?}");
        }
        assert!(tunnel.ask(9000).is_some(), "and all that time the tunnel stands");
        let mut second = lab.ssh("alice", &["-N", "-L", "9003:127.64.0.1:8080"]);
        assert!(second.ask(9003).is_some());
        drop(second);
        drop(tunnel);
        lab.eventually("the session is over", || lab.sessions().is_empty());
        let told: Vec<_> = lab.told().into_iter().take(2).collect();
        assert_eq!(
            told,
            [(LoginEvent::Account, "alice".into()), (LoginEvent::Open, "alice".into())]
        );
        lab.eventually("closing is told", || {
            let told = lab.told();
            let count = |event| told.iter().filter(|(e, _)| *e == event).count();
            count(LoginEvent::Open) == count(LoginEvent::Close)
        });
    });
}

#[test]
fn nobody_gets_in_without_the_daemons_word() {
    in_a_box("nobody_gets_in_without_the_daemons_word", || {
        let lab = Lab::new();
        lab.open("alice");
        lab.answer(false);
        assert!(lab.ssh_to_its_end("alice", &["-N"]).is_err());
        lab.stop_answering();
        assert!(lab.ssh_to_its_end("alice", &["-N"]).is_err());
        lab.answer(true);
        lab.ssh("alice", &["-N", "-L", "9000:127.64.0.1:8080"]).ask(9000).expect("back again");
    });
}

#[test]
fn a_session_that_cannot_be_recorded_is_ended() {
    in_a_box("a_session_that_cannot_be_recorded_is_ended", || {
        let lab = Lab::new();
        lab.open("alice");
        lab.answer_but_not_opening();
        let begun = Instant::now();
        let output = lab.ssh_to_its_end("alice", &["-N", "-L", "9000:127.64.0.1:8080"]);
        assert!(output.is_err() && begun.elapsed() < Duration::from_secs(4), "{output:?}");
        assert!(lab.sessions().is_empty());
    });
}

#[test]
fn users_of_the_host_and_strangers_do_not_get_in() {
    in_a_box("users_of_the_host_and_strangers_do_not_get_in", || {
        let lab = Lab::new();
        lab.open("alice");
        for user in ["root", "games", "bob"] {
            // A key file that somebody put there by hand is not readable by that user's group.
            lab.write_key_of("alice", user);
            assert!(lab.ssh_to_its_end(user, &["-N"]).is_err(), "{user}");
        }
        let e = lab.try_open("games", 70_005).expect_err("a user of the host");
        assert!(e.contains("already: games:x:5"), "{e}");
        assert!(!lab.key_file("games").exists());
        let e = lab.try_open("carol", 70_001).expect_err("alice's uid");
        assert!(e.contains("alice"), "{e}");
        assert!(lab.try_open("carol", 1000).is_err());
        assert_eq!(lab.accounts(), ["alice"]);
        lab.ssh("alice", &["-N", "-L", "9000:127.64.0.1:8080"]).ask(9000).expect("she does");
    });
}

#[test]
fn closing_ends_what_is_open_and_leaves_other_sessions_alone() {
    in_a_box("closing_ends_what_is_open_and_leaves_other_sessions_alone", || {
        let mut lab = Lab::new();
        lab.open("alice");
        lab.open("bob");
        let mut alice = lab.ssh("alice", &["-N", "-L", "9000:127.64.0.1:8080"]);
        let mut bob = lab.ssh("bob", &["-N", "-L", "9001:127.64.0.2:8080"]);
        let mut foreign = lab.foreign_session(9002);
        assert!(
            alice.ask(9000).is_some() && bob.ask(9001).is_some() && foreign.ask(9002).is_some()
        );
        assert_eq!(lab.sessions(), [70_001, 70_002]);
        let mut held = alice.hold(9000);
        let begun = Instant::now();
        lab.close("alice");
        println!("closing with one session open: {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(held.is_cut(), "the forwarded connection");
        assert_eq!(lab.sessions(), [70_002]);
        assert_eq!(lab.accounts(), ["bob"]);
        assert!(lab.ssh_to_its_end("alice", &["-N"]).is_err());
        assert!(bob.ask(9001).is_some() && foreign.ask(9002).is_some());
        lab.close("alice");
    });
}

#[test]
fn one_session_ends_and_others_of_the_same_person_go_on() {
    in_a_box("one_session_ends_and_others_of_the_same_person_go_on", || {
        let lab = Lab::new();
        lab.open("alice");
        let mut first = lab.ssh("alice", &["-N", "-L", "9000:127.64.0.1:8080"]);
        let mut held = first.hold(9000);
        let leader = lab.leaders(70_001)[0];
        let mut second = lab.ssh("alice", &["-N", "-L", "9001:127.64.0.1:8080"]);
        assert!(second.ask(9001).is_some());
        let begun = Instant::now();
        lab.gate().end_session(leader, 70_001).expect("ended");
        println!("ending one of two: {:?}", begun.elapsed());
        assert!(held.is_cut(), "its forwarded connection");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(second.ask(9001).is_some(), "the other goes on");
        assert_eq!(lab.leaders(70_001).len(), 1);
        lab.gate().end_session(leader, 70_001).expect("it can be repeated");
    });
}

#[test]
fn a_login_inside_its_hook_is_ended_too() {
    in_a_box("a_login_inside_its_hook_is_ended_too", || {
        let lab = Lab::new();
        lab.open("alice");
        for event in [LoginEvent::Account, LoginEvent::Open] {
            lab.hang_at(event);
            let login = lab.ssh("alice", &["-N", "-L", "9000:127.64.0.1:8080"]);
            lab.eventually("the hook is asked", || lab.told().last().is_some_and(|t| t.0 == event));
            assert_eq!(lab.sessions(), [70_001], "{event:?}");
            let begun = Instant::now();
            lab.gate().end_sessions(70_001).expect("ended");
            println!("ending a login in the hook at {event:?}: {:?}", begun.elapsed());
            assert!(lab.sessions().is_empty(), "{event:?}");
            lab.answer(true);
            thread::sleep(Duration::from_millis(300));
            assert!(lab.sessions().is_empty(), "nothing of it comes after {event:?}");
            drop(login);
            lab.forget_told();
        }
    });
}

#[test]
fn many_sessions_end_together() {
    in_a_box("many_sessions_end_together", || {
        let lab = Lab::new();
        lab.open("alice");
        let mut tunnels: Vec<_> = (0..12)
            .map(|n| {
                (
                    9000 + n,
                    lab.ssh("alice", &["-N", "-L", &format!("{}:127.64.0.1:8080", 9000 + n)]),
                )
            })
            .collect();
        for (port, tunnel) in &mut tunnels {
            assert!(tunnel.ask(*port).is_some());
        }
        let begun = Instant::now();
        lab.gate().end_sessions(70_001).expect("ended");
        println!("ending 12 sessions: {:?}", begun.elapsed());
        assert!(lab.sessions().is_empty());
    });
}

#[test]
fn what_was_tampered_with_is_seen_and_written_anew() {
    in_a_box("what_was_tampered_with_is_seen_and_written_anew", || {
        let lab = Lab::new();
        let gate = lab.gate();
        for change in [
            "echo >> /run/nonstop/gate/keys/alice",
            "sed -i s/restrict/no-pty/ /run/nonstop/gate/keys/alice",
            "chmod 644 /run/nonstop/gate/keys/alice",
            "chown 70001 /run/nonstop/gate/keys/alice",
            "rm /run/nonstop/gate/keys/alice",
            "rm /run/userdb/70001.user",
            "rm /run/userdb/alice.group",
            "rm /run/nonstop/gate/uids/alice",
        ] {
            lab.open("alice");
            assert_eq!(lab.accounts(), ["alice"]);
            lab::sh(change);
            let seen = gate.observe().expect("observed");
            assert!(seen.accounts.is_empty(), "{change}");
            assert_eq!(seen.broken.len(), 1, "{change}");
        }
        lab.close("alice");
        let seen = gate.observe().expect("observed");
        assert!(seen.accounts.is_empty() && seen.broken.is_empty(), "{seen:?}");
        assert_eq!(lab::sh("ls -A /run/userdb /run/nonstop/gate/keys | grep -v : | wc -w"), "0\n");
    });
}

#[test]
fn a_missing_hook_is_refused() {
    in_a_box("a_missing_hook_is_refused", || {
        let lab = Lab::new();
        let pam = "/etc/pam.d/nonstop-sshd";
        let good = std::fs::read_to_string(pam).expect("there");
        for bad in [
            "",
            "account required pam_permit.so\n",
            &good.replace("account  required  pam_exec", "account  optional  pam_exec"),
        ] {
            std::fs::write(pam, bad).expect("written");
            let e = lab.gate().prepare().expect_err("refused");
            assert!(e.help.contains("install systemd/pam.d/nonstop-sshd"), "{e}");
        }
        std::fs::remove_file(pam).expect("removed");
        let e = lab.gate().prepare().expect_err("refused");
        assert!(e.to_string().contains("check the gateway's PAM service"), "{e}");
    });
}

/// Prints what each act costs; the limits are far above, for a busy machine.
#[test]
fn a_hundred_accounts_are_opened_and_seen_quickly() {
    in_a_box("a_hundred_accounts_are_opened_and_seen_quickly", || {
        let lab = Lab::new();
        let begun = Instant::now();
        for n in 1..=100 {
            lab.try_open(&format!("person{n}"), 70_100 + n).expect("opened");
        }
        let each = begun.elapsed() / 100;
        let begun = Instant::now();
        assert_eq!(lab.accounts().len(), 100);
        let observed = begun.elapsed();
        println!("opening one: {each:?}; observing 100: {observed:?}");
        assert!(each < Duration::from_millis(200) && observed < Duration::from_secs(1));
    });
}
