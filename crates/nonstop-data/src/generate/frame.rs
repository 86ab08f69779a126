//! Frames of Ethernet with right lengths and checksums.

use std::net::Ipv4Addr;

/// The router before the darknet and the sensor: RFC 7042's addresses for documentation.
const ETHERNET: [u8; 14] =
    [0x00, 0x00, 0x5e, 0x00, 0x53, 0x02, 0x00, 0x00, 0x5e, 0x00, 0x53, 0x01, 0x08, 0x00];
/// Ethernet pads up to it.
const SHORTEST: usize = 60;
const IP: usize = ETHERNET.len();
const CARRIED: usize = IP + 20;
const LONGEST: usize = 1514;

/// Flags of TCP.
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What the header of IP says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ip {
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) ttl: u8,
    pub(super) id: u16,
}

/// What the header of TCP says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tcp<'a> {
    pub(super) sport: u16,
    pub(super) dport: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// Of a length that four divides.
    pub(super) options: &'a [u8],
}

/// Room for a frame, used again for the next.
pub(super) struct Frame {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Frame {
    pub(super) fn new() -> Self {
        let mut bytes = [0; LONGEST];
        bytes[..IP].copy_from_slice(&ETHERNET);
        Self { bytes, length: 0 }
    }

    /// The frame as it came from the wire.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn tcp(&mut self, ip: Ip, tcp: Tcp<'_>) {
        let header = &mut self.bytes[CARRIED..];
        header[..2].copy_from_slice(&tcp.sport.to_be_bytes());
        header[2..4].copy_from_slice(&tcp.dport.to_be_bytes());
        header[4..8].copy_from_slice(&tcp.seq.to_be_bytes());
        header[8..12].copy_from_slice(&tcp.ack.to_be_bytes());
        let length = 20 + tcp.options.len();
        header[12] = (length as u8 / 4) << 4;
        header[13] = tcp.flags;
        header[14..16].copy_from_slice(&tcp.window.to_be_bytes());
        header[16..20].fill(0);
        header[20..length].copy_from_slice(tcp.options);
        let sum = checksum(pseudo(ip, TCP, length), &header[..length]);
        header[16..18].copy_from_slice(&sum.to_be_bytes());
        // A sender of SYN does not want it cut into fragments; one of RST says nothing of it.
        self.finish(ip, TCP, length, tcp.flags & SYN != 0 && !tcp.options.is_empty());
    }

    pub(super) fn udp(&mut self, ip: Ip, sport: u16, dport: u16, payload: &[u8]) {
        let length = 8 + payload.len();
        let header = &mut self.bytes[CARRIED..];
        header[..2].copy_from_slice(&sport.to_be_bytes());
        header[2..4].copy_from_slice(&dport.to_be_bytes());
        header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        header[6..8].fill(0);
        header[8..length].copy_from_slice(payload);
        // 0 would say that there is no checksum.
        let sum = match checksum(pseudo(ip, UDP, length), &header[..length]) {
            0 => u16::MAX,
            sum => sum,
        };
        header[6..8].copy_from_slice(&sum.to_be_bytes());
        self.finish(ip, UDP, length, false);
    }

    pub(super) fn icmp(&mut self, ip: Ip, kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) {
        let length = 8 + payload.len();
        let header = &mut self.bytes[CARRIED..];
        header[..4].copy_from_slice(&[kind, code, 0, 0]);
        header[4..8].copy_from_slice(&rest);
        header[8..length].copy_from_slice(payload);
        let sum = checksum(0, &header[..length]);
        header[2..4].copy_from_slice(&sum.to_be_bytes());
        self.finish(ip, ICMP, length, false);
    }

    fn finish(&mut self, ip: Ip, protocol: u8, carried: usize, whole: bool) {
        let header = ip_header(ip, protocol, carried, whole);
        self.bytes[IP..CARRIED].copy_from_slice(&header);
        let end = CARRIED + carried;
        self.length = end.max(SHORTEST);
        self.bytes[end..self.length].fill(0);
    }
}

/// The begin of a packet to a victim, as an ICMP error quotes it: its header, whose time to live has
/// become `ip.ttl`, and eight bytes of TCP.
pub(super) fn quoted(ip: Ip, sport: u16, dport: u16, seq: u32) -> [u8; 28] {
    let mut quote = [0; 28];
    quote[..20].copy_from_slice(&ip_header(ip, TCP, 20, false));
    quote[20..22].copy_from_slice(&sport.to_be_bytes());
    quote[22..24].copy_from_slice(&dport.to_be_bytes());
    quote[24..].copy_from_slice(&seq.to_be_bytes());
    quote
}

fn ip_header(ip: Ip, protocol: u8, carried: usize, whole: bool) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(20 + carried as u16).to_be_bytes());
    header[4..6].copy_from_slice(&ip.id.to_be_bytes());
    header[6] = if whole { 0x40 } else { 0 };
    header[8] = ip.ttl;
    header[9] = protocol;
    header[12..16].copy_from_slice(&ip.src.octets());
    header[16..].copy_from_slice(&ip.dst.octets());
    let sum = checksum(0, &header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// The sum over what TCP and UDP add to themselves before they are summed up.
fn pseudo(ip: Ip, protocol: u8, length: usize) -> u32 {
    let halves = |address: Ipv4Addr| (u32::from(address) >> 16) + (u32::from(address) & 0xffff);
    halves(ip.src) + halves(ip.dst) + u32::from(protocol) + length as u32
}

/// RFC 1071.
fn checksum(mut sum: u32, bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    for pair in pairs {
        sum += u32::from(u16::from_be_bytes(*pair));
    }
    if let [last] = rest {
        sum += u32::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}
