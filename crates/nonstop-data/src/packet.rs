//! One record decoded to what a researcher asks for: a row of the table `packets`.
//!
//! Every record gives a row, so that `select count(*)` and `tshark | wc -l` agree: a frame that is no
//! IP (ARP, STP), or whose IP header is cut off or makes no sense, has a time and a length and
//! nothing else. No bytes whatever make it panic.
//!
//! Decoded is the outermost IP header behind Ethernet with its VLAN tags, and what it carries; what is
//! inside of a tunnel, MPLS or PPPoE is not looked for. IP per RFC 791 and 8200, TCP per RFC
//! 9293, UDP per RFC 768, ICMP per RFC 792 and 4443, SCTP per RFC 9260, DCCP per RFC 4340.

use crate::capture::{Link, Record};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of payload that are kept.
pub const PAYLOAD: usize = 32;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Microseconds since 1970, UTC; a file's nanoseconds are rounded down.
    pub microseconds: i64,
    /// Source; None where the frame is no IP.
    pub src: Option<IpAddr>,
    /// Destination.
    pub dst: Option<IpAddr>,
    /// What IP carries: IANA's number, behind the extension headers of IPv6.
    pub protocol: Option<u8>,
    /// Source port of TCP, UDP, UDP-Lite, SCTP or DCCP; None in all but the first fragment.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// The twelve bits of TCP's flags, reserved ones included: 2 is SYN, 18 SYN-ACK, 4 RST.
    pub tcp_flags: Option<u16>,
    /// Time to live, or hop limit.
    pub ttl: Option<u8>,
    /// Bytes of the frame on the wire.
    pub length: u32,
    /// Type of ICMP or ICMPv6.
    pub icmp_type: Option<u8>,
    /// Code of ICMP or ICMPv6.
    pub icmp_code: Option<u8>,
    /// The first [`PAYLOAD`] bytes, as far as captured, of what TCP, UDP or ICMP carries (for an
    /// ICMP error: the packet it is about), or IP if it carries another protocol or is not the
    /// first fragment. Padding of Ethernet is none of it. None where there is no byte.
    pub payload: Option<&'a [u8]>,
}

const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const DESTINATION: u8 = 60;
const SCTP: u8 = 132;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;
const UDP_LITE: u8 = 136;

impl<'a> Packet<'a> {
    /// The row of `record`.
    pub fn decode(record: &Record<'a>) -> Packet<'a> {
        let mut packet = Packet {
            microseconds: record.nanoseconds.div_euclid(1000),
            src: None,
            dst: None,
            protocol: None,
            sport: None,
            dport: None,
            tcp_flags: None,
            ttl: None,
            length: record.length,
            icmp_type: None,
            icmp_code: None,
            payload: None,
        };
        if let Some(ip) = ip_of(record.link, record.data) {
            let _ = match ip.first().map(|byte| byte >> 4) {
                Some(4) => packet.ipv4(ip),
                Some(6) => packet.ipv6(ip),
                _ => None,
            };
        }
        packet
    }

    // These end early, by None, where the bytes end; what was filled in by then stays.

    fn ipv4(&mut self, ip: &'a [u8]) -> Option<()> {
        let header: &[u8; 20] = ip.first_chunk()?;
        let header_length = usize::from(header[0] & 15) * 4;
        if header_length < 20 {
            return None;
        }
        self.src = Some(Ipv4Addr::new(header[12], header[13], header[14], header[15]).into());
        self.dst = Some(Ipv4Addr::new(header[16], header[17], header[18], header[19]).into());
        self.ttl = Some(header[8]);
        self.protocol = Some(header[9]);
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        // 0 is what a card that cuts into segments by itself leaves behind.
        let ip = match total {
            0 => ip,
            _ => &ip[..total.min(ip.len())],
        };
        let carried = ip.get(header_length..)?;
        let first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
        self.carried(header[9], first, carried)
    }

    fn ipv6(&mut self, ip: &'a [u8]) -> Option<()> {
        let header: &[u8; 40] = ip.first_chunk()?;
        let (source, destination) = (header[8..24].first_chunk()?, header[24..].first_chunk()?);
        self.src = Some(Ipv6Addr::from_octets(*source).into());
        self.dst = Some(Ipv6Addr::from_octets(*destination).into());
        self.ttl = Some(header[7]);
        self.protocol = Some(header[6]);
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut rest = &ip[40..];
        if length != 0 {
            rest = &rest[..length.min(rest.len())];
        }
        let (mut next, mut first) = (header[6], true);
        while first {
            let length = match next {
                HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => {
                    (usize::from(*rest.get(1)?) + 1) * 8
                }
                AUTHENTICATION => (usize::from(*rest.get(1)?) + 2) * 4,
                FRAGMENT => {
                    first = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]) >> 3 == 0;
                    8
                }
                _ => break,
            };
            next = *rest.first()?;
            self.protocol = Some(next);
            rest = rest.get(length..)?;
        }
        self.carried(next, first, rest)
    }

    /// What IP carries; `first` if it begins here and is not the middle of it.
    fn carried(&mut self, protocol: u8, first: bool, bytes: &'a [u8]) -> Option<()> {
        let header_length = match protocol {
            _ if !first => 0,
            TCP => {
                self.ports(bytes)?;
                let offset_and_flags = u16::from_be_bytes([*bytes.get(12)?, *bytes.get(13)?]);
                self.tcp_flags = Some(offset_and_flags & 0x0fff);
                (usize::from(offset_and_flags >> 12) * 4).max(20)
            }
            UDP | UDP_LITE => {
                self.ports(bytes)?;
                8
            }
            SCTP => {
                self.ports(bytes)?;
                12
            }
            DCCP => {
                self.ports(bytes)?;
                (usize::from(*bytes.get(4)?) * 4).max(12)
            }
            ICMP | ICMPV6 => {
                self.icmp_type = bytes.first().copied();
                self.icmp_code = bytes.get(1).copied();
                8
            }
            _ => 0,
        };
        let payload = bytes.get(header_length..)?;
        let payload = &payload[..payload.len().min(PAYLOAD)];
        self.payload = (!payload.is_empty()).then_some(payload);
        Some(())
    }

    fn ports(&mut self, bytes: &[u8]) -> Option<()> {
        let ports: &[u8; 4] = bytes.first_chunk()?;
        self.sport = Some(u16::from_be_bytes([ports[0], ports[1]]));
        self.dport = Some(u16::from_be_bytes([ports[2], ports[3]]));
        Some(())
    }
}

/// The IP packet in a frame.
fn ip_of(link: Link, frame: &[u8]) -> Option<&[u8]> {
    let at =
        |offset: usize| Some(u16::from_be_bytes([*frame.get(offset)?, *frame.get(offset + 1)?]));
    let (mut kind, mut begin) = match link {
        Link::Ip => return Some(frame),
        Link::Ethernet => (at(12)?, 14),
        Link::Sll => (at(14)?, 16),
        Link::Sll2 => (at(0)?, 20),
        // The family is of the machine that captured, in its byte order: 2 for IPv4 everywhere, for
        // IPv6 what Linux, the BSDs and macOS say.
        Link::Null => {
            let family: &[u8; 4] = frame.first_chunk()?;
            let family = u32::from_le_bytes(*family).min(u32::from_be_bytes(*family));
            return [2, 10, 24, 28, 30].contains(&family).then(|| &frame[4..]);
        }
    };
    // VLAN tags: IEEE 802.1Q, 802.1ad, and what came before that.
    while [0x8100, 0x88a8, 0x9100].contains(&kind) {
        kind = at(begin + 2)?;
        begin += 4;
    }
    [0x0800, 0x86dd].contains(&kind).then(|| frame.get(begin..)).flatten()
}
