//! What a sender sends: its `i`th packet, with the marks by which researchers tell tools apart.

use super::{
    darknet::Darknet,
    dice::{Dice, mixed},
    frame::{ACK, Frame, Ip, RST, SYN, Tcp, quoted},
    question::{Question, Questions},
    source::{Source, System},
};
use std::net::Ipv4Addr;

/// Ways to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// A scanner with zmap's marks: one port, all addresses shuffled, IP's id 54321.
    Zmap { port: u16 },
    /// A scanner with masscan's marks: several ports an address, IP's id made of the rest.
    Masscan { ports: &'static [u16] },
    /// A scanner that connects, address by address in order.
    InOrder { port: u16 },
    /// A bot like Mirai's: telnet, the destination as sequence number.
    Mirai,
    /// A worm that connects to SMB, address by address in order, twice each.
    Smb,
    /// A worm that looks for Android's debug bridge; see `cast` for how it grows.
    Adb,
    /// One of the many who try a port or two.
    Few,
    /// Echo requests.
    Ping,
    /// UDP to 1434 of the length of a known worm, filled with harmless text.
    Filler,
    /// Asks all addresses of a service that answers with more than it was asked.
    Asks(Question),
    /// Answers packets that somebody sent in the darknet's name: a victim of a flood.
    Victim { port: u16 },
    /// Asks one address for hours, by mistake.
    Mistaken(Mistake),
}

/// What somebody does by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    /// Connects to a port again and again, four packets a try.
    Connects(u16),
    /// Asks for something, or tells it.
    Says(Question),
}

/// Ports that the many try, by weight.
pub(super) const PORTS: &[(u16, u32)] = &[
    (23, 150),
    (445, 110),
    (22, 120),
    (80, 90),
    (8080, 75),
    (3389, 60),
    (443, 45),
    (6379, 36),
    (5555, 30),
    (1433, 30),
    (2323, 24),
    (81, 22),
    (8443, 16),
    (3306, 16),
    (2222, 14),
    (5900, 14),
    (21, 12),
    (25, 12),
    (8088, 10),
    (5432, 10),
    (60001, 8),
    (9200, 8),
    (37215, 8),
    (2375, 6),
    (0, 74),
];

const LINUX: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7];
const WINDOWS: [u8; 12] = [2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2];
const SIZE_ONLY: [u8; 4] = [2, 4, 5, 0xb4];

/// Makes frames.
pub(super) struct Sender {
    pub(super) darknet: Darknet,
    pub(super) dice: Dice,
    pub(super) frame: Frame,
    pub(super) questions: Questions,
}

impl Sender {
    /// Makes the `i`th packet of `source`, at `milliseconds` of the day; `self.frame` holds it.
    pub(super) fn send(&mut self, habit: Habit, source: &Source, i: u64, milliseconds: u32) {
        let darknet = self.darknet;
        let shuffled = |i| darknet.shuffled(source.key, i);
        match habit {
            Habit::Zmap { port } => {
                let ip = self.ip(source, shuffled(i), 54321, 255);
                let sport =
                    32768 + (mixed(source.key ^ u64::from(u32::from(ip.dst))) % 28233) as u16;
                let seq = self.dice.u32();
                self.syn(ip, sport, port, seq, 65535, &[]);
            }
            Habit::Masscan { ports } => {
                let many = ports.len() as u64;
                let (dst, port) = (shuffled(i / many), ports[(i % many) as usize]);
                let seq = self.dice.u32();
                let id = u32::from(dst) ^ u32::from(port) ^ seq;
                let ip = self.ip(source, dst, (id ^ id >> 16) as u16, 255);
                let sport = 40000 + source.habit(1, 20000) as u16;
                self.syn(ip, sport, port, seq, 1024, &[]);
            }
            Habit::InOrder { port } => {
                self.connect(source, darknet.at(i), port, i, milliseconds);
            }
            Habit::Mirai => {
                let port = if self.dice.below(12) == 0 { 2323 } else { 23 };
                let id = self.dice.u16();
                let ip = self.ip(source, shuffled(i), id, 64);
                let (sport, window) = (1024 + self.dice.below(64512) as u16, self.dice.u16());
                self.syn(ip, sport, port, ip.dst.into(), window, &[]);
            }
            Habit::Smb => {
                let dst = darknet.at(source.habit(1, darknet.size()) + i / 2);
                self.connect(source, dst, 445, i / 2, milliseconds);
            }
            Habit::Adb => self.connect(source, shuffled(i), 5555, i, milliseconds),
            Habit::Few => {
                let port = self.few(source, i);
                self.connect(source, shuffled(i), port, i, milliseconds);
            }
            Habit::Ping => self.ping(source, shuffled(i), i),
            Habit::Filler => {
                let id = self.dice.u16();
                let ip = Ip { id, ..self.ip(source, shuffled(i), 0, 128) };
                let sport = 1024 + source.habit(1, 64512) as u16;
                self.frame.udp(ip, sport, 1434, self.questions.filler());
            }
            Habit::Asks(question) => {
                let sport = 1024 + source.habit(1, 64512) as u16;
                self.ask(source, shuffled(i), sport, question);
            }
            Habit::Victim { port } => self.answer(source, port),
            Habit::Mistaken(mistake) => {
                let dst = darknet.at(source.habit(1, darknet.size()));
                match mistake {
                    Mistake::Connects(port) => {
                        self.connect(source, dst, port, i / 4, milliseconds);
                    }
                    Mistake::Says(question) => {
                        let sport = 1024 + source.habit(2, 64512) as u16;
                        self.ask(source, dst, sport, question);
                    }
                }
            }
        }
    }

    fn ip(&mut self, source: &Source, dst: Ipv4Addr, id: u16, ttl: u8) -> Ip {
        Ip { src: source.address, dst, ttl: source.ttl_of(ttl), id }
    }

    fn syn(&mut self, ip: Ip, sport: u16, dport: u16, seq: u32, window: u16, options: &[u8]) {
        let tcp = Tcp { sport, dport, seq, ack: 0, flags: SYN, window, options };
        self.frame.tcp(ip, tcp);
    }

    /// A SYN as the system of `source` sends it, of its `attempt`th connection: a repeat is the same.
    fn connect(&mut self, source: &Source, dst: Ipv4Addr, port: u16, attempt: u64, now: u32) {
        let own = mixed(source.key.wrapping_add(attempt));
        let (seq, id) = (own as u32, self.dice.u16());
        let ip = Ip { src: source.address, dst, ttl: source.ttl(), id };
        match source.system {
            System::Linux => {
                let mut options = LINUX;
                let uptime = now.wrapping_add(source.key as u32);
                options[8..12].copy_from_slice(&uptime.to_be_bytes());
                let sport = 32768 + ((own >> 32) % 28232) as u16;
                self.syn(ip, sport, port, seq, 64240, &options);
            }
            System::Windows => {
                let sport = 49152 + ((source.key + attempt) % 16384) as u16;
                let window = if source.habit(3, 3) == 0 { 8192 } else { 64240 };
                self.syn(ip, sport, port, seq, window, &WINDOWS);
            }
            System::Device => {
                let sport = 1024 + ((own >> 32) % 4000) as u16;
                self.syn(ip, sport, port, seq, 5840, &SIZE_ONLY);
            }
        }
    }

    /// The port that one of the many tries: one of its two, or where a scan of all ports is up to.
    fn few(&mut self, source: &Source, i: u64) -> u16 {
        let all: u32 = PORTS.iter().map(|(_, weight)| weight).sum();
        let mut at = source.habit(4 + self.dice.below(2), all.into()) as u32;
        for (port, weight) in PORTS {
            if at < *weight {
                return match port {
                    0 => 1 + (mixed(source.key ^ i) % 65535) as u16,
                    port => *port,
                };
            }
            at -= weight;
        }
        unreachable!("the number is below the sum of the weights")
    }

    fn ping(&mut self, source: &Source, dst: Ipv4Addr, i: u64) {
        let id = self.dice.u16();
        let ip = Ip { src: source.address, dst, ttl: source.ttl(), id };
        let rest = (((source.key as u32) << 16) | (i as u32 & 0xffff)).to_be_bytes();
        match source.system {
            System::Windows => {
                self.frame.icmp(ip, 8, 0, rest, b"abcdefghijklmnopqrstuvwabcdefghi");
            }
            _ => {
                let mut pattern = [0; 56];
                pattern.iter_mut().zip(0..).for_each(|(byte, n)| *byte = n);
                self.frame.icmp(ip, 8, 0, rest, &pattern);
            }
        }
    }

    fn ask(&mut self, source: &Source, dst: Ipv4Addr, sport: u16, question: Question) {
        let id = self.dice.u16();
        let ip = Ip { src: source.address, dst, ttl: source.ttl(), id };
        let payload = self.questions.of(question, dst, self.dice.u16());
        self.frame.udp(ip, sport, question.port(), payload);
    }

    /// An answer of a victim to one of the packets that flood it.
    fn answer(&mut self, source: &Source, port: u16) {
        let forged = self.darknet.at(self.dice.u64());
        let (theirs, id) = (1024 + self.dice.below(64512) as u16, self.dice.u16());
        let ip = Ip { src: source.address, dst: forged, ttl: source.ttl(), id };
        let (seq, ack) = (self.dice.u32(), self.dice.u32());
        let tcp = Tcp {
            sport: port,
            dport: theirs,
            seq,
            ack,
            flags: SYN | ACK,
            window: 64240,
            options: &[],
        };
        match self.dice.below(100) {
            0..62 => self.frame.tcp(ip, Tcp { options: &SIZE_ONLY, ..tcp }),
            62..86 => {
                let ip = Ip { id: 0, ..ip };
                self.frame.tcp(ip, Tcp { seq: 0, flags: RST | ACK, window: 0, ..tcp });
            }
            86..88 => self.frame.tcp(ip, Tcp { ack: 0, flags: RST, window: 0, ..tcp }),
            // Its router says that it is not reached (host, port, filtered), or that the way is too
            // long.
            errors => {
                let (kind, code, left) = match errors {
                    88..92 => (3, 1, 40),
                    92..95 => (3, 3, 50),
                    95..98 => (3, 13, 45),
                    _ => (11, 0, 1),
                };
                let router = Ipv4Addr::from((u32::from(source.address) & !0xff) | 1);
                let flood = Ip { src: forged, dst: source.address, ttl: left, id: ack as u16 };
                let quote = quoted(flood, theirs, port, seq);
                self.frame.icmp(Ip { src: router, ..ip }, kind, code, [0; 4], &quote);
            }
        }
    }
}
