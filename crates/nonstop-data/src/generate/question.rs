//! What is asked over UDP: whole messages of each protocol that harm nobody, where the real ones ask
//! for the longest answer.

use std::{io::Write, net::Ipv4Addr};

/// What somebody asks, or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// DNS: all about example.com.
    Dns,
    /// NTP: the time.
    Ntp,
    /// SSDP: who is there.
    Ssdp,
    /// memcached: its version.
    Memcached,
    /// SIP: what the other can do.
    Sip,
    /// SNMP: what the other is.
    Snmp,
    /// LDAP without a connection: what the server is.
    Cldap,
    /// syslog: a line of a log.
    Syslog,
}

impl Question {
    /// The port that it is sent to.
    pub(super) fn port(self) -> u16 {
        match self {
            Question::Dns => 53,
            Question::Ntp => 123,
            Question::Ssdp => 1900,
            Question::Memcached => 11211,
            Question::Sip => 5060,
            Question::Snmp => 161,
            Question::Cldap => 389,
            Question::Syslog => 514,
        }
    }
}

const DNS: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\xff\0\x01";
const SSDP: &[u8] = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\
    MAN: \"ssdp:discover\"\r\nMX: 2\r\nST: ssdp:all\r\n\r\n";
const MEMCACHED: &[u8] = b"\0\0\0\0\0\x01\0\0version\r\n";
/// GET of sysDescr.0, community `public`, version 2c.
const SNMP: &[u8] =
    b"\x30\x28\x02\x01\x01\x04\x06public\xa0\x1b\x02\x03\x01\0\0\x02\x01\0\x02\x01\0\
    \x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\0\x05\0";
/// A search for the root's `objectClass`.
const CLDAP: &[u8] = b"\x30\x25\x02\x01\x01\x63\x20\x04\0\x0a\x01\0\x0a\x01\0\x02\x01\0\x02\x01\0\
    \x01\x01\0\x87\x0bobjectClass\x30\0";
const SYSLOG: &[u8] = b"<134>gateway ntpd[611]: time stepped by +0.1 s";

/// Room for a question.
pub(super) struct Questions {
    bytes: Vec<u8>,
    filler: Vec<u8>,
}

impl Questions {
    pub(super) fn new() -> Self {
        let text = b"nothing but filler. ".iter().copied().cycle();
        Self { bytes: Vec::new(), filler: std::iter::once(4).chain(text).take(376).collect() }
    }

    /// 376 bytes of text behind one of the value 4.
    pub(super) fn filler(&self) -> &[u8] {
        &self.filler
    }

    /// `question` to `dst`, with a number of its own where there is one.
    pub(super) fn of(&mut self, question: Question, dst: Ipv4Addr, number: u16) -> &[u8] {
        let bytes = &mut self.bytes;
        let [high, low] = number.to_be_bytes();
        bytes.clear();
        match question {
            Question::Dns | Question::Memcached => {
                bytes.extend(if question == Question::Dns { DNS } else { MEMCACHED });
                // From 128 on memcached would take it for its binary protocol.
                bytes[..2].copy_from_slice(&[high & 0x7f, low]);
            }
            Question::Ntp => {
                bytes.resize(48, 0);
                bytes[0] = 0x23;
                bytes[40..42].copy_from_slice(&[high, low]);
            }
            Question::Ssdp => bytes.extend(SSDP),
            Question::Snmp => {
                bytes.extend(SNMP);
                bytes[18..20].copy_from_slice(&[high, low]);
            }
            Question::Cldap => bytes.extend(CLDAP),
            Question::Syslog => bytes.extend(SYSLOG),
            Question::Sip => write!(
                bytes,
                "OPTIONS sip:100@{dst} SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 127.0.1.1:5060;branch=z9hG4bK-{number:05}\r\n\
                 Max-Forwards: 70\r\nTo: <sip:100@{dst}>\r\n\
                 From: \"test\" <sip:100@127.0.1.1>;tag={number:05}\r\n\
                 Call-ID: {number:05}\r\nCSeq: 1 OPTIONS\r\nContact: <sip:100@127.0.1.1:5060>\r\n\
                 Accept: application/sdp\r\nContent-Length: 0\r\n\r\n"
            )
            .expect("memory can be written"),
        }
        bytes
    }
}
