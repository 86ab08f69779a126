//! The same lab probed: frames are sent from its machines' places, and must end where the proof says.

use crate::lab::pair::Pair;
use nonstop_reach::{
    observe::Network,
    probe::{Canary, Order, Report},
};
use nonstop_testkit::net::Namespace;
use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A lab whose machines are canaries, with servers that answer.
struct Probed {
    pair: Pair,
    order: Order,
    _folder: tempfile::TempDir,
    children: Vec<Child>,
}

impl Drop for Probed {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ended_already = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn start(net: &Namespace, line: &str) -> Child {
    let words: Vec<&str> = line.split_whitespace().collect();
    Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", net.holder()))
        .arg("--")
        .args(&words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nsenter")
}

impl Probed {
    fn new() -> Probed {
        let pair = Pair::new();
        let folder = tempfile::tempdir().expect("a folder");
        let mut children = Vec::new();
        let guests = &pair.lab.guests;
        // The servers' addresses are among the guests' ends, where nobody else has one.
        for line in [
            "sysctl -qw net.ipv4.conf.all.arp_ignore=1",
            "ip link set lo up",
            "ip address add 10.99.0.10/24 dev gnsd0",
            "ip address add 10.99.0.20/24 dev gnsd0",
            "ip route add 10.77.0.0/16 via 10.99.0.1",
        ] {
            guests.place().line(line).expect(line);
        }
        children.push(start(guests, "socat TCP-LISTEN:80,fork,reuseaddr OPEN:/dev/null"));
        let host = &pair.lab.host;
        children.push(start(host, "socat TCP-LISTEN:8080,fork,reuseaddr OPEN:/dev/null"));
        let mut dnsmasq = "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --local=/#/ \
             --bind-interfaces --user=root --host-record=reports,10.99.0.10 --host-record=pcap,10.99.0.20"
            .to_string();
        dnsmasq += &format!(" --dhcp-leasefile={}", folder.path().join("leases").display());
        let mut canaries = Vec::new();
        for machine in &pair.wanted.machines {
            let mut guns = Vec::new();
            for card in &machine.cards {
                let socket = folder.path().join(&card.tap);
                guests
                    .place()
                    .line(&format!("ip link set g{} arp off", card.tap))
                    .expect("arp off");
                let line = format!(
                    "socat -u -b 65536 UNIX-LISTEN:{} INTERFACE:g{}",
                    socket.display(),
                    card.tap
                );
                children.push(start(guests, &line));
                guns.push(socket);
                if let Some(address) = card.address {
                    let net = u32::from(address) & !15;
                    let net = std::net::Ipv4Addr::from(net);
                    dnsmasq += &format!(
                        " --interface={} --dhcp-range={net},static --dhcp-host={},{address}",
                        card.segment, card.mac
                    );
                }
            }
            canaries.push(Canary { machine: machine.name.clone(), guns });
        }
        children.push(start(host, &dnsmasq));
        std::thread::sleep(Duration::from_millis(800));
        let order = Order { wanted: pair.wanted.clone(), canaries, domains: Vec::new() };
        Probed { pair, order, _folder: folder, children }
    }

    fn probe(&self) -> Report {
        let network = Network::Of(self.pair.lab.host.holder());
        nonstop_probe::run(&self.order, network, &mut |_| {}).expect("probed")
    }
}

#[test]
fn a_probe_finds_each_cell_as_the_proof_does() {
    let probed = Probed::new();
    let report = probed.probe();
    println!("{}", report.table());
    assert!(report.holds, "{:#?}\n{:#?}", report.differences, report.not_shown);
    assert_eq!(
        report.denied, report.controlled,
        "each denied frame arrives where nothing closes it"
    );
}

/// Sabotages a lab and returns what the probe says.
fn found(sabotage: impl FnOnce(&Pair)) -> String {
    let probed = Probed::new();
    sabotage(&probed.pair);
    let report = probed.probe();
    assert!(!report.holds, "it was not found");
    [report.differences, report.not_shown].concat().join("\n")
}

#[track_caller]
fn says(found: &str, what: &[&str]) {
    for what in what {
        assert!(found.contains(what), "`{what}` is not in:\n{found}");
    }
}

#[test]
fn a_probe_finds_a_blanket_accept_and_a_missing_rule_against_spoofing() {
    let found = found(|pair| {
        pair.lab.nft("insert rule inet nonstop forward accept");
        pair.lab.nft("insert rule bridge nonstop from_machine accept");
        pair.lab.nft("flush chain bridge nonstop from_link");
    });
    says(
        &found,
        &[
            "macro 1 on nsb00002, tcp 10.77.0.34:22: came to macro 2, which is not allowed",
            "macro 1 on nsb00002, tcp 10.99.0.10:80: came to reports, which is not allowed",
            "macro 1 on nsb00002, ping 10.77.0.34 as 52:54:00:00:00:03: came to macro 2",
            "micro debuggee on nsl00001, ethertype 0x88b5 as 56:54:00:00:00:01: came to micro debugger",
        ],
    );
}

#[test]
fn a_probe_finds_a_debuggee_that_the_host_answers_and_a_tap_on_the_wrong_bridge() {
    let found = found(|pair| {
        pair.lab.nft("delete table bridge nonstop");
        pair.lab.nft("delete table arp nonstop");
        pair.lab.ip("sysctl -qw net.ipv4.conf.nsl00001.arp_ignore=0");
        pair.lab.ip("ip link set nst00004 master nsb00003");
    });
    says(
        &found,
        &[
            "micro debuggee on nsl00001, arp for 10.77.0.17 from nobody: came to host, which is not allowed",
            "macro 2 on nsb00003, ethertype 0x88b5: came to static, which is not allowed",
            "static on nsb00004, tcp 10.99.0.10:80: is allowed and opened no connection",
        ],
    );
}
