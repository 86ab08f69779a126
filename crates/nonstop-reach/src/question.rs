//! The kinds of traffic that a cell of the matrix asks about, as sets of packets.

use crate::{
    host::{Host, group_macs},
    packets::{Field, Packets, ethertype, track},
    value::{self, Ranges},
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, sync::OnceLock};

/// What a cell is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// TCP connections that are opened.
    Tcp,
    /// UDP that is not an answer.
    Udp,
    /// ICMP.
    Icmp,
    /// IPv4 of any other protocol.
    OtherIp,
    /// ARP as itself.
    Arp,
    /// IPv6.
    Ipv6,
    /// Frames that are none of these.
    OtherEthertype,
    /// IPv4 to everybody or to a group.
    Broadcast,
    /// IPv4 or ARP under an address of another.
    SpoofedSource,
    /// Any frame under a MAC of another.
    SpoofedMac,
    /// Answers in flows that the other side opened; ports are those the answer comes from.
    Answers,
    /// Later packets of flows that were opened once, whatever is allowed now.
    Kept,
}

impl What {
    /// All of them.
    pub const ALL: [What; 12] = [
        What::Tcp,
        What::Udp,
        What::Icmp,
        What::OtherIp,
        What::Arp,
        What::Ipv6,
        What::OtherEthertype,
        What::Broadcast,
        What::SpoofedSource,
        What::SpoofedMac,
        What::Answers,
        What::Kept,
    ];

    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            What::Tcp => "tcp",
            What::Udp => "udp",
            What::Icmp => "icmp",
            What::OtherIp => "other ip",
            What::Arp => "arp",
            What::Ipv6 => "ipv6",
            What::OtherEthertype => "other ethertype",
            What::Broadcast => "broadcast",
            What::SpoofedSource => "spoofed source",
            What::SpoofedMac => "spoofed mac",
            What::Answers => "answers",
            What::Kept => "kept flows",
        }
    }

    /// The field whose ports count.
    pub fn ports(self) -> Field {
        match self {
            What::Answers => Field::SourcePort,
            _ => Field::TargetPort,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Who asks: its own MAC and address, where they are given.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// Its MAC; None if any will do.
    pub mac: Option<u128>,
    /// Its address; None if it may have any.
    pub address: Option<Ipv4Addr>,
}

impl Sender {
    /// A sender with this MAC as text and this address.
    pub fn new(mac: &str, address: Option<Ipv4Addr>) -> Sender {
        Sender { mac: value::mac(mac), address }
    }

    /// Anybody.
    pub const ANY: Sender = Sender { mac: None, address: None };
}

/// The packets that `what` is about when `sender` sends them.
pub fn packets(what: What, sender: Sender, host: &Host<'_>) -> Vec<Packets> {
    const TCP: u128 = 6;
    const UDP: u128 = 17;
    const ICMP: u128 = 1;
    let mac = sender.mac.map_or_else(|| Field::SourceMac.any(), Ranges::one);
    // Who has no address yet says 0.0.0.0.
    let own = match sender.address {
        Some(address) => Ranges::values([0, u32::from(address).into()]),
        None => Field::Source.any(),
    };
    // A reset opens nothing.
    static NO_RESET: OnceLock<Ranges> = OnceLock::new();
    let no_reset =
        NO_RESET.get_or_init(|| Ranges::values((0..=0xff).filter(|flags| flags & 4 == 0)));
    let opening =
        Ranges::values([track::NEW, track::INVALID, track::UNTRACKED, track::RELATED_ORIGINAL]);
    let framed = Packets::all().with(Field::SourceMac, &mac);
    let ip = framed.clone().having(Field::EtherType, ethertype::IP).with(Field::Source, &own);
    let opens = ip.clone().with(Field::Track, &opening);
    let arp = framed.clone().having(Field::EtherType, ethertype::ARP);
    let one = match what {
        What::Tcp => opens.having(Field::Protocol, TCP).with(Field::TcpFlags, no_reset),
        What::Udp => opens.having(Field::Protocol, UDP),
        // With errors about flows of others.
        What::Icmp => {
            let opening = opening.or(&Ranges::one(track::RELATED_REPLY));
            ip.with(Field::Track, &opening).having(Field::Protocol, ICMP)
        }
        What::OtherIp => {
            let known = Ranges::values([TCP, UDP, ICMP]);
            opens.with(Field::Protocol, &Field::Protocol.any().minus(&known))
        }
        What::Arp => arp.with(Field::ArpSource, &own).with(Field::ArpSourceMac, &mac),
        What::Ipv6 => framed.having(Field::EtherType, ethertype::IP6),
        What::OtherEthertype => {
            let known = Ranges::values([ethertype::IP, ethertype::ARP, ethertype::IP6]);
            framed.with(Field::EtherType, &Field::EtherType.any().minus(&known))
        }
        What::Broadcast => opens.with(Field::Target, host.many()),
        What::SpoofedSource => {
            let Some(address) = sender.address else { return Vec::new() };
            let others = Field::Source.any().minus(&own);
            let of_others = framed
                .having(Field::EtherType, ethertype::IP)
                .with(Field::Source, &others)
                .with(Field::Track, &opening);
            // Asking for an address before having one is the same as having none.
            let not_its_own = Field::ArpSource.any().minus(&Ranges::one(u32::from(address).into()));
            return vec![of_others, arp.with(Field::ArpSource, &not_its_own)];
        }
        What::SpoofedMac => {
            if sender.mac.is_none() {
                return Vec::new();
            }
            let others = Field::SourceMac.any().minus(&mac).minus(&group_macs());
            let framed = Packets::all().with(Field::SourceMac, &others);
            let in_arp = arp.with(Field::ArpSourceMac, &Field::ArpSourceMac.any().minus(&mac));
            return match sender.address {
                Some(_) => vec![framed, in_arp],
                // On a link segment it is theirs what they say in ARP.
                None => vec![framed],
            };
        }
        What::Answers => {
            let replies = Ranges::values([track::ESTABLISHED_REPLY, track::RELATED_REPLY]);
            ip.with(Field::Track, &replies).with(Field::TcpFlags, no_reset)
        }
        What::Kept => {
            let kept = Ranges::one(track::ESTABLISHED_ORIGINAL);
            ip.with(Field::Track, &kept).with(Field::TcpFlags, no_reset)
        }
    };
    vec![one]
}
