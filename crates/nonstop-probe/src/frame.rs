//! Frames that bear a marker, byte for byte as they leave a card.

use crate::marker::Marker;
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpFragOffset, IpHeaders, IpNumber,
    Ipv4Header, PacketBuilder,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub type MacBytes = [u8; 6];

/// The bytes of a hardware address that is written with colons.
pub fn mac(text: &str) -> Option<MacBytes> {
    let [.., a, b, c, d, e, f] = nonstop_reach::value::mac(text)?.to_be_bytes();
    Some([a, b, c, d, e, f])
}

/// The ethertype of ARP.
pub const ARP: u16 = 0x0806;

/// Everybody on a wire.
pub const EVERYBODY: MacBytes = [0xff; 6];

/// Where a frame comes from and goes to on its wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// Under which address it is sent.
    pub from: MacBytes,
    /// To which.
    pub to: MacBytes,
}

/// Sixty bytes at least, as hardware would make it: what is beyond the content is the marker's.
fn padded(mut frame: Vec<u8>, marker: Marker) -> Vec<u8> {
    frame.extend(marker.bytes());
    frame.resize(frame.len().max(60), 0);
    frame
}

fn written(
    build: impl FnOnce(&mut Vec<u8>) -> Result<(), etherparse::err::packet::BuildVecWriteError>,
) -> Vec<u8> {
    let mut frame = Vec::new();
    build(&mut frame).expect("a payload of a few bytes fits");
    frame.resize(frame.len().max(60), 0);
    frame
}

/// What TCP segment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Opens a connection.
    Syn,
    /// Says that one is open, unasked.
    SynAck,
    /// Goes on with one.
    Ack {
        /// Its number.
        seq: u32,
        /// The number that it confirms.
        ack: u32,
    },
    /// Ends one.
    Rst {
        /// Its number.
        seq: u32,
    },
}

/// The number of the first byte of every connection.
pub const FIRST_SEQ: u32 = 0x0070_0000;

/// TCP from `from` to `to`.
pub fn tcp(
    wire: Wire,
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    segment: Segment,
    marker: Marker,
) -> Vec<u8> {
    let seq = match segment {
        Segment::Syn | Segment::SynAck => FIRST_SEQ,
        Segment::Ack { seq, .. } | Segment::Rst { seq } => seq,
    };
    let packet = PacketBuilder::ethernet2(wire.from, wire.to)
        .ipv4(from.0.octets(), to.0.octets(), 64)
        .tcp(from.1, to.1, seq, 64_000);
    let packet = match segment {
        Segment::Syn => packet.syn(),
        Segment::SynAck => packet.syn().ack(1),
        Segment::Ack { ack, .. } => packet.psh().ack(ack),
        Segment::Rst { .. } => packet.rst(),
    };
    written(|frame| packet.write_to_vec(frame, &marker.bytes()))
}

/// UDP with `content`, which should hold the marker.
pub fn udp(wire: Wire, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), content: &[u8]) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(wire.from, wire.to)
        .ipv4(from.0.octets(), to.0.octets(), 64)
        .udp(from.1, to.1);
    written(|frame| packet.write_to_vec(frame, content))
}

/// ICMP: an echo request.
pub fn ping(wire: Wire, from: Ipv4Addr, to: Ipv4Addr, marker: Marker) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(wire.from, wire.to)
        .ipv4(from.octets(), to.octets(), 64)
        .icmpv4_echo_request(marker.number as u16, 1);
    written(|frame| packet.write_to_vec(frame, &marker.bytes()))
}

/// IPv4 of `protocol`; with `offset` (in units of 8 bytes) a later fragment.
pub fn ip(
    wire: Wire,
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    offset: u16,
    marker: Marker,
) -> Vec<u8> {
    let payload = [&marker.bytes()[..], &[0; 24]].concat();
    let mut header =
        Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), from.octets(), to.octets())
            .expect("a short payload");
    header.fragment_offset = IpFragOffset::try_new(offset).expect("at most 13 bits");
    let packet = PacketBuilder::ethernet2(wire.from, wire.to)
        .ip(IpHeaders::Ipv4(header, Default::default()));
    let mut frame = Vec::new();
    packet.write(&mut frame, IpNumber(protocol), &payload).expect("into memory");
    frame.resize(frame.len().max(60), 0);
    frame
}

/// ARP: who has `asked`, told by `from` under `sender`; as an answer, with `from` said to be there.
pub fn arp(
    wire: Wire,
    sender: MacBytes,
    from: Ipv4Addr,
    asked: (MacBytes, Ipv4Addr),
    answer: bool,
    marker: Marker,
) -> Vec<u8> {
    let operation = if answer { ArpOperation::REPLY } else { ArpOperation::REQUEST };
    let arp = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender,
        &from.octets(),
        &asked.0,
        &asked.1.octets(),
    )
    .expect("addresses of equal length");
    let packet = PacketBuilder::ethernet2(wire.from, wire.to).arp(arp);
    let mut frame = Vec::new();
    packet.write_to_vec(&mut frame).expect("into memory");
    padded(frame, marker)
}

/// IPv6: an echo request.
pub fn ping6(wire: Wire, from: Ipv6Addr, to: Ipv6Addr, marker: Marker) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(wire.from, wire.to)
        .ipv6(from.octets(), to.octets(), 255)
        .icmpv6_echo_request(marker.number as u16, 1);
    written(|frame| packet.write_to_vec(frame, &marker.bytes()))
}

/// IPv6: who has `asked` (a neighbour solicitation, RFC 4861).
pub fn solicit6(wire: Wire, from: Ipv6Addr, asked: Ipv6Addr, marker: Marker) -> Vec<u8> {
    let group = {
        let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
        group[13..].copy_from_slice(&asked.octets()[13..]);
        group
    };
    let packet = PacketBuilder::ethernet2(wire.from, wire.to)
        .ipv6(from.octets(), group, 255)
        .icmpv6_raw(135, 0, [0; 4]);
    // A nonce (RFC 3971) after the address is left alone by who does not know it.
    let content = [&asked.octets()[..], &[14, 2, 0, 0, 0, 0, 0, 0], &marker.bytes()].concat();
    written(|frame| packet.write_to_vec(frame, &content))
}

/// IPv6: UDP.
pub fn udp6(wire: Wire, from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), marker: Marker) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(wire.from, wire.to)
        .ipv6(from.0.octets(), to.0.octets(), 255)
        .udp(from.1, to.1);
    written(|frame| packet.write_to_vec(frame, &marker.bytes()))
}

/// Anything under an ethertype; below 0x0600 it is a length, and the content LLC's.
pub fn raw(wire: Wire, ethertype: u16, before: &[u8], marker: Marker) -> Vec<u8> {
    let mut frame = [&wire.to[..], &wire.from, &ethertype.to_be_bytes(), before].concat();
    frame.extend(marker.bytes());
    frame.resize(frame.len().max(60), 0);
    frame
}

/// `inner`, a whole frame, behind a tag of VLAN `number` under `ethertype`.
pub fn tagged(inner: &[u8], ethertype: u16, number: u16) -> Vec<u8> {
    [&inner[..12], &ethertype.to_be_bytes(), &number.to_be_bytes(), &inner[12..]].concat()
}

/// The address that a card gives itself (RFC 4291, EUI-64).
pub fn link_local(mac: MacBytes) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let pair = |x: u8, y: u8| u16::from_be_bytes([x, y]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

/// What a DHCP message is (RFC 2131).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp {
    /// Asks for any address.
    Discover,
    /// Asks for this one.
    Request(Ipv4Addr),
    /// Offers this one, as a server.
    Offer(Ipv4Addr),
}

/// A DHCP message of the card `mac`. The marker is where a hardware address could go on: servers give
/// it back.
pub fn dhcp(mac: MacBytes, message: Dhcp, marker: Marker) -> Vec<u8> {
    let mut text = vec![0; 236];
    text[..4].copy_from_slice(&[if matches!(message, Dhcp::Offer(_)) { 2 } else { 1 }, 1, 6, 0]);
    text[4..8].copy_from_slice(&marker.number.to_be_bytes());
    text[28..34].copy_from_slice(&mac);
    text[36..44].copy_from_slice(&marker.bytes());
    text.extend([0x63, 0x82, 0x53, 0x63]);
    match message {
        Dhcp::Discover => text.extend([53, 1, 1]),
        Dhcp::Request(address) => {
            text.extend([53, 1, 3, 50, 4]);
            text.extend(address.octets());
        }
        Dhcp::Offer(address) => {
            text[16..20].copy_from_slice(&address.octets());
            text.extend([53, 1, 2, 54, 4]);
            text.extend(address.octets());
        }
    }
    text.push(255);
    text.resize(300, 0);
    text
}

/// A question for the address of `name` (RFC 1035).
pub fn dns(name: &str, marker: Marker) -> Vec<u8> {
    let mut text = (marker.number as u16).to_be_bytes().to_vec();
    text.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        text.push(label.len() as u8);
        text.extend(label.as_bytes());
    }
    text.extend([0, 0, 1, 0, 1]);
    // EDNS (RFC 6891), with an option for local use.
    text.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 12, 0xfd, 0xe9, 0, 8]);
    text.extend(marker.bytes());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_in_bytes_and_in_names() {
        let marker = Marker::attempt(0xdead_beef, 77);
        let wire = Wire { from: [2, 0, 0, 0, 0, 1], to: EVERYBODY };
        let address = Ipv4Addr::LOCALHOST;
        for frame in [
            tcp(wire, (address, 1), (address, 2), Segment::Syn, marker),
            ping(wire, address, address, marker),
            ip(wire, address, address, 132, 3, marker),
            arp(wire, wire.from, address, (EVERYBODY, address), false, marker),
            solicit6(wire, link_local(wire.from), link_local(wire.to), marker),
            raw(wire, 0x88b5, &[], marker),
            dhcp(wire.from, Dhcp::Discover, marker),
            dns(&format!("x{}.example", marker.text()), marker),
        ] {
            assert_eq!(Marker::find(marker.run, &frame), Some(marker), "{frame:?}");
            assert_eq!(Marker::find(0x9a7c_b3d1, &frame), None);
        }
    }

    #[test]
    fn a_link_local_address_is_made_of_the_cards() {
        assert_eq!(link_local([0x52, 0x54, 0, 0, 0, 7]).to_string(), "fe80::5054:ff:fe00:7");
    }
}
