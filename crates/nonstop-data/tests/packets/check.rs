//! `nonstop-data check` as `nonstopd` starts it: a file as standard input, lines on standard output.

use super::writer::*;
use nonstop_data::told::{Checked, Told};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    process::{Child, Command, Stdio},
};

/// 2026-04-01 in Japan begins.
const BEGIN: u32 = 1_774_969_200;
const DAY: u32 = 86_400;

fn start(file: File) -> Child {
    Command::new(env!("CARGO_BIN_EXE_nonstop-data"))
        .args(["check", "--day", "2026-04-01"])
        .args(["--from", "2026-04-01T00:00:00+09:00", "--until", "2026-04-02T00:00:00+09:00"])
        .stdin(file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn lines(mut child: Child) -> Vec<Told> {
    let mut said = String::new();
    child.stdout.take().expect("is piped").read_to_string(&mut said).expect("is read");
    assert!(child.wait().expect("it ends").success(), "{said}");
    said.lines().map(|line| serde_json::from_str(line).expect("a line is Told")).collect()
}

fn check(bytes: &[u8]) -> Told {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("is written");
    file.seek(SeekFrom::Start(0)).expect("is read from its begin");
    let mut lines = lines(start(file));
    assert_eq!(lines.len(), 1, "nothing but the last line for a small file");
    lines.remove(0)
}

fn refused(bytes: &[u8]) -> String {
    match check(bytes) {
        Told::Refused { reason } => reason,
        other => panic!("told {other:?}"),
    }
}

/// A file with packets at these seconds.
fn at(seconds: &[u32]) -> Bytes {
    let mut file = pcap(Order::Big, true, 1);
    for second in seconds {
        record(&mut file, *second, 999_999_999, 60, &[0; 60]);
    }
    file
}

#[test]
fn a_whole_file_of_the_day_is_told_with_its_first_and_last_packet_and_its_hash() {
    // The order in a file is that of arrival, not always that of time.
    let file = at(&[BEGIN + 5, BEGIN, BEGIN + DAY - 1, BEGIN + 7]).0;
    let Told::Checked(checked) = check(&file) else { panic!("it is whole") };
    let expected = Checked {
        format: "pcap".into(),
        packets: 4,
        bytes: file.len() as u64,
        first: "2026-03-31T15:00:00.999999999Z".parse().unwrap(),
        last: "2026-04-01T14:59:59.999999999Z".parse().unwrap(),
        sha256: hex::encode(Sha256::digest(&file)),
    };
    assert_eq!(checked, expected);
}

#[test]
fn a_generated_day_appears_whole_and_is_that_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let generate = |out: &std::path::Path| {
        let words =
            "generate --domain mws --day 2026-04-01 --utc-offset-minutes 540 --packets 5000";
        let mut program = Command::new(env!("CARGO_BIN_EXE_nonstop-data"));
        program.args(words.split(' ')).args(["--format", "pcapng", "--out"]).arg(out);
        program.output().expect("the program starts")
    };
    let path = folder.path().join("2026-04-01.pcapng");
    assert!(generate(&path).status.success());
    let Told::Checked(checked) = check(&std::fs::read(&path).expect("is there")) else {
        panic!("it is whole")
    };
    assert_eq!((checked.format.as_str(), checked.packets), ("pcapng", 5000));
    let printed = generate(std::path::Path::new("-"));
    assert_eq!(hex::encode(Sha256::digest(printed.stdout)), checked.sha256);
    // What is no file is left alone.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
    let refused = generate(&link);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("link is there and no file"), "{told}");
    assert!(link.is_symlink());
}

#[test]
fn a_generated_day_without_room_is_told_and_leaves_nothing() {
    let script = "mount -t tmpfs -o size=64k none /mnt && \
                  \"$0\" generate --domain mws --day 2026-04-01 --packets 5000 --out /mnt/day; \
                  echo \"$? $(ls /mnt)\"";
    let program = env!("CARGO_BIN_EXE_nonstop-data");
    let ran = Command::new("unshare").args(["-m", "sh", "-c", script, program]).output();
    let ran = ran.expect("unshare starts");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "1 \n");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(told.contains("write /mnt/day: No space left on device"), "{told}");
}

#[test]
fn a_packet_of_another_day_is_named_with_its_time_and_the_command_that_cuts_it_off() {
    assert_eq!(
        refused(&at(&[BEGIN, BEGIN + DAY]).0),
        "record 2 at byte 100 is of 2026-04-01T15:00:00.999999999Z, and 2026-04-01 is from \
         2026-03-31T15:00:00Z up to 2026-04-01T15:00:00Z here; if the sensor's clock is right: \
         `editcap -F pcap -A 2026-03-31T15:00:00Z -B 2026-04-01T15:00:00Z OLD NEW`"
    );
    let early = refused(&at(&[BEGIN - 1]).0);
    assert!(early.starts_with("record 1 at byte 24 is of 2026-03-31T14:59:59.999999999Z"));
}

#[test]
fn what_is_no_whole_file_of_packets_is_refused_with_what_it_is() {
    let whole = at(&[BEGIN, BEGIN + 1]).0;
    assert_eq!(
        refused(&whole[..whole.len() - 1]),
        "record 2 at byte 100: the file ends in the middle of it: 76 bytes are announced, 75 are \
         there; bring the whole file, or what is whole of it: `editcap -F pcapng OLD NEW`"
    );
    let mut zeros = whole.clone();
    zeros.extend([0; 20]);
    assert!(refused(&zeros).starts_with("record 3 at byte 176: it claims a packet of no length"));
    assert_eq!(refused(&whole[..24]), "there is no packet in it");
    assert_eq!(refused(b""), "this is no file of packets: it is empty");
    let gzip = "this is no file of packets: it looks like gzip; unpack it (`gunzip`)";
    assert_eq!(refused(b"\x1f\x8b\x08\0rest"), gzip);
    assert_eq!(refused(b"time,src\n"), "this is no file of packets: it looks like text");
    let program = std::fs::read("/bin/true").expect("there is one");
    assert_eq!(refused(&program), "this is no file of packets: it looks like a program");
}

#[test]
fn a_long_file_is_read_without_rights_in_little_memory_and_tells_how_far_it_is() {
    // Of blocks that are passed over, with holes instead of their bytes.
    const BLOCK: u64 = 16 << 20;
    const BLOCKS: u64 = 200;
    let mut begin = pcapng(Order::Little);
    interface(&mut begin, 1, &[(9, &[0])]);
    enhanced(&mut begin, 0, u64::from(BEGIN), 60, &[0; 60]);
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(&begin.0, 0).expect("is written");
    let mut end = begin.0.len() as u64;
    for _ in 0..BLOCKS {
        let length = (BLOCK as u32).to_le_bytes();
        file.write_all_at(&[[4, 0, 0, 0], length].concat(), end).expect("is written");
        file.write_all_at(&length, end + BLOCK - 4).expect("is written");
        end += BLOCK;
    }
    let child = start(file);
    let status = format!("/proc/{}/status", child.id());
    let of = |name: &str, status: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let confined = loop {
        let status = std::fs::read_to_string(&status).expect("it has not ended");
        if of("Seccomp:", &status) == "2" {
            break status;
        }
    };
    assert_eq!(of("Uid:", &confined), "65534 65534 65534 65534");
    assert_eq!(of("Groups:", &confined), "");
    assert_eq!(of("NoNewPrivs:", &confined), "1");
    assert_eq!(of("CapPrm:", &confined), "0000000000000000");
    let mut kib = 0;
    while let Ok(status) = std::fs::read_to_string(&status) {
        let peak = of("VmHWM:", &status);
        let Some(peak) = peak.split(' ').next().and_then(|n| n.parse().ok()) else { break };
        kib = peak;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!((1..16 << 10).contains(&kib), "{kib} KiB at most");
    let mut said = lines(child);
    let Some(Told::Checked(checked)) = said.pop() else { panic!("it is whole") };
    assert_eq!((checked.bytes, checked.packets), (end, 1));
    let progress =
        |told: &Told| matches!(told, Told::Progress { bytes, of } if bytes < of && *of == end);
    assert!(!said.is_empty() && said.iter().all(progress), "{said:?}");
}
