//! A lab with every template, as it should be, and sabotaged in every way that must be found.

use crate::lab::pair::Pair;
use nonstop_host::shaping::Shaper;
use nonstop_model::{EnvironmentId, SegmentName};
use nonstop_plan::{Desk, Shaping};
use nonstop_reach::wanted::Reach;
use std::{fs::File, io::ErrorKind, net::UdpSocket, os::fd::AsFd, thread};

#[test]
fn what_is_allowed_gets_through_and_nothing_else() {
    let pair = Pair::new();
    let proof = pair.prove();
    println!("{}", proof.table());
    assert!(proof.holds, "{:#?}\n{:#?}", proof.differences, proof.not_proven);
    // Without the rules that decide: those change more often than what they are for.
    let open: Vec<String> = proof
        .cells
        .iter()
        .map(|cell| format!("{} to {}, {}: {}", cell.from, cell.to, cell.what, cell.reachable))
        .collect();
    insta::assert_snapshot!(open.join("\n"));
    // Every sender to every other machine and server, the host and elsewhere, kind by kind; the
    // domain and the host's own programs to every machine.
    assert!(proof.count() > 600, "{} cells", proof.count());
    let decided = proof.closed.iter().filter(|c| c.rule.contains("bridge nonstop from_link"));
    assert!(decided.count() > 0, "no cell is closed by the rule against spoofing on links");
}

#[test]
fn nothing_leads_from_one_edition_to_anothers_servers() {
    let mut pair = Pair::new();
    // A machine of none, as the debuggee is here, is beside the servers of both.
    let rows = pair.prove().between;
    let rows: Vec<_> = rows.iter().map(|b| (b.from.as_deref(), &*b.to, b.machines)).collect();
    assert_eq!(
        rows,
        [(None, "intermediate", 1), (None, "mws", 1), (Some("intermediate"), "mws", 4)]
    );
    pair.wanted.machines[4].edition = Some("intermediate".into());
    let proof = pair.prove();
    let [between] = &proof.between[..] else { panic!("{:?}", proof.between) };
    assert_eq!((between.from.as_deref(), &*between.to), (Some("intermediate"), "mws"));
    assert_eq!((between.machines, between.servers, between.open), (5, 1, 0));
    let kinds = between.cells / 5;
    assert!(kinds > 8 && between.cells == 5 * kinds, "each machine, every kind: {between:?}");
    assert!(proof.table().contains("BETWEEN EDITIONS"), "{}", proof.table());

    // By hand: the kernel lets it through, and that is told of the machine and of the editions.
    pair.lab.nft(
        "add element inet nonstop reach { nsb00002 . 10.77.0.18 . 10.99.0.30 . tcp . 80 timeout 1h }",
    );
    pair.lab.nft(
        "add element bridge nonstop reach { nst00002 . 10.77.0.18 . 10.99.0.30 . tcp . 80 timeout 1h }",
    );
    let proof = pair.prove();
    says(
        &proof.differences.join("\n"),
        &["macro 1 to mws pcap, tcp: allowed -, gets through tcp 80"],
    );
    assert!(proof.between[0].open > 0 && proof.table().contains("NOT CLOSED"), "{}", proof.table());

    // By the lab itself: then kernel and rights agree, and it is wrong all the same.
    let right = pair.wanted.machines[1].reach[0].port;
    let address = pair.wanted.servers[2].address;
    pair.wanted.machines[1].reach.push(Reach { address, port: right });
    let proof = pair.prove();
    assert!(!proof.holds);
    says(
        &proof.differences.join("\n"),
        &["macro 1 of edition intermediate has a right to mws pcap of another"],
    );
}

#[test]
fn limits_of_bandwidth_leave_a_proof_as_it_was() {
    let pair = Pair::new();
    let before = pair.prove();
    let address = "10.77.0.2".parse().expect("an address");
    let segment = SegmentName::of(EnvironmentId(1));
    let shaping = Shaping {
        limits: [(70_001, Some(10_000)), (70_002, None)].into(),
        desks: [Desk { segment, address, port: 3389, uid: 70_001 }].into(),
    };
    let network = format!("/proc/{}/ns/net", pair.lab.host.holder());
    let limit = || {
        let network = File::open(network).expect("the host's network");
        rustix::thread::move_into_link_name_space(network.as_fd(), None).expect("entered");
        Shaper::default().apply(&shaping).expect("limited");
    };
    thread::scope(|scope| scope.spawn(limit).join().expect("no panic"));
    let proof = pair.prove();
    assert!(proof.holds, "{:#?}\n{:#?}", proof.differences, proof.not_proven);
    // The device is one more interface that nothing may leave by.
    assert!(proof.count() > before.count(), "{} after {}", proof.count(), before.count());
}

#[test]
fn a_machine_that_is_off_keeps_its_rights_and_alarms_nobody() {
    let mut pair = Pair::new();
    pair.wanted.machines[0].running = false;
    pair.lab.ip("ip link del nst00001");
    pair.lab.ip("ip link del nsk00001");
    let proof = pair.prove();
    assert!(proof.holds, "{:#?}\n{:#?}", proof.differences, proof.not_proven);
    let of_it =
        proof.cells.iter().filter(|c| [&c.from, &c.to].iter().any(|n| *n == "micro debugger"));
    assert_eq!(of_it.count(), 0);
}

#[test]
fn a_machine_without_rights_says_nothing() {
    let mut pair = Pair::new();
    pair.wanted.machines[1].mute = true;
    let proof = pair.prove();
    let found = proof.differences.join("\n");
    assert!(found.contains("macro 1 to pcap, tcp: allowed -, gets through tcp 80"), "{found}");
}

/// Sabotages a lab and returns what the proof says.
fn found(sabotage: impl FnOnce(&Pair)) -> String {
    let pair = Pair::new();
    sabotage(&pair);
    let proof = pair.prove();
    assert!(!proof.holds, "it was not found\n{}", proof.table());
    [proof.differences, proof.not_proven].concat().join("\n")
}

#[track_caller]
fn says(found: &str, what: &[&str]) {
    for what in what {
        assert!(found.contains(what), "`{what}` is not in:\n{found}");
    }
}

#[test]
fn a_blanket_accept() {
    let found = found(|pair| {
        pair.lab.nft("insert rule inet nonstop forward accept");
        pair.lab.nft("insert rule bridge nonstop from_machine accept");
    });
    says(
        &found,
        &[
            "inet nonstop forward has a rule that is not ours: accept",
            "macro 1 to macro 2, tcp: allowed -, gets through tcp all (inet nonstop forward #1: accept)",
            "macro 1 to reports, tcp: allowed -, gets through tcp all",
            "data domain nsd0 to macro 1, tcp: allowed -, gets through tcp all",
            "macro 1 to elsewhere, icmp",
        ],
    );
}

#[test]
fn a_missing_rule_against_spoofing() {
    let found = found(|pair| {
        pair.lab.nft("flush chain bridge nonstop from_link");
        pair.lab.nft("flush chain bridge nonstop from_machine");
    });
    says(
        &found,
        &[
            "lacks the rule",
            "macro 1 to host, spoofed mac",
            "micro debuggee to micro debugger, spoofed mac",
        ],
    );
}

#[test]
fn a_debuggees_tap_on_an_access_bridge() {
    let found = found(|pair| pair.lab.ip("ip link set nsk00005 master nsb00002"));
    says(&found, &["nsk00005 of micro debuggee is on nsb00002, and belongs on nsl00001"]);
    says(&found, &["micro debuggee to micro debugger, tcp: allowed tcp all, gets through -"]);
}

#[test]
fn an_address_on_a_link_bridge() {
    let found = found(|pair| pair.lab.ip("ip address add 10.5.5.1/24 dev nsl00001"));
    says(&found, &["address 10.5.5.1/24 on the link bridge nsl00001"]);
}

#[test]
fn arp_ignore_set_back() {
    let found = found(|pair| pair.lab.ip("sysctl -qw net.ipv4.conf.nsl00001.arp_ignore=0"));
    says(&found, &["arp_ignore of nsl00001 is 0, and should be 1"]);
}

#[test]
fn a_reach_element_too_many() {
    let found = found(|pair| {
        let more = "10.77.0.18 . 10.99.0.10 . tcp . 80";
        pair.lab.nft(&format!("add element inet nonstop reach {{ nsb00002 . {more} }}"));
        pair.lab.nft(&format!("add element bridge nonstop reach {{ nst00002 . {more} }}"));
    });
    says(
        &found,
        &[
            "set inet nonstop reach holds { nsb00002 . 10.77.0.18 . 10.99.0.10 . tcp . 80 }",
            "macro 1 to reports, tcp: allowed -, gets through tcp 80 (inet nonstop",
        ],
    );
}

#[test]
fn a_reach_element_too_few() {
    let found = found(|pair| {
        let less = "nsb00002 . 10.77.0.18 . 10.99.0.20 . tcp . 80";
        pair.lab.nft(&format!("delete element inet nonstop reach {{ {less} }}"));
    });
    says(
        &found,
        &[
            "set inet nonstop reach lacks { nsb00002",
            "macro 1 to pcap, tcp: allowed tcp 80, gets through -",
        ],
    );
}

#[test]
fn our_bridge_table_gone() {
    let found = found(|pair| pair.lab.nft("delete table bridge nonstop"));
    says(&found, &["table bridge nonstop is missing", "micro debuggee to host"]);
}

#[test]
fn a_port_too_many() {
    let found = found(|pair| pair.lab.tap("evil0", "nsl00001", "02:00:00:00:00:66"));
    says(&found, &["unknown port evil0 on nsl00001"]);
}

#[test]
fn another_firewall_that_closes_what_is_allowed() {
    let found = found(|pair| {
        pair.lab.nft(
            "table ip docker {\nchain forward { type filter hook forward priority 5; policy drop; }\n}",
        );
    });
    says(
        &found,
        &["macro 1 to pcap, tcp: allowed tcp 80, gets through - (ip docker forward policy drop)"],
    );
}

#[test]
fn another_firewall_that_accepts_opens_nothing() {
    let pair = Pair::new();
    pair.lab.nft(
        "table inet other {
            chain forward { type filter hook forward priority -5; policy accept; accept; }
            chain input { type filter hook input priority -5; policy accept; ct state established accept; }
        }",
    );
    let proof = pair.prove();
    assert!(proof.holds, "{:#?}\n{:#?}", proof.differences, proof.not_proven);
}

#[test]
fn a_rule_that_is_not_known_here_proves_nothing() {
    let found = found(|pair| {
        pair.lab.nft("insert rule inet nonstop forward meta cgroup 5 accept");
        pair.lab.nft("insert rule bridge nonstop from_machine accept");
    });
    says(&found, &["not known here: ", "macro 1 to macro 2, tcp: "]);
}

#[test]
fn the_way_past_the_rules_of_bridges() {
    // Frames to 01:80:c2:00:00:0e come up as packets of the tap.
    let found = found(|pair| {
        pair.lab.nft("flush chain inet nonstop input; flush chain arp nonstop input");
    });
    says(
        &found,
        &[
            "micro debuggee to host, arp: allowed -, gets through yes",
            "micro debuggee to host, udp",
        ],
    );
}

#[test]
fn answers_of_a_display_stay_on_the_loopback() {
    let pair = Pair::new();
    pair.lab.nft("add element inet nonstop desktop { 20001 . 127.128.0.2 . 3389 }");
    pair.lab.nft("add element inet nonstop desktop_replies { 127.128.0.2 . 3389 }");
    let sent = || {
        let host = File::open(format!("/proc/{}/ns/net", pair.lab.host.holder())).expect("a host");
        let send = move || {
            rustix::thread::move_into_link_name_space(host.as_fd(), None).expect("root");
            let socket = UdpSocket::bind("127.128.0.2:3389").expect("an address of the loopback");
            socket.send_to(b"answer", "10.77.0.18:9").map_err(|e| e.kind())
        };
        thread::spawn(send).join().expect("no panic")
    };
    let proof = pair.prove();
    assert!(proof.holds, "{:#?}\n{:#?}", proof.differences, proof.not_proven);
    assert_eq!(sent(), Err(ErrorKind::InvalidInput), "the kernel has no route for it");
    pair.lab.ip("sysctl -qw net.ipv4.conf.nsb00002.route_localnet=1");
    assert_eq!(sent(), Err(ErrorKind::PermissionDenied), "now it is for the rules to say");
    says(
        &pair.prove().differences.join("\n"),
        &["host to macro 1, answers: ", "gets through tcp 53,3389,8080"],
    );
}

#[test]
fn a_right_that_lasts_for_ever_or_longer_than_its_lease() {
    let mut pair = Pair::new();
    let set = pair.wanted.sets.iter_mut().find(|set| set.family == "inet" && set.name == "reach");
    let set = set.expect("a set of rights");
    set.lease_seconds = Some(3600);
    let elements: Vec<String> = set.elements.iter().cloned().collect();
    let change = |element: &str, end: &str| {
        pair.lab.nft(&format!("delete element inet nonstop reach {{ {element} }}"));
        pair.lab.nft(&format!("add element inet nonstop reach {{ {element} {end} }}"));
    };
    elements.iter().for_each(|element| change(element, "timeout 1h"));
    assert!(pair.prove().holds, "{:?}", pair.prove().differences);
    change(&elements[0], "timeout 100d");
    change(&elements[1], "");
    let found = pair.prove().differences.join("\n");
    let (long, endless) = (&elements[0], &elements[1]);
    says(
        &found,
        &[
            &format!(
                "set inet nonstop reach holds {{ {long} }} for 8640000 s, and a lease is 3600 s"
            ),
            &format!(
                "set inet nonstop reach holds {{ {endless} }} for ever, and a lease is 3600 s"
            ),
        ],
    );
}

#[test]
fn a_table_of_routes_that_is_chosen_by_more_than_the_target() {
    let found = found(|pair| pair.lab.ip("ip rule add from 10.77.0.18 lookup 55"));
    says(&found, &["not evaluated: a rule of priority 32765 that chooses table 55"]);
}
