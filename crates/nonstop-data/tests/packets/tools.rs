//! What tcpdump, editcap, mergecap and dumpcap of the distribution write is read as it was.

use super::{Read, read};
use nonstop_data::{
    capture::{Format, Link},
    generate::{Args, generate},
};
use std::{fs, path::Path, process::Command};

/// Runs a program to its end; what it writes.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let ran = Command::new(program).args(args).output();
    let ran = ran.unwrap_or_else(|e| panic!("{program}: {e}; `cargo xtask test` installs it"));
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program} {args:?}: {told}");
    String::from_utf8(ran.stdout).expect("it writes text")
}

/// A generated file.
pub(crate) fn generated(format: Format, packets: u64) -> Vec<u8> {
    let wanted = Args {
        domain: "intermediate".into(),
        day: jiff::civil::date(2026, 4, 1),
        utc_offset_minutes: 0,
        packets,
        seed: 3,
        darknet: "198.51.100.0/24".parse().expect("a network"),
        format,
        out: "-".into(),
    };
    let mut file = Vec::new();
    generate(&wanted, &mut file).expect("memory can be written");
    file
}

/// Records with times rounded down to microseconds.
fn rounded(mut records: Vec<Read>) -> Vec<Read> {
    records.iter_mut().for_each(|record| record.nanoseconds -= record.nanoseconds % 1000);
    records
}

fn read_file(path: &Path) -> (Format, Vec<Read>) {
    let bytes = fs::read(path).expect("is there");
    read(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_variant_that_the_tools_write_of_a_file_is_read_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    fs::write(path("in"), generated(Format::Pcapng, 2000)).unwrap();
    let (_, exact) = read_file(&path("in"));
    let coarse = rounded(exact.clone());
    for (format, expected, records) in [
        ("pcap", Format::Pcap, &coarse),
        ("nsecpcap", Format::Pcap, &exact),
        ("pcapng", Format::Pcapng, &exact),
    ] {
        run("editcap", &["-F", format, &text("in"), &text(format)]);
        assert_eq!(read_file(&path(format)), (expected, records.clone()));
    }
    run("tcpdump", &["-r", &text("in"), "-w", &text("tcpdump")]);
    assert_eq!(read_file(&path("tcpdump")), (Format::Pcap, coarse));
    let nano = ["--time-stamp-precision=nano", "-r", &text("in"), "-w", &text("nano")];
    run("tcpdump", &nano);
    assert_eq!(read_file(&path("nano")), (Format::Pcap, exact.clone()));

    // Two files become one of two interfaces, in order of time.
    run("editcap", &["-t", "0.0000005", &text("in"), &text("later")]);
    run("mergecap", &["-I", "none", "-w", &text("merged"), &text("in"), &text("later")]);
    let (format, merged) = read_file(&path("merged"));
    let mut expected = exact.clone();
    expected.extend(read_file(&path("later")).1);
    expected.sort_by_key(|record| record.nanoseconds);
    assert_eq!((format, merged.len()), (Format::Pcapng, 4000));
    assert_eq!(merged, expected);
}

#[test]
fn what_other_formats_of_the_tools_hold_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("in"), generated(Format::Pcap, 20)).unwrap();
    for format in ["modpcap", "nokiapcap", "snoop", "k12text", "5views", "netmon2"] {
        run("editcap", &["-F", format, &path("in"), &path(format)]);
        let told = super::told(&fs::read(path(format)).unwrap());
        let named = match format {
            "modpcap" => "this is no file of packets: it looks like pcap as patched by Kuznetzov",
            "nokiapcap" => "this is no header of a record",
            "snoop" => "this is no file of packets: it looks like snoop",
            "k12text" => "this is no file of packets: it looks like text",
            _ => "this is no file of packets",
        };
        assert!(told.contains(named), "{format}: {told}");
    }
}

#[test]
fn what_is_caught_on_a_card_is_read_with_the_link_type_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // Datagrams between sockets of a network of its own, while all four listen.
    let script = format!(
        "ip link set lo up
         tcpdump -U -i lo -w {lo} 2>/dev/null & a=$!
         tcpdump -U -i any -w {any} 2>/dev/null & b=$!
         tcpdump -U -i any -y LINUX_SLL -w {sll} 2>/dev/null & c=$!
         dumpcap -q -P -i lo -w {old} 2>/dev/null & d=$!
         dumpcap -q -i lo -w {new} 2>/dev/null & e=$!
         for n in $(seq 100); do
             echo datagram | socat - UDP4-SENDTO:127.0.0.1:9
             echo datagram | socat - 'UDP6-SENDTO:[::1]:9'
             sleep 0.1
             enough=1
             for f in {lo} {any} {sll} {old} {new}; do
                 [ $(stat -c %s $f 2>/dev/null || echo 0) -gt 2000 ] || enough=0
             done
             [ $enough = 1 ] && break
         done
         kill $a $b $c $d $e; wait",
        lo = path("lo"),
        any = path("any"),
        sll = path("sll"),
        old = path("old"),
        new = path("new"),
    );
    run("unshare", &["-n", "sh", "-c", &script]);
    for (name, format, link) in [
        ("lo", Format::Pcap, Link::Ethernet),
        ("any", Format::Pcap, Link::Sll2),
        ("sll", Format::Pcap, Link::Sll),
        ("old", Format::Pcap, Link::Ethernet),
        ("new", Format::Pcapng, Link::Ethernet),
    ] {
        let (is, records) = read_file(Path::new(&path(name)));
        assert_eq!(is, format, "{name}");
        assert!(records.len() > 5 && records.iter().all(|r| r.link == link), "{name}: {records:?}");
        super::tshark::agree(Path::new(&path(name)));
    }
}
