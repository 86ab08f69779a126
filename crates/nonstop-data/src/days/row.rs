//! Packets as PostgreSQL takes them: the binary format of COPY (PostgreSQL's manual, "COPY, File
//! Formats"), and of each column's type.

use crate::{packet::Packet, wire::HEAD};
use std::net::IpAddr;

/// A buffer of rows, ready to be sent.
#[derive(Debug)]
pub struct Rows {
    bytes: Vec<u8>,
    /// Where a row is put together: one copy from here, and no growth on the way.
    row: Row,
}

/// Columns of `packets`.
const COLUMNS: i16 = 12;

/// Seconds from 1970 to 2000, PostgreSQL's beginning.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// A buffer is sent when it is as long as this.
const ENOUGH: usize = 128 << 10;

/// The longest row: less than this.
const LONGEST: usize = 256;

/// NULL, in place of a length.
const NULL: [u8; 4] = (-1i32).to_be_bytes();

impl Default for Rows {
    fn default() -> Self {
        Self::new()
    }
}

impl Rows {
    /// The beginning of a COPY.
    pub fn new() -> Rows {
        let row = Row { bytes: [0; LONGEST], length: 0 };
        let mut rows = Rows { bytes: Vec::with_capacity(ENOUGH + LONGEST), row };
        rows.clear();
        // Signature, flags, and the length of what follows in the header: nothing.
        rows.bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        rows
    }

    /// Whether it should be sent.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= ENOUGH
    }

    /// What is to be sent, with room for the message's head in front.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Begins the next buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; HEAD]);
    }

    /// The end of a COPY.
    pub fn end(&mut self) {
        self.bytes.extend_from_slice(&(-1i16).to_be_bytes());
    }

    /// Adds a row. Columns in the order of the table's.
    pub fn push(&mut self, packet: &Packet<'_>) {
        let row = &mut self.row;
        row.length = 0;
        row.put(&COLUMNS.to_be_bytes());
        row.long(packet.microseconds - EPOCH_MICROSECONDS);
        row.inet(packet.src);
        row.inet(packet.dst);
        row.small(packet.protocol.map(i16::from));
        row.port(packet.sport);
        row.port(packet.dport);
        row.small(packet.tcp_flags.map(|flags| (flags & 0x0fff) as i16));
        row.small(packet.ttl.map(i16::from));
        row.number(i32::try_from(packet.length).unwrap_or(i32::MAX));
        row.small(packet.icmp_type.map(i16::from));
        row.small(packet.icmp_code.map(i16::from));
        match packet.payload {
            Some(payload) => {
                let payload = &payload[..payload.len().min(crate::packet::PAYLOAD)];
                row.put(&(payload.len() as u32).to_be_bytes());
                row.put(payload);
            }
            None => row.put(&NULL),
        }
        self.bytes.extend_from_slice(&row.bytes[..row.length]);
    }
}

#[derive(Debug)]
struct Row {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Row {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    // A value of fixed length goes in as one number together with its length.

    #[inline]
    fn long(&mut self, value: i64) {
        let both = 8_u128 << 64 | u128::from(value.cast_unsigned());
        self.put(&both.to_be_bytes()[4..]);
    }

    #[inline]
    fn number(&mut self, value: i32) {
        self.put(&(4_u64 << 32 | u64::from(value.cast_unsigned())).to_be_bytes());
    }

    #[inline]
    fn small(&mut self, value: Option<i16>) {
        match value {
            Some(value) => {
                let both = 2_u64 << 16 | u64::from(value.cast_unsigned());
                self.put(&both.to_be_bytes()[2..]);
            }
            None => self.put(&NULL),
        }
    }

    #[inline]
    fn port(&mut self, port: Option<u16>) {
        match port {
            Some(port) => self.number(port.into()),
            None => self.put(&NULL),
        }
    }

    /// Family (2 for IPv4, 3 for IPv6), bits of the prefix, not a cidr, length, address.
    #[inline]
    fn inet(&mut self, address: Option<IpAddr>) {
        match address {
            Some(IpAddr::V4(address)) => {
                let both = 8_u128 << 64 | 0x0220_0004 << 32 | u128::from(u32::from(address));
                self.put(&both.to_be_bytes()[4..]);
            }
            Some(IpAddr::V6(address)) => {
                self.put(&20u32.to_be_bytes());
                self.put(&[3, 128, 0, 16]);
                self.put(&address.octets());
            }
            None => self.put(&NULL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: Option<&[u8]>) -> Packet<'_> {
        Packet {
            microseconds: EPOCH_MICROSECONDS + 1,
            src: Some("203.0.113.7".parse().unwrap()),
            dst: Some("2001:db8::1".parse().unwrap()),
            protocol: Some(6),
            sport: Some(65535),
            dport: Some(23),
            tcp_flags: Some(0x0fff),
            ttl: Some(255),
            length: u32::MAX,
            icmp_type: None,
            icmp_code: None,
            payload,
        }
    }

    #[test]
    fn a_row_is_what_the_manual_says() {
        let mut rows = Rows::new();
        rows.clear();
        rows.push(&packet(Some(b"abc")));
        let told = hex::encode(&rows.bytes()[HEAD..]);
        let fields = [
            "000c",
            "000000080000000000000001",
            "0000000802200004cb007107",
            "000000140380001020010db8000000000000000000000001",
            "000000020006",
            "000000040000ffff",
            "0000000400000017",
            "000000020fff",
            "0000000200ff",
            "000000047fffffff",
            "ffffffff",
            "ffffffff",
            "00000003616263",
        ];
        assert_eq!(told, fields.concat());
    }

    #[test]
    fn the_longest_row_fits() {
        let mut rows = Rows::new();
        let mut packet = packet(Some(&[0xff; 4096]));
        packet.src = packet.dst;
        (packet.icmp_type, packet.icmp_code) = (Some(255), Some(255));
        while !rows.is_full() {
            rows.push(&packet);
        }
        assert!(rows.bytes().len() < ENOUGH + LONGEST);
    }
}
