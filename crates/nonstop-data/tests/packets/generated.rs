//! A day that was generated: the same each time, right to the last bit, and like what a darknet sees.

use ipnet::Ipv4Net;
use nonstop_data::{
    capture::{Format, Reader},
    generate::{Args, generate},
    packet::Packet,
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

const PACKETS: u64 = 200_000;

fn wanted(day: i8) -> Args {
    Args {
        domain: "intermediate".into(),
        day: jiff::civil::date(2026, 4, day),
        utc_offset_minutes: 540,
        packets: PACKETS,
        seed: 7,
        darknet: "203.0.113.0/24".parse().expect("a network"),
        format: Format::Pcap,
        out: "-".into(),
    }
}

fn file(wanted: &Args) -> Vec<u8> {
    let mut file = Vec::new();
    generate(wanted, &mut file).expect("memory can be written");
    file
}

/// What is looked at of a packet.
struct Seen {
    hour: i64,
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    sport: u16,
    dport: u16,
    flags: u16,
    ttl: u8,
    icmp: u8,
}

fn seen(file: &[u8], wanted: &Args) -> Vec<Seen> {
    let begin = jiff::tz::offset(9).to_timestamp(wanted.day.at(0, 0, 0, 0)).expect("a day");
    let mut reader = Reader::new(file).expect("a file of packets");
    let mut seen = Vec::new();
    let mut before = begin.as_microsecond();
    while let Some(record) = reader.next().expect("whole") {
        let packet = Packet::decode(&record);
        assert!(packet.microseconds >= before, "in order of time, and of the day");
        before = packet.microseconds;
        seen.push(Seen {
            hour: (packet.microseconds - begin.as_microsecond()) / 3_600_000_000,
            src: packet.src.expect("IP"),
            dst: packet.dst.expect("IP"),
            protocol: packet.protocol.expect("IP"),
            sport: packet.sport.unwrap_or(0),
            dport: packet.dport.unwrap_or(0),
            flags: packet.tcp_flags.unwrap_or(0),
            ttl: packet.ttl.expect("IP"),
            icmp: packet.icmp_type.unwrap_or(255),
        });
    }
    assert!(before < begin.as_microsecond() + 86_400_000_000, "and of no other day");
    seen
}

fn counted<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counted = BTreeMap::new();
    keys.for_each(|key| *counted.entry(key).or_default() += 1);
    counted
}

#[test]
fn the_same_words_give_the_same_bytes_and_other_words_others() {
    let small = Args { packets: 5000, ..wanted(1) };
    let hash = |args: &Args| hex::encode(Sha256::digest(file(args)));
    assert_eq!(hash(&small), "999e91130f3fa20b79ed0d645b909a679095bcab33c15324cd21e8d7cea2d3bf");
    for other in [
        Args { seed: 8, ..small.clone() },
        Args { domain: "mws".into(), ..small.clone() },
        Args { day: jiff::civil::date(2026, 4, 2), ..small.clone() },
    ] {
        assert_ne!(hash(&other), hash(&small));
    }
}

#[test]
fn pcapng_holds_the_same_packets_with_their_nanoseconds() {
    let small = Args { packets: 5000, ..wanted(1) };
    let (old, new) = (file(&small), file(&Args { format: Format::Pcapng, ..small }));
    let (mut old, mut new) = (Reader::new(&old[..]).unwrap(), Reader::new(&new[..]).unwrap());
    assert_eq!((old.format(), new.format()), (Format::Pcap, Format::Pcapng));
    while let Some(new) = new.next().unwrap() {
        let old = old.next().unwrap().expect("as many records");
        assert_eq!((old.data, old.nanoseconds), (new.data, new.nanoseconds / 1000 * 1000));
    }
    assert_eq!(old.next().unwrap(), None);
    assert_eq!(old.records(), 5000);
}

#[test]
fn any_number_of_packets_and_any_darknet_is_had_exactly() {
    for packets in [1, 2, 10, 99, 1000, 12_345] {
        for darknet in ["198.51.100.7/32", "198.51.100.0/29", "10.0.0.0/8"] {
            let darknet: Ipv4Net = darknet.parse().unwrap();
            let wanted = Args { packets, darknet, ..wanted(3) };
            let seen = seen(&file(&wanted), &wanted);
            assert_eq!(seen.len() as u64, packets);
            let inside = |seen: &Seen| match (seen.src, seen.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    darknet.contains(&dst) && !darknet.contains(&src)
                }
                _ => false,
            };
            assert!(seen.iter().all(inside));
        }
    }
}

#[test]
fn a_day_looks_like_a_darknets() {
    let wanted = wanted(1);
    let seen = seen(&file(&wanted), &wanted);
    assert_eq!(seen.len() as u64, PACKETS);
    let part = |which: &dyn Fn(&Seen) -> bool| {
        seen.iter().filter(|seen| which(seen)).count() as f64 / PACKETS as f64
    };

    // Ports, in their order.
    let syn = || seen.iter().filter(|seen| seen.flags == 2);
    let ports = counted(syn().map(|seen| seen.dport));
    let of = |port: u16| ports.get(&port).copied().unwrap_or(0);
    let next = [22, 80, 8080].map(of);
    assert!(of(23) > of(445) && next.iter().all(|next| of(445) > *next), "{} {next:?}", of(445));
    for port in [443, 3389, 2323, 5555, 1433, 6379, 81] {
        assert!(of(port) > 300 && next.iter().all(|next| *next > of(port)), "{port}: {}", of(port));
    }
    assert!(ports.len() > 1000, "and some try all of them");
    let asked = counted(seen.iter().filter(|seen| seen.protocol == 17).map(|seen| seen.dport));
    for port in [53, 123, 1900, 5060, 161, 389, 11211, 1434] {
        assert!(asked.get(&port).is_some_and(|n| *n > 200), "{port}: {:?}", asked.get(&port));
    }

    // Protocols, and answers of victims, which come in floods.
    assert!((0.80..0.95).contains(&part(&|seen| seen.protocol == 6)));
    assert!((0.05..0.15).contains(&part(&|seen| seen.protocol == 17)));
    let answer = |seen: &Seen| seen.flags & 0b1_0100 != 0 || [3, 11].contains(&seen.icmp);
    let answers = part(&|seen| answer(seen));
    assert!((0.06..0.09).contains(&answers), "{answers}");
    assert!(part(&|seen| seen.flags == 0x12) > part(&|seen| seen.flags & 4 != 0));
    let flooded =
        counted(seen.iter().filter(|seen| answer(seen)).map(|seen| (seen.src, seen.sport)));
    let largest = flooded.into_iter().max_by_key(|(_, n)| *n).unwrap().0;
    let hours: BTreeSet<_> =
        seen.iter().filter(|s| (s.src, s.sport) == largest).map(|s| s.hour).collect();
    assert!(hours.len() <= 3, "{hours:?}");

    // Bots sleep when their owners do, and scanners do not.
    let hours = counted(syn().filter(|seen| seen.dport == 23).map(|seen| seen.hour));
    let (night, day) = (hours[&4] + hours[&5] + hours[&6], hours[&12] + hours[&13] + hours[&14]);
    assert!((1.3..2.5).contains(&(day as f64 / night as f64)), "{day} by day, {night} by night");

    // Few sources send most.
    let sources = counted(seen.iter().map(|seen| seen.src));
    let mut sizes: Vec<_> = sources.values().copied().collect();
    sizes.sort_unstable();
    let tenth: usize = sizes.iter().rev().take(sizes.len() / 10).sum();
    assert!((1500..5000).contains(&sizes.len()), "{} sources", sizes.len());
    assert!(tenth as f64 > 0.6 * PACKETS as f64, "a tenth of them sends {tenth}");
    let first_ttls: BTreeSet<_> =
        seen.iter().map(|seen| [64, 128, 255].into_iter().find(|ttl| *ttl >= seen.ttl)).collect();
    assert_eq!(first_ttls.len(), 3, "systems differ");
}

#[test]
fn worms_and_scanners_come_by_every_address() {
    let wanted = wanted(2);
    let seen = seen(&file(&wanted), &wanted);
    let reached = |of: &dyn Fn(&Seen) -> bool| {
        let mut reached: BTreeMap<IpAddr, Vec<IpAddr>> = BTreeMap::new();
        for seen in seen.iter().filter(|seen| of(seen)) {
            reached.entry(seen.src).or_default().push(seen.dst);
        }
        reached
    };
    let whole = |by: &[IpAddr]| by.iter().collect::<BTreeSet<_>>().len() == 256;
    let smb = reached(&|seen| seen.flags == 2 && seen.dport == 445);
    let in_order = |by: &[IpAddr]| {
        let one_on = |pair: &[IpAddr]| match pair {
            [IpAddr::V4(a), IpAddr::V4(b)] => b.octets()[3].wrapping_sub(a.octets()[3]) <= 1,
            _ => false,
        };
        by.windows(2).all(one_on)
    };
    let worms = smb.values().filter(|by| by.len() == 512 && whole(by) && in_order(by)).count();
    assert!(worms >= 5, "{worms} hosts of the worm came by all, in order, twice each");
    let scanners = reached(&|seen| seen.flags == 2 && seen.ttl > 128);
    let whole_scans = scanners.values().filter(|by| by.len() % 256 == 0 && whole(by)).count();
    assert!(whole_scans >= 6, "{whole_scans} scanners came by all, as often each");
    let bots = reached(&|seen| seen.flags == 2 && seen.dport == 23);
    let all: BTreeSet<_> = bots.values().flatten().collect();
    assert_eq!(all.len(), 256, "bots together leave none out");
    let mistaken = reached(&|seen| seen.dport == 514);
    assert!(
        mistaken.len() == 1
            && mistaken.values().all(|by| by.len() > 1000 && !by.iter().any(|dst| *dst != by[0]))
    );
}

#[test]
fn most_sources_are_there_again_the_next_day_and_worms_grow() {
    let sources = |day| {
        let wanted = wanted(day);
        let seen = seen(&file(&wanted), &wanted);
        let mut heavy = counted(seen.iter().map(|seen| seen.src));
        heavy.retain(|_, packets| *packets > 200);
        let worm = |port: u16| {
            let with = seen.iter().filter(|seen| seen.flags == 2 && seen.dport == port);
            with.map(|seen| seen.src).collect::<BTreeSet<_>>().len()
        };
        (heavy.into_keys().collect::<BTreeSet<_>>(), [worm(445), worm(5555)])
    };
    let (first, hosts) = sources(11);
    let (second, more) = sources(12);
    let (_, most) = sources(13);
    let again = first.intersection(&second).count() as f64 / first.len() as f64;
    assert!((0.6..0.95).contains(&again), "{again} of {} are there again", first.len());
    for worm in 0..2 {
        let growth = [hosts[worm], more[worm], most[worm]];
        assert!(growth.is_sorted_by(|a, b| a < b), "{growth:?}");
    }
}
