//! Random labs, random rules, random packets: what the evaluator says is what the kernel does.
//!
//! Real bridges, veth pairs and nft in namespaces of their own. Each packet is sent as a raw frame
//! by one machine; what arrives is captured at every other end, and at the host by a last chain
//! that remembers the packet's identification.

use crate::lab::Lab;
use nonstop_reach::{
    host::Host,
    packets::{Field, NO_OWNER, Packets, ethertype, track},
    value,
    walk::{self, Fate},
};
use std::collections::{BTreeSet, HashMap};

/// Raw frames in and out of interfaces.
#[allow(unsafe_code)]
mod wire {
    use rustix::{
        fd::OwnedFd,
        net::{
            AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
            addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
        },
        thread::LinkNameSpaceType,
    };
    use std::{fs::File, os::fd::AsFd};

    /// `struct sockaddr_ll` of Linux.
    #[repr(C)]
    struct Interface {
        family: u16,
        protocol: u16,
        index: i32,
        rest: [u8; 12],
    }

    // SAFETY: `f` gets a pointer to this value, which has the layout of `sockaddr_ll` and lives
    // as long as the call, and its size.
    unsafe impl SocketAddrArg for Interface {
        unsafe fn with_sockaddr<R>(
            &self,
            f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
        ) -> R {
            let size = size_of::<Interface>() as SocketAddrLen;
            f(std::ptr::from_ref(self).cast(), size)
        }
    }

    pub(crate) struct Wire(OwnedFd);

    /// Brings this thread into the network of the process `pid`.
    pub(crate) fn enter(pid: u32) {
        let net = File::open(format!("/proc/{pid}/ns/net")).expect("a namespace");
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(net.as_fd(), kind).expect("root");
    }

    impl Wire {
        pub(crate) fn open(index: i32) -> Wire {
            const ALL: u16 = 3;
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let fd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
                .expect("root");
            let family = AddressFamily::PACKET.as_raw();
            let at = Interface { family, protocol: ALL.to_be(), index, rest: [0; 12] };
            rustix::net::bind(&fd, &at).expect("the interface is there");
            Wire(fd)
        }

        pub(crate) fn send(&self, frame: &[u8]) {
            rustix::net::send(&self.0, frame, SendFlags::empty()).expect("the cable is up");
        }

        /// The frames that came in since; not those that went out.
        pub(crate) fn take(&self, sent: &[Vec<u8>]) -> Vec<Vec<u8>> {
            let mut frames = Vec::new();
            let mut buffer = vec![0; 4096];
            while let Ok((length, _)) =
                rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty())
            {
                let frame = buffer[..length].to_vec();
                if !sent.contains(&frame) {
                    frames.push(frame);
                }
            }
            frames
        }
    }
}

/// Small and repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

struct Tap {
    name: &'static str,
    bridge: &'static str,
    mac: &'static str,
    address: [u8; 4],
}

const TAPS: [Tap; 5] = [
    Tap { name: "t1", bridge: "nsb1", mac: "52:54:00:00:00:01", address: [10, 77, 0, 2] },
    Tap { name: "t2", bridge: "nsb1", mac: "52:54:00:00:00:02", address: [10, 77, 0, 3] },
    Tap { name: "t3", bridge: "nsb2", mac: "52:54:00:00:00:03", address: [10, 77, 0, 18] },
    Tap { name: "t4", bridge: "nsl1", mac: "56:54:00:00:00:04", address: [10, 88, 0, 4] },
    Tap { name: "t5", bridge: "nsl1", mac: "56:54:00:00:00:05", address: [10, 88, 0, 5] },
];
const SERVER: [u8; 4] = [10, 99, 0, 10];
const GATES: [[u8; 4]; 3] = [[10, 77, 0, 1], [10, 77, 0, 17], [10, 99, 0, 1]];

fn build() -> Lab {
    let lab = Lab::new();
    lab.bridge("nsb1", Some("10.77.0.1/28"));
    lab.bridge("nsb2", Some("10.77.0.17/28"));
    lab.bridge("nsl1", None);
    for tap in &TAPS {
        lab.tap(tap.name, tap.bridge, tap.mac);
        // Frames to a known MAC go to one port; to an unknown one, which is what could happen, to all.
        lab.ip(&format!("ip link set {} type bridge_slave learning off", tap.name));
        let address = std::net::Ipv4Addr::from(tap.address);
        if tap.bridge != "nsl1" {
            lab.ip(&format!("ip neigh add {address} lladdr {} dev {}", tap.mac, tap.bridge));
        }
    }
    lab.card("out0", "10.99.0.1/24", "02:00:00:00:00:99");
    lab.ip("ip neigh add 10.99.0.10 lladdr 02:00:00:00:00:99 dev out0");
    lab
}

fn address(of: [u8; 4]) -> String {
    std::net::Ipv4Addr::from(of).to_string()
}

/// A condition of a rule, by the family's words.
fn condition(dice: &mut Dice, bridge: bool, hook: &str) -> String {
    let addresses: Vec<String> =
        TAPS.iter().map(|tap| tap.address).chain([SERVER]).chain(GATES).map(address).collect();
    let tap = dice.pick(&TAPS);
    let one = dice.pick(&addresses).clone();
    let not = *dice.pick(&["", "", "!= "]);
    let port = *dice.pick(&["53", "80", "1-1000", "{ 53, 67, 80 }"]);
    match (dice.roll(11), bridge) {
        (0, true) => format!("iifname {not}\"{}\"", tap.name),
        (0, false) => format!("iifname {not}\"nsb*\""),
        (1, true) => format!("ether saddr {not}{}", tap.mac),
        (1, false) => format!("oifname {not}\"{}\"", dice.pick(&["out0", "nsb1", "nsb2", "nsb*"])),
        (2, true) => "iifname . ether saddr . ip saddr @cards".into(),
        (2, false) => "ip saddr . ip daddr . meta l4proto . th dport @reach".into(),
        (3, true) => format!("arp daddr ip {not}{one}"),
        // nft takes it where a packet comes in alone.
        (3, false) if !["prerouting", "input", "forward"].contains(&hook) => "ct state new".into(),
        (3, false) => "fib daddr . iif type { local, broadcast }".into(),
        (4, true) => (*dice.pick(&["ether type arp", "ether type ip", "ether type != ip"])).into(),
        (4, false) => {
            (*dice.pick(&["ct state new", "ct direction original", "ct state established"])).into()
        }
        (5, _) => format!("ip saddr {not}{one}"),
        (6, _) => format!("ip daddr {not}{{ {one}, {} }}", address(SERVER)),
        (7, _) => format!("udp dport {not}{port}"),
        (8, _) => format!("tcp dport {not}{port}"),
        (9, _) => format!("meta l4proto {not}{{ tcp, udp }}"),
        _ => "tcp flags & (syn | ack) == syn".into(),
    }
}

fn rule(dice: &mut Dice, bridge: bool, hook: &str) -> String {
    let jumps = hook != "more";
    let conditions: Vec<String> =
        (0..1 + dice.roll(2)).map(|_| condition(dice, bridge, hook)).collect();
    let verdicts = ["accept", "accept", "drop", "return", "counter", "jump more", "goto more"];
    let verdict = verdicts[dice.roll(if jumps { 7 } else { 5 })];
    format!("{} {verdict}", conditions.join(" "))
}

fn chain(dice: &mut Dice, bridge: bool, hook: &str) -> String {
    let policy = dice.pick(&["accept", "accept", "accept", "accept", "accept", "drop"]);
    let rules: Vec<String> = (0..dice.roll(5)).map(|_| rule(dice, bridge, hook)).collect();
    format!(
        "chain {hook} {{ type filter hook {hook} priority 0; policy {policy};\n{}\n}}\n",
        rules.join("\n")
    )
}

fn ruleset(dice: &mut Dice) -> String {
    let mut text = String::from("flush ruleset\n");
    for (family, bridge, hooks) in [
        ("bridge", true, &["prerouting", "input", "forward", "output", "postrouting"][..]),
        ("inet", false, &["prerouting", "input", "forward", "postrouting"][..]),
    ] {
        text += &format!("table {family} dice {{\n");
        text += match bridge {
            true => {
                "set cards { type ifname . ether_addr . ipv4_addr; elements = { t1 . 52:54:00:00:00:01 . 10.77.0.2, t3 . 52:54:00:00:00:03 . 10.77.0.18, t4 . 56:54:00:00:00:04 . 10.88.0.4 }\n}\n"
            }
            false => {
                "set reach { type ipv4_addr . ipv4_addr . inet_proto . inet_service; elements = { 10.77.0.2 . 10.99.0.10 . tcp . 80, 10.77.0.3 . 10.99.0.10 . udp . 53, 10.77.0.2 . 10.77.0.1 . udp . 53 }\n}\n"
            }
        };
        let more: Vec<String> = (0..2).map(|_| rule(dice, bridge, "more")).collect();
        text += &format!("chain more {{\n{}\n}}\n", more.join("\n"));
        for hook in hooks {
            if dice.roll(3) > 0 {
                text += &chain(dice, bridge, hook);
            }
        }
        text += "}\n";
    }
    // The host's ear: what came through all others.
    text + "table ip ear {\nset heard { typeof ip id; size 65535; flags dynamic; }\n\
            chain input { type filter hook input priority 1000; add @heard { ip id }\n}\n}\n"
}

struct Sent {
    frame: Vec<u8>,
    packets: Packets,
    tap: usize,
    id: u16,
}

fn mac(text: &str) -> [u8; 6] {
    let number = value::mac(text).expect("a MAC").to_be_bytes();
    number[10..].try_into().expect("six")
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |all, byte| all << 8 | u128::from(*byte))
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes.chunks(2).map(|pair| number(pair) as u32).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A frame that a machine might send, and the same as a set of one packet.
fn frame(dice: &mut Dice, id: u16, bridges: &HashMap<&str, String>) -> Sent {
    let at = dice.roll(TAPS.len());
    let tap = &TAPS[at];
    let other = dice.pick(&TAPS);
    let gate = &bridges[tap.bridge];
    let to = match dice.roll(8) {
        0 => "ff:ff:ff:ff:ff:ff",
        1 => "01:80:c2:00:00:0e",
        2 => *dice.pick(&["01:80:c2:00:00:03", "01:00:5e:00:00:01", "01:80:c2:00:00:01"]),
        3 | 4 => other.mac,
        _ => gate,
    };
    let from = if dice.roll(6) == 0 { other.mac } else { tap.mac };
    let (to, from) = (mac(to), mac(from));
    let mut frame = [to, from].concat();
    let mut packets = Packets::all()
        .having(Field::TargetMac, number(&to))
        .having(Field::SourceMac, number(&from))
        .having(Field::LaterFragment, 0)
        .having(Field::Owner, NO_OWNER)
        .having(Field::Track, track::NEW);
    let kind = dice.roll(10);
    if kind == 0 {
        frame.extend([0x88, 0xb5]);
        frame.extend(id.to_be_bytes());
        frame.extend([7; 50]);
        packets = packets.having(Field::EtherType, 0x88b5);
        return Sent { frame, packets, tap: at, id };
    }
    let sources = [
        tap.address,
        tap.address,
        tap.address,
        tap.address,
        other.address,
        SERVER,
        [0; 4],
        [192, 0, 2, 7],
        [127, 0, 0, 1],
        GATES[0],
    ];
    let source = *dice.pick(&sources);
    let own_gate = GATES[usize::from(tap.bridge == "nsb2")];
    let targets = [
        other.address,
        SERVER,
        SERVER,
        own_gate,
        own_gate,
        GATES[0],
        GATES[2],
        [255; 4],
        [10, 77, 0, 15],
        [224, 0, 0, 1],
        [192, 0, 2, 9],
        [127, 0, 0, 1],
    ];
    let target = *dice.pick(&targets);
    if kind <= 2 {
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(from);
        frame.extend(source);
        // The number of the frame, where a request says nothing.
        frame.extend([0, 0, 0, 0]);
        frame.extend(id.to_be_bytes());
        frame.extend(target);
        frame.extend([0; 18]);
        packets = packets
            .having(Field::EtherType, ethertype::ARP)
            .having(Field::ArpOperation, 1)
            .having(Field::ArpSourceMac, number(&from))
            .having(Field::ArpSource, number(&source))
            .having(Field::ArpTargetMac, id.into())
            .having(Field::ArpTarget, number(&target));
        return Sent { frame, packets, tap: at, id };
    }
    // Every flow is a new one.
    let from_port = 10_000 + id;
    let port: u16 = *dice.pick(&[53, 80, 67, 999, 4000]);
    let (protocol, mut body) = match kind {
        3..=5 => {
            let mut tcp = [from_port.to_be_bytes(), port.to_be_bytes()].concat();
            tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
            (6u8, tcp)
        }
        6..=8 => {
            let mut udp = [from_port.to_be_bytes(), port.to_be_bytes()].concat();
            udp.extend([0, 26, 0, 0]);
            udp.extend([7; 18]);
            (17, udp)
        }
        _ => {
            let mut icmp = vec![8, 0, 0, 0];
            icmp.extend(id.to_be_bytes());
            icmp.extend([0, 1]);
            icmp.extend([7; 16]);
            let sum = checksum(&icmp);
            icmp[2..4].copy_from_slice(&sum);
            (1, icmp)
        }
    };
    if protocol == 6 {
        let mut pseudo = [source, target].concat();
        pseudo.extend([0, 6, 0, body.len() as u8]);
        pseudo.extend(&body);
        let sum = checksum(&pseudo);
        body[16..18].copy_from_slice(&sum);
    }
    let mut header = vec![0x45, 0, 0, (20 + body.len()) as u8];
    header.extend(id.to_be_bytes());
    header.extend([0, 0, 64, protocol, 0, 0]);
    header.extend(source);
    header.extend(target);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    frame.extend([0x08, 0x00]);
    frame.extend(header);
    frame.extend(body);
    packets = packets
        .having(Field::EtherType, ethertype::IP)
        .having(Field::Source, number(&source))
        .having(Field::Target, number(&target))
        .having(Field::Protocol, protocol.into());
    packets = match protocol {
        1 => packets.having(Field::IcmpType, 8),
        _ => packets
            .having(Field::SourcePort, from_port.into())
            .having(Field::TargetPort, port.into())
            .having(Field::TcpFlags, if protocol == 6 { 2 } else { 0 }),
    };
    Sent { frame, packets, tap: at, id }
}

/// Whether `got` is what was `sent`, whatever a router changed.
fn is_same(sent: &[u8], got: &[u8]) -> bool {
    if got.len() < 38 || sent[12..14] != got[12..14] {
        return false;
    }
    match got[12..14] {
        // Identification, protocol, addresses.
        [0x08, 0x00] => {
            sent[18..20] == got[18..20] && sent[23] == got[23] && sent[26..34] == got[26..34]
        }
        _ => got.len() >= sent.len() && sent[14..] == got[14..sent.len()],
    }
}

/// Where the evaluator says that it arrives; None if it does not know.
fn predicted(host: &Host<'_>, sent: &Sent) -> Option<BTreeSet<String>> {
    let mut arrives = BTreeSet::new();
    let hears = sent.packets.get(Field::EtherType).single() == Some(ethertype::IP);
    for end in walk::from_port(host, TAPS[sent.tap].name, sent.packets.clone()) {
        if end.packets.doubt().is_some() {
            return None;
        }
        match end.fate {
            Fate::Stopped => {}
            Fate::Unknown | Fate::Anywhere => return None,
            Fate::Host if hears => _ = arrives.insert("host".to_string()),
            Fate::Host => {}
            Fate::Ports | Fate::Wire => {
                let names = end.packets.get(Field::Oif).each(64).expect("a few");
                arrives.extend(names.into_iter().map(value::name_text));
            }
        }
    }
    Some(arrives)
}

fn index(lab: &Lab, name: &str) -> i32 {
    let line = lab.guests.place().line(&format!("ip -o link show dev {name}")).expect("there");
    line.split(':').next().expect("a number").trim().parse().expect("a number")
}

#[test]
fn the_evaluator_says_what_the_kernel_does() {
    const ROUNDS: usize = 40;
    const FRAMES: usize = 60;
    let seed = std::env::var("REACH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(0x5eed_0005);
    let mut dice = Dice(seed);
    let lab = build();
    let mut names: Vec<&str> = TAPS.iter().map(|tap| tap.name).collect();
    names.push("out0");
    let indices: Vec<i32> = names.iter().map(|name| index(&lab, &format!("g{name}"))).collect();
    wire::enter(lab.guests.holder());
    let wires: Vec<wire::Wire> = indices.into_iter().map(wire::Wire::open).collect();
    let (mut judged, mut arrived, mut unknown) = (0, 0, 0);
    let mut id = 1u16;
    for round in 0..ROUNDS {
        // Some conditions cannot hold together, and nft says so: then others.
        let rules = loop {
            let rules = ruleset(&mut dice);
            match lab.try_nft(&rules) {
                Ok(()) => break rules,
                Err(said) => assert!(said.contains("conflicting"), "{said}\n{rules}"),
            }
        };
        for interface in ["nsb1", "nsb2", "nsl1"] {
            let (filter, forwarding) = (dice.roll(3), dice.roll(4).min(1));
            lab.ip(&format!("sysctl -qw net.ipv4.conf.{interface}.rp_filter={filter}"));
            lab.ip(&format!("sysctl -qw net.ipv4.conf.{interface}.forwarding={forwarding}"));
        }
        let calls = dice.roll(2);
        lab.ip(&format!("sysctl -eqw net.bridge.bridge-nf-call-iptables={calls}"));
        let kernel = lab.kernel();
        let host = Host::new(&kernel).expect("a listing");
        let macs = kernel.links.iter().map(|link| (&*link.name, link.mac.clone())).collect();
        for wire in &wires {
            wire.take(&[]);
        }
        let mut all: Vec<Sent> = Vec::new();
        for _ in 0..FRAMES {
            let sent = frame(&mut dice, id, &macs);
            id += 1;
            wires[sent.tap].send(&sent.frame);
            all.push(sent);
        }
        std::thread::sleep(std::time::Duration::from_millis(60));
        let raw: Vec<Vec<u8>> = all.iter().map(|sent| sent.frame.clone()).collect();
        let got: Vec<(usize, Vec<u8>)> = wires
            .iter()
            .enumerate()
            .flat_map(|(at, wire)| {
                let own: Vec<Vec<u8>> =
                    all.iter().filter(|s| s.tap == at).map(|s| s.frame.clone()).collect();
                wire.take(&own).into_iter().map(move |frame| (at, frame))
            })
            .collect();
        let heard: BTreeSet<u64> = {
            let listing = lab.kernel().rules;
            let objects = listing["nftables"].as_array().expect("objects").clone();
            let set = objects.iter().filter_map(|o| o.get("set")).find(|s| s["name"] == "heard");
            let listed = set.and_then(|set| set["elem"].as_array().cloned()).unwrap_or_default();
            listed
                .iter()
                .filter_map(|e| e.get("elem").map_or(e, |elem| &elem["val"]).as_u64())
                .collect()
        };
        for (sent, raw) in all.iter().zip(&raw) {
            let Some(predicted) = predicted(&host, sent) else {
                unknown += 1;
                continue;
            };
            let mut seen: BTreeSet<String> = got
                .iter()
                .filter(|(_, frame)| is_same(raw, frame))
                .map(|(at, _)| names[*at].to_string())
                .collect();
            if heard.contains(&sent.id.into()) {
                seen.insert("host".into());
            }
            judged += 1;
            arrived += usize::from(!seen.is_empty());
            assert_eq!(
                predicted,
                seen,
                "seed {seed} round {round}: predicted, seen, for {:?} from {}\n{rules}\n{:#?}",
                sent.packets,
                TAPS[sent.tap].name,
                walk::from_port(&host, TAPS[sent.tap].name, sent.packets.clone())
            );
        }
    }
    println!("{judged} packets, {arrived} of them arrived somewhere, {unknown} not judged");
    assert!(judged > ROUNDS * FRAMES * 9 / 10, "{unknown} were not judged");
    assert!(arrived > judged / 10, "only {arrived} of {judged} arrived anywhere");
}
