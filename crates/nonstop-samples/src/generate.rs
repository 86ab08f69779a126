//! `nonstop-samples generate`: a day of harmless samples with reports, for demonstrations and tests.
//!
//! Nothing in it does anything: programs that end at once, a document of one line, a script that says
//! that it is harmless, and EICAR's test file, which every scanner knows. The same words give the same
//! bytes.

use crate::digest::Digest;
use jiff::{ToSpan, civil::Date};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Writes a day of harmless samples and their reports as one tar, as days arrive.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The day.
    #[arg(long)]
    day: Date,
    /// How many samples, each with a report.
    #[arg(long, default_value_t = 5)]
    samples: u32,
    /// Where the numbers begin that tell samples apart: another number gives other samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    like: Like,
    /// The tar to write.
    #[arg(long)]
    out: PathBuf,
}

/// What a generated day is like besides.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Like {
    /// How long the longest samples are, in bytes: each is filled up with bytes that do not repeat, to
    /// lengths of which there are as many between 10 and 20 kB as between 100 and 200 kB. EICAR's test
    /// file stays as it is. Without it samples are a few lines.
    #[arg(long, default_value_t = 0)]
    longest: u64,
    /// Lines of files, keys and processes that each report has besides; some words are in every
    /// report, some in few.
    #[arg(long, default_value_t = 0)]
    lines: u32,
}

/// Writes the tar. Exit code 0 if it is whole.
pub fn run(args: &Args) -> ExitCode {
    let written = File::create(&args.out).and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        day(args.day, args.samples, args.seed, args.like, &mut out)?;
        out.flush()
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("write {}: {e}", args.out.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes the tar of `day` with `samples` samples to `out`.
pub fn day(day: Date, samples: u32, seed: u64, like: Like, out: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    let mut lines = String::new();
    let mut add = |path: String, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o444);
        tar.append_data(&mut header, path, bytes)
    };
    for number in 0..u64::from(samples) {
        let number = seed + number;
        let (kind, mut bytes) = sample(number);
        if kind != "eicar" {
            fill(&mut bytes, number, like.longest);
        }
        let hash = Digest(Sha256::digest(&bytes).into()).to_string();
        add(format!("samples/{hash}"), &bytes)?;
        let mut report = report(number, kind, &hash, day);
        behave(&mut report, number, like.lines);
        add(format!("reports/{hash}.json"), report.to_string().as_bytes())?;
        let seen = day.saturating_sub(1.day() * (number % 30) as i64);
        let line = json!({
            "sha256": hash, "family": family(number), "tags": [kind, "harmless"],
            "first_seen": seen.to_string(), "last_seen": day.to_string(), "source": "generated",
        });
        lines.push_str(&format!("{line}\n"));
    }
    add("metadata.jsonl".into(), lines.as_bytes())?;
    tar.into_inner()?.flush()
}

/// The shortest sample that is filled up, in bytes.
const SHORTEST: u64 = 10_000;

/// Numbers that look random, of `seed` alone (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to 1, which it never is.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One below `most`; the lower ones more often, and 0 most.
    fn low(&mut self, most: u64) -> u64 {
        let most = most as f64;
        (most.powf(self.share()) - 1.0) as u64
    }
}

/// Fills `bytes` of the sample `number` up, to a length between [`SHORTEST`] and `longest`.
fn fill(bytes: &mut Vec<u8>, number: u64, longest: u64) {
    if longest <= SHORTEST {
        return;
    }
    let mut numbers = Numbers(number);
    let length = SHORTEST as f64 * (longest as f64 / SHORTEST as f64).powf(numbers.share());
    let length = length as usize;
    while bytes.len() < length {
        bytes.extend(numbers.next().to_le_bytes());
    }
    bytes.truncate(length);
}

/// Adds `lines` of what a sample does to its report, under the names that either sandbox has.
fn behave(report: &mut Value, number: u64, lines: u32) {
    let mut numbers = Numbers(!number);
    let (mut files, mut keys, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for line in 0..lines {
        let (one, other) = (numbers.low(20_000), numbers.low(200));
        match line % 5 {
            0 | 1 => files.push(format!("C:\\Windows\\System32\\module{one}\\part{other}.dll")),
            2 | 3 => keys.push(format!("HKEY_LOCAL_MACHINE\\SOFTWARE\\Vendor{other}\\Value{one}")),
            _ => commands.push(format!("C:\\Program Files\\tool{other}.exe /run job{one}")),
        }
    }
    let behavior = &mut report["behavior"];
    let (summary, names) = match behavior.get("generic").is_some() {
        true => {
            let names = ["file_opened", "regkey_read", "command_line"];
            (&mut behavior["generic"][0]["summary"], names)
        }
        false => (&mut behavior["summary"], ["read_files", "read_keys", "executed_commands"]),
    };
    for (name, more) in names.into_iter().zip([files, keys, commands]) {
        match &mut summary[name] {
            Value::Array(there) => there.extend(more.into_iter().map(Value::from)),
            _ if more.is_empty() => {}
            none => *none = more.into(),
        }
    }
}

/// A family that is none.
fn family(number: u64) -> String {
    format!("Harmless.{}", ["Alder", "Birch", "Cedar", "Elm", "Fir"][(number / 5 % 5) as usize])
}

/// The sample `number`: in turn one of each kind, told apart by its number.
fn sample(number: u64) -> (&'static str, Vec<u8>) {
    let mark = format!("harmless {number}\n");
    match number % 5 {
        0 => ("eicar", eicar(number)),
        1 => ("pe", [pe(), mark.into_bytes()].concat()),
        2 => ("elf", [elf(), mark.into_bytes()].concat()),
        3 => ("pdf", pdf(number)),
        _ => ("script", format!("#!/bin/sh\necho 'this sample is {}'\n", mark.trim()).into_bytes()),
    }
}

/// EICAR's test file; behind it there may be blanks alone, so others of them are longer.
fn eicar(number: u64) -> Vec<u8> {
    // In two pieces, so that no scanner takes this program for it.
    let mut file = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-".to_vec();
    file.extend(b"ANTIVIRUS-TEST-FILE!$H+H*");
    for bit in 0..u64::BITS - number.leading_zeros() {
        file.push(if number >> bit & 1 == 1 { b'\t' } else { b' ' });
    }
    file
}

/// A program for Windows that ends at once.
fn pe() -> Vec<u8> {
    let mut file = b"MZ".to_vec();
    file.resize(60, 0);
    file.extend(64_u32.to_le_bytes());
    file.extend(b"PE\0\0");
    // For the 386, one section, no symbols, 224 bytes of optional header, an executable of 32 bits.
    file.extend([0x4c, 0x01, 1, 0]);
    file.extend([0; 12]);
    file.extend([224, 0, 0x02, 0x01]);
    let words: [u32; 17] = [
        0x0001_010b,
        512,
        0,
        0,
        0x1000,
        0x1000,
        0x1000,
        0x40_0000,
        0x1000,
        512,
        4,
        0,
        4,
        0,
        0x2000,
        512,
        0,
    ];
    words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    // On the console, with the usual stack and heap, and 16 directories of nothing.
    file.extend([3, 0, 0, 0]);
    for word in [0x10_0000_u32, 0x1000, 0x10_0000, 0x1000, 0, 16] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 128]);
    file.extend(b".text\0\0\0");
    for word in [16_u32, 0x1000, 512, 512, 0, 0, 0, 0x6000_0020] {
        file.extend(word.to_le_bytes());
    }
    file.resize(512, 0);
    // xor eax, eax; ret
    file.extend([0x31, 0xc0, 0xc3]);
    file.resize(1024, 0);
    file
}

/// A program for Linux on x86-64 that ends at once.
fn elf() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [BASE + 120, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, 129, 129, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    // xor edi, edi; mov eax, 60 (exit); syscall
    file.extend([0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    file
}

/// A document of one empty page.
fn pdf(number: u64) -> Vec<u8> {
    format!(
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
         2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
         3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]>>endobj\n\
         trailer<</Root 1 0 R>>\n%harmless {number}\n%%EOF\n"
    )
    .into_bytes()
}

/// What a sandbox might have written of it: CAPE and Cuckoo in turn, with names of nobody's.
fn report(number: u64, kind: &str, hash: &str, day: Date) -> Value {
    let name = format!("harmless{number}.{kind}");
    let mutex = format!("Global\\harmless-{}", number % 997);
    let domain = format!("c{}.example.com", number % 499);
    let address = format!("192.0.2.{}", number % 254 + 1);
    let path = format!("C:\\Users\\lab\\AppData\\Local\\Temp\\{name}");
    let key = format!("HKEY_CURRENT_USER\\Software\\Harmless\\{}", number % 101);
    let target = json!({ "category": "file", "file": { "sha256": hash, "name": name } });
    let network = json!({
        "hosts": [{ "ip": address }], "domains": [{ "domain": domain, "ip": address }],
        "dns": [{ "request": domain, "type": "A", "answers": [{ "type": "A", "data": address }] }],
    });
    let signatures = json!([
        { "name": "writes_temp", "description": "Writes a file to a temporary folder", "severity": 1 },
    ]);
    let processes = json!([{ "process_id": 1000 + number % 5000, "process_name": name,
        "module_path": path, "command_line": format!("{path} --quiet") }]);
    match number % 2 {
        0 => json!({
            "info": { "version": "2.4-CAPE", "started": format!("{day} 03:00:00"), "id": number },
            "target": target, "network": network, "signatures": signatures,
            "behavior": { "processes": processes, "summary": {
                "files": [path], "write_keys": [key], "mutexes": [mutex],
                "executed_commands": ["cmd /c ver"] } },
            "malfamily": family(number),
        }),
        _ => json!({
            "info": { "version": "2.0.7", "started": 1_795_651_200 + number, "id": number },
            "target": target, "network": network, "signatures": signatures,
            "behavior": { "processes": processes, "generic": [{ "process_name": name,
                "summary": { "file_created": [path], "regkey_written": [key], "mutex": [mutex] } }] },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{day::Packer, days::Days, kind, search::search};
    use nonstop_api::samples::SampleQuery;
    use std::time::Duration;

    #[test]
    fn each_kind_is_what_it_is_called() {
        let kinds: Vec<_> = (0..5).map(|n| kind::of(&sample(n).1)).collect();
        assert_eq!(kinds, ["text", "pe", "elf", "pdf", "script"]);
        let all: std::collections::HashSet<_> = (0..500).map(|n| sample(n).1).collect();
        assert_eq!(all.len(), 500, "no two are the same");
    }

    #[test]
    fn the_program_for_linux_ends_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x");
        std::fs::write(&path, sample(2).1).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&path, mode).expect("made");
        // Another thread that starts a program just now would hold the file open for a moment.
        let status = std::process::Command::new("sh").arg("-c").arg("\"$0\"").arg(&path).status();
        assert!(status.expect("started").success());
    }

    #[test]
    fn a_generated_day_is_a_day_and_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let (date, mut tar) = (jiff::civil::date(2026, 11, 27), Vec::new());
        day(date, 50, 7, Like::default(), &mut tar).expect("written");
        let mut again = Vec::new();
        day(date, 50, 7, Like::default(), &mut again).expect("written");
        assert!(tar == again);
        let folder = dir.path().join("2026-11-27");
        std::fs::create_dir(&folder).expect("made");
        let file = |name| File::create(folder.join(name)).expect("made");
        let packer = Packer::new(file("samples.pack"), file("reports.pack")).expect("begun");
        let packed =
            packer.pack(&tar[..], file("index.db"), std::io::sink(), |_| {}).expect("a day");
        assert_eq!((packed.samples, packed.reports), (50, 50));
        let (days, _) = Days::new(dir.path(), true).all().expect("read");
        for (text, count) in [("mutexes:harmless-8", 1), ("registry:Harmless", 50), ("cmd", 25)] {
            let query = SampleQuery { text: text.into(), ..SampleQuery::default() };
            let page = search(&days, &query, Duration::from_secs(5)).expect("found");
            assert_eq!(page.samples.len(), count, "{text}");
        }
        for letters in 1..="harmless".len() {
            let text = format!("registry:{}*", &"harmless"[..letters]);
            let query = SampleQuery { text: text.clone(), ..SampleQuery::default() };
            let page = search(&days, &query, Duration::from_secs(5)).expect("found");
            assert_eq!(page.samples.len(), 50, "{text}");
            let query = SampleQuery { family: "Elm".into(), ..query };
            let page = search(&days, &query, Duration::from_secs(5)).expect("none");
            assert!(page.samples.is_empty(), "{text} and a family of nobody's");
        }
    }

    #[test]
    fn a_day_can_be_as_long_as_those_of_a_lab() {
        let (date, mut tar) = (jiff::civil::date(2026, 11, 27), Vec::new());
        let like = Like { longest: 40_000, lines: 30 };
        day(date, 20, 0, like, &mut tar).expect("written");
        let packer = Packer::new(Vec::new(), Vec::new()).expect("begun");
        let packed = packer.pack(&tar[..], io::sink(), io::sink(), |_| {}).expect("a day");
        assert_eq!((packed.samples, packed.reports), (20, 20));
        let mut lengths = Vec::new();
        for member in tar::Archive::new(&tar[..]).entries().expect("a tar") {
            let mut member = member.expect("whole");
            if member.path().expect("one").starts_with("samples") {
                lengths.push(member.size());
                continue;
            }
            let mut text = Vec::new();
            io::Read::read_to_end(&mut member, &mut text).expect("read");
            if let Ok(read) = crate::report::read(&text) {
                assert!(read.found.files.contains("System32"), "{read:?}");
                assert!(read.found.registry.contains("Vendor"), "{read:?}");
                assert!(read.found.processes.contains("Program Files"), "{read:?}");
            }
        }
        lengths.sort_unstable();
        assert!(lengths[3] < 200 && lengths[4] >= SHORTEST && lengths[19] < 40_000, "{lengths:?}");
        assert!(lengths[19] > 20_000, "{lengths:?}");
    }
}
