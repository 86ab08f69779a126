//! Each column is what tshark says of the same record.

use super::{
    odd,
    tools::{generated, run},
    writer::*,
};
use nonstop_data::{
    capture::{Format, Reader},
    packet::{PAYLOAD, Packet},
};
use std::{collections::BTreeMap, fs, path::Path};

/// Columns, and what tshark calls them: the value is that of the first that it names.
const COLUMNS: &[(&str, &[&str])] = &[
    ("time", &["frame.time_epoch"]),
    ("length", &["frame.len"]),
    ("src", &["ip.src", "ipv6.src"]),
    ("dst", &["ip.dst", "ipv6.dst"]),
    ("protocol", &["ip.proto", "ipv6.fraghdr.nxt", "ipv6.hopopts.nxt", "ipv6.nxt"]),
    ("ttl", &["ip.ttl", "ipv6.hlim"]),
    ("sport", &["tcp.srcport", "udp.srcport", "sctp.srcport"]),
    ("dport", &["tcp.dstport", "udp.dstport", "sctp.dstport"]),
    ("tcp_flags", &["tcp.flags"]),
    ("icmp_type", &["icmp.type", "icmpv6.type"]),
    ("icmp_code", &["icmp.code", "icmpv6.code"]),
    ("payload", &["tcp.payload", "udp.payload"]),
];

type Row = BTreeMap<&'static str, String>;

fn by_tshark(file: &Path) -> Vec<Row> {
    let file = file.to_str().expect("a name of text");
    let mut args = vec!["-n", "-r", file, "-T", "fields", "-E", "occurrence=f"];
    // Each record by itself, as the table has it.
    args.extend(["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]);
    args.extend(COLUMNS.iter().flat_map(|(_, fields)| *fields).flat_map(|field| ["-e", field]));
    run("tshark", &args).lines().map(row_of_tshark).collect()
}

fn row_of_tshark(line: &str) -> Row {
    let mut values = line.split('\t');
    let mut row = Row::new();
    for (name, fields) in COLUMNS {
        let values: Vec<_> = fields.iter().map(|_| values.next().expect("a value")).collect();
        let value = values.into_iter().find(|value| !value.is_empty()).unwrap_or("");
        let value = match *name {
            "time" => value[..value.len() - 3].to_owned(),
            "payload" => value[..value.len().min(2 * PAYLOAD)].to_owned(),
            "tcp_flags" if !value.is_empty() => {
                let hex = value.trim_start_matches("0x");
                u16::from_str_radix(hex, 16).expect("a number").to_string()
            }
            _ => value.to_owned(),
        };
        row.insert(name, value);
    }
    // What an error of ICMP quotes is not what it says of itself.
    if ["1", "58"].contains(&row["protocol"].as_str()) {
        for quoted in ["sport", "dport", "tcp_flags", "payload"] {
            row.insert(quoted, String::new());
        }
    }
    row
}

fn by_us(file: &Path) -> Vec<Row> {
    fn shown<T: ToString>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let file = fs::File::open(file).expect("is there");
    let mut reader = Reader::new(file).expect("a file of packets");
    let mut rows = Vec::new();
    while let Some(record) = reader.next().expect("whole") {
        let packet = Packet::decode(&record);
        let (seconds, rest) = (packet.microseconds / 1_000_000, packet.microseconds % 1_000_000);
        // tshark shows the payload of ICMP and others in many ways.
        let tcp_or_udp = matches!(packet.protocol, Some(6 | 17)) && packet.sport.is_some();
        let payload = packet.payload.filter(|_| tcp_or_udp).map(hex::encode);
        rows.push(Row::from([
            ("time", format!("{seconds}.{rest:06}")),
            ("length", packet.length.to_string()),
            ("src", shown(packet.src)),
            ("dst", shown(packet.dst)),
            ("protocol", shown(packet.protocol)),
            ("ttl", shown(packet.ttl)),
            ("sport", shown(packet.sport)),
            ("dport", shown(packet.dport)),
            ("tcp_flags", shown(packet.tcp_flags)),
            ("icmp_type", shown(packet.icmp_type)),
            ("icmp_code", shown(packet.icmp_code)),
            ("payload", shown(payload)),
        ]));
    }
    rows
}

/// Compares each record of `file`; how many there are.
pub(crate) fn agree(file: &Path) -> usize {
    compare(file, |ours, theirs| ours == theirs)
}

fn compare(file: &Path, same: impl Fn(&Row, &Row) -> bool) -> usize {
    let (ours, theirs) = (by_us(file), by_tshark(file));
    assert_eq!(ours.len(), theirs.len(), "one row for each record");
    for (number, (ours, theirs)) in (1..).zip(ours.iter().zip(&theirs)) {
        assert!(same(ours, theirs), "record {number} of {}: {ours:?}\n{theirs:?}", file.display());
    }
    ours.len()
}

#[test]
fn a_generated_day_is_what_tshark_says_and_it_finds_nothing_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    for (format, packets) in [(Format::Pcap, 20_000), (Format::Pcapng, 20_001)] {
        let file = folder.path().join(format.to_string());
        fs::write(&file, generated(format, packets)).unwrap();
        assert_eq!(agree(&file) as u64, packets);
        let mut args = vec!["-n", "-r", file.to_str().unwrap()];
        for sums in ["ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE"]
        {
            args.extend(["-o", sums]);
        }
        // Severity of an error, and a checksum that is bad: their names are not known to all versions.
        let wrong = "_ws.malformed || _ws.expert.severity >= 8388608 || ip.checksum.status == 0 \
                     || tcp.checksum.status == 0 || udp.checksum.status == 0 \
                     || icmp.checksum.status == 0";
        args.extend(["-Y", wrong]);
        assert_eq!(run("tshark", &args), "");
    }
}

#[test]
fn a_day_cut_off_by_a_snaplen_is_what_tshark_says() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    fs::write(&whole, generated(Format::Pcap, 3000)).unwrap();
    // Behind Ethernet; in and behind the header of IP; behind ports; behind TCP's flags; in a payload.
    for snaplen in ["14", "20", "34", "38", "48", "54", "70"] {
        run("editcap", &["-s", snaplen, whole.to_str().unwrap(), cut.to_str().unwrap()]);
        // tshark shows some headers whole or not at all.
        let same = |ours: &Row, theirs: &Row| {
            ours.iter().all(|(name, ours)| theirs[name].is_empty() || *ours == theirs[name])
        };
        assert_eq!(compare(&cut, same), 3000);
    }
}

#[test]
fn frames_of_every_make_are_what_tshark_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd");
    for link in [1, 101, 113, 276, 0, 108] {
        let mut file = pcap(Order::Little, false, link);
        let frames: Vec<_> = odd::frames().into_iter().filter(|odd| odd.link == link).collect();
        for (second, frame) in (1_775_000_000..).zip(&frames) {
            record(&mut file, second, 17, frame.bytes.len() as u32, &frame.bytes);
        }
        fs::write(&path, file.0).unwrap();
        assert!(agree(&path) > 0);
    }
}
