//! Frames of every make that there is, or nearly.

/// A frame, and the link type that it begins with.
#[derive(Debug, Clone)]
pub(crate) struct Odd {
    pub(crate) link: u32,
    pub(crate) bytes: Vec<u8>,
}

fn tcp(offset_and_flags: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut tcp = vec![0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2];
    tcp.extend(offset_and_flags.to_be_bytes());
    tcp.extend([0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(payload);
    tcp
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&[0x30, 0x39, 0x26, 0x94, length[0], length[1], 0, 0], payload].concat()
}

/// `fragment` is the field of flags and offset.
fn ipv4(protocol: u8, fragment: u16, options: &[u8], carried: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let total = ((header + carried.len()) as u16).to_be_bytes();
    let [high, low] = fragment.to_be_bytes();
    let mut ip = vec![0x40 | (header / 4) as u8, 0, total[0], total[1], 0x12, 0x34, high, low];
    ip.extend([63, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 9]);
    ip.extend(options);
    ip.extend(carried);
    ip
}

fn ipv6(next: u8, carried: &[u8]) -> Vec<u8> {
    let length = (carried.len() as u16).to_be_bytes();
    let mut ip = vec![0x60, 0, 0, 0, length[0], length[1], next, 61];
    for last in [1, 2] {
        ip.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    ip.extend(carried);
    ip
}

/// Behind these tags.
fn ethernet(tags: &[u16], kind: u16, carried: &[u8]) -> Vec<u8> {
    let mut frame = [[2; 6], [4; 6]].concat();
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(carried);
    frame.resize(frame.len().max(60), 0);
    frame
}

const SYN: u16 = 0x5002;
const V4: u16 = 0x0800;
const V6: u16 = 0x86dd;

/// All of them.
pub(crate) fn frames() -> Vec<Odd> {
    let long: Vec<u8> = (0..90).collect();
    let arp =
        [0, 1, 8, 0, 6, 4, 0, 1, 4, 4, 4, 4, 4, 4, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9];
    let fragment = |more_and_offset: u16, next: u8| {
        let [high, low] = more_and_offset.to_be_bytes();
        [next, 0, high, low, 0, 0, 0, 9]
    };
    let hop_by_hop = [6, 0, 1, 4, 0, 0, 0, 0];
    let ip = vec![
        (V4, ipv4(6, 0, &[], &tcp(SYN, &[], &[]))),
        // All flags but RST, whose payload tshark calls something else, options, and a payload.
        (V4, ipv4(6, 0x4000, &[], &tcp(0x6ffb, &[1, 1, 1, 0], &long))),
        (V4, ipv4(17, 0, &[], &udp(b"two"))),
        (V4, ipv4(17, 0, &[148, 4, 0, 0, 1, 1, 1, 0], &udp(&long))),
        (V4, ipv4(17, 0, &[], &udp(&[]))),
        // The first fragment, one in the middle, and the last.
        (V4, ipv4(17, 0x2000, &[], &udp(&long[..72]))),
        (V4, ipv4(17, 0x200a, &[], &long[..80])),
        (V4, ipv4(17, 0x0014, &[], &long[..5])),
        (V4, ipv4(6, 0x2001, &[], &long[..80])),
        (V4, ipv4(1, 0, &[], &[8, 0, 0, 0, 0, 1, 0, 2, 9, 9, 9, 9])),
        (
            V4,
            ipv4(
                1,
                0,
                &[],
                &[&[3, 3, 0, 0, 0, 0, 0, 0], &ipv4(17, 0, &[], &udp(b"x"))[..]].concat(),
            ),
        ),
        (V4, ipv4(2, 0, &[], &[0x16, 0, 0, 0, 224, 0, 0, 251])),
        (V4, ipv4(47, 0, &[], &[0, 0, 0x22, 0xf0, 1, 2, 3, 4])),
        (V4, ipv4(50, 0, &[], &long)),
        (V4, ipv4(132, 0, &[], &[0x30, 0x39, 0x0b, 0x59, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 4])),
        (V4, ipv4(253, 0, &[], &long)),
        (V6, ipv6(6, &tcp(SYN, &[], &[]))),
        (V6, ipv6(17, &udp(&long))),
        (V6, ipv6(58, &[128, 0, 0, 0, 0, 1, 0, 2, 9, 9])),
        (V6, ipv6(0, &[&hop_by_hop[..], &tcp(SYN, &[], b"hop")].concat())),
        (V6, ipv6(44, &[&fragment(1, 17)[..], &udp(&long[..72])].concat())),
        (V6, ipv6(44, &[&fragment(81, 17)[..], &long[..80]].concat())),
        (V6, ipv6(59, &[])),
        (V6, ipv6(50, &long)),
    ];
    let mut odd = Vec::new();
    let mut add = |link: u32, bytes: Vec<u8>| odd.push(Odd { link, bytes });
    for (kind, ip) in ip {
        add(1, ethernet(&[], kind, &ip));
        add(1, ethernet(&[0x8100], kind, &ip));
        add(1, ethernet(&[0x88a8, 0x8100], kind, &ip));
        let [high, low] = kind.to_be_bytes();
        add(113, [&[0, 0, 0, 1, 0, 6, 4, 4, 4, 4, 4, 4, 0, 0, high, low], &ip[..]].concat());
        let sll2 = [high, low, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 4, 4, 4, 4, 4, 4, 0, 0];
        add(276, [&sll2, &ip[..]].concat());
        for family in if kind == V4 { vec![2] } else { vec![24, 28, 30] } {
            add(0, [&[family, 0, 0, 0], &ip[..]].concat());
            add(108, [&[0, 0, 0, family], &ip[..]].concat());
        }
        add(101, ip);
    }
    // What is no IP.
    add(1, ethernet(&[], 0x0806, &arp));
    add(1, ethernet(&[0x8100], 0x0806, &arp));
    add(1, ethernet(&[], 0x0026, &[0x42, 0x42, 3, 0, 0, 0, 0, 0]));
    add(1, ethernet(&[], 0x88cc, &[0; 40]));
    add(113, [&[0, 0, 0, 1, 0, 6, 4, 4, 4, 4, 4, 4, 0, 0, 8, 6], &arp[..]].concat());
    // IP that makes no sense: of version 5, of a header too short.
    add(1, ethernet(&[], V4, &[0x55; 40]));
    add(1, ethernet(&[], V4, &[0x41; 40]));
    odd
}
