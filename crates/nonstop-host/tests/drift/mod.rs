//! What somebody changes by hand on interfaces is told and put right; data domains are made whole.

use crate::net::Net;
use nonstop_host::network::{Beside, Network, namespace};
use nonstop_model::{EnvironmentId, Lab, MachineId, Segment, SegmentKind, SegmentName, Slot};
use nonstop_plan::{FirewallState, ObservedMachine};
use std::collections::{BTreeMap, BTreeSet};

/// A host with an access and a link segment, a running pair on them, and a data domain.
struct Host {
    net: Net,
    network: Network,
    domain: String,
    segments: BTreeSet<SegmentName>,
    machines: BTreeMap<MachineId, ObservedMachine>,
}

impl Host {
    fn new() -> Host {
        let domain = format!("t{}", std::process::id());
        let yaml = format!(
            "version: 1\nname: lab\ndata_domains:\n  {domain}:\n    interface: nsd0\n    \
             network: 10.80.0.0/24\n    servers:\n      pcap: {{address: 10.80.0.2, tcp: [80]}}\n"
        );
        let lab = Lab::parse("lab.yaml", &yaml).expect("valid");
        let host = Host {
            net: Net::new(),
            network: Network::of(&lab),
            domain,
            segments: ["nsb00003", "nsl00003"].map(|name| name.parse().expect("a name")).into(),
            machines: [7, 8]
                .map(|n| {
                    let environment = EnvironmentId(3);
                    (MachineId(n), ObservedMachine { environment, generation: 1 })
                })
                .into(),
        };
        host.net.sh("for i in nsb00003 nsl00003; do ip link add $i type bridge; ip link set $i up
                 for k in arp_ignore=1 arp_announce=2 rp_filter=1 forwarding=0; do
                     sysctl -q net.ipv4.conf.$i.$k; done
                 sysctl -q net.ipv6.conf.$i.disable_ipv6=1; done
             ip addr add 10.77.0.33/28 dev nsb00003
             for i in nst00007:nsb00003 nsk00007:nsl00003 nsk00008:nsl00003; do
                 ip link add ${i%:*} type bridge; ip link del ${i%:*}
                 ip link add ${i%:*} type veth peer name p${i%:*}
                 ip link set ${i%:*} master ${i#*:} up; done
             sysctl -q net.ipv4.conf.nsb00003.forwarding=1");
        let segment = Segment::new(EnvironmentId(3), lab.network.pool, Slot(2)).expect("in it");
        host.network.made(&segment, true);
        host
    }

    fn look(&self) -> Vec<String> {
        let firewall = FirewallState::default();
        let beside =
            Beside { segments: &self.segments, machines: &self.machines, firewall: &firewall };
        self.net.inside(|| self.network.look(beside)).expect("looked")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let name = format!("nonstop-{}", self.domain);
        self.net.sh(&format!("ip netns del {name} || true"));
    }
}

#[test]
fn what_somebody_changes_by_hand_is_told_once_and_put_right() {
    let host = Host::new();
    assert_eq!(host.look(), Vec::<String>::new(), "a data domain is made without a word");
    assert!(namespace(&host.domain).exists());
    assert!(host.net.sh("ip -4 -o addr show dev nsd0").contains("10.80.0.1/24"));
    assert_eq!(host.net.sh("cat /proc/sys/net/ipv4/conf/nsd0/forwarding"), "1\n");
    assert_eq!(host.look(), Vec::<String>::new());
    for (change, tells) in [
        ("ip addr add 172.16.0.9/24 dev nsl00003", "address 172.16.0.9/24 was put on nsl00003"),
        ("ip addr add 192.0.2.1/24 dev nsb00003", "address 192.0.2.1/24 was put on nsb00003"),
        ("ip addr del 10.77.0.33/28 dev nsb00003", "10.77.0.33/28 was taken off nsb00003"),
        ("sysctl -q net.ipv4.conf.nsl00003.arp_ignore=0", "nsl00003.arp_ignore was 0; set to 1"),
        ("sysctl -q net.ipv4.conf.nsl00003.forwarding=1", "nsl00003.forwarding was 1; set to 0"),
        ("sysctl -q net.ipv4.conf.nsb00003.forwarding=0", "nsb00003.forwarding was 0; set to 1"),
        ("sysctl -q net.ipv6.conf.nsl00003.disable_ipv6=0", "disable_ipv6 was 0; set to 1"),
        (
            "ip link add evil type bridge; ip link del evil
             ip link add evil type veth peer name evilp; ip link set evil master nsl00003",
            "evil was put on nsl00003; taken off",
        ),
        ("ip link set evil master nsd0", "evil was put on nsd0; taken off"),
        ("ip link set nsk00008 master nsb00003", "nsk00008 of m8 was on nsb00003; put back"),
        ("ip link set nst00007 nomaster", "nst00007 of m7 was on no bridge; put back"),
        ("ip link del nsd0", "the bridge nsd0 was missing"),
        ("ip link set nsd0 down", "nsd0 was down"),
        ("ip link set nsd0p nomaster", "its servers were not joined to nsd0"),
    ] {
        host.net.sh(change);
        let found = host.look();
        assert!(found.iter().any(|what| what.contains(tells)), "{change}: {found:?}");
        assert_eq!(host.look(), Vec::<String>::new(), "{change}: put right");
    }
    let link = SegmentName::of_kind(SegmentKind::Link, EnvironmentId(3));
    assert!(host.net.sh(&format!("ip -o link show master {link}")).contains("nsk00008"));
}
