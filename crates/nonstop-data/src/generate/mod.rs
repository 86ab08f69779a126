//! `nonstop-data generate`: a day of darknet traffic that looks like the real thing, for the demo,
//! tests and benchmarks.
//!
//! Scanners with the marks of their tools, bots and worms, answers of flooded victims, questions of
//! those who look for amplifiers, and mistakes; busy by day and quiet by night; most of them there
//! again on the next day. The same words give the same bytes on every machine, in order of time, with
//! right checksums. No payload does harm: questions are asked of `example.com`, and worms carry text.

mod cast;
mod darknet;
mod dice;
mod frame;
mod habit;
mod question;
mod rate;
mod source;

use crate::capture::{Format, Writer};
use anyhow::{Context, ensure};
use cast::{Cast, Wanted};
use darknet::Darknet;
use dice::{Dice, mixed};
use frame::Frame;
use habit::Sender;
use ipnet::Ipv4Net;
use jiff::{SignedDuration, civil::Date, tz::Offset};
use question::Questions;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Generates a day of darknet traffic: the same for the same words.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The data domain: another one sees other senders.
    #[arg(long)]
    pub domain: String,
    /// The day.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub day: Date,
    /// Minutes by which the day begins before UTC's, as in lab.yaml.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "MINUTES",
        value_parser = clap::value_parser!(i64).range(-24 * 60..=24 * 60))]
    pub utc_offset_minutes: i64,
    /// Packets of the day; the real feed has about 1,300 million.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=2_000_000_000))]
    pub packets: u64,
    /// Another one gives other senders.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The addresses that are dark, at most a /8.
    #[arg(long, default_value = "203.0.113.0/24", value_name = "NETWORK")]
    pub darknet: Ipv4Net,
    /// `pcap` of microseconds, or `pcapng` of nanoseconds.
    #[arg(long, default_value = "pcap", value_name = "FORMAT", value_parser = format_named)]
    pub format: Format,
    /// Where it goes: a file, which appears when it is whole, or `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

fn format_named(name: &str) -> Result<Format, String> {
    [Format::Pcap, Format::Pcapng]
        .into_iter()
        .find(|format| format.to_string() == name)
        .ok_or_else(|| "is neither `pcap` nor `pcapng`".into())
}

/// Bytes that are written at once.
const AT_ONCE: usize = 1 << 20;

/// Generates the day that `args` ask for. An error is told on standard error.
pub fn run(args: &Args) -> ExitCode {
    match write(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("nonstop-data generate: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(args: &Args) -> anyhow::Result<()> {
    if args.out == Path::new("-") {
        generate(args, io::stdout().lock())?;
        return Ok(());
    }
    // A device or a link would be put out of the way by the file.
    if let Ok(there) = fs::symlink_metadata(&args.out) {
        let name = args.out.display();
        ensure!(there.is_file(), "{name} is there and no file; `--out -` is standard output");
    }
    // What is not whole has a name that no inbox looks at.
    let mut name = args.out.file_name().context("`--out` names no file")?.to_owned();
    name.push(".part");
    let part = args.out.with_file_name(name);
    let written = (|| {
        let file = File::create(&part)?;
        generate(args, &file)?;
        file.sync_all()?;
        fs::rename(&part, &args.out)?;
        let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        anyhow::Ok(())
    })();
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("write {}", args.out.display()))
}

/// Writes the day that `args` ask for to `out`, in order of time. Memory depends on how many packets
/// a minute has.
///
/// Errors: of `out`, and a network above a /8.
pub fn generate(args: &Args, out: impl Write) -> anyhow::Result<()> {
    ensure!(args.darknet.prefix_len() >= 8, "a darknet above a /8 is not generated");
    let midnight = Offset::UTC.to_timestamp(args.day.at(0, 0, 0, 0))?;
    let begin = midnight.checked_sub(SignedDuration::from_mins(args.utc_offset_minutes))?;
    ensure!((0..u32::MAX.into()).contains(&begin.as_second()), "pcap knows days from 1970 to 2106");
    let seed = args.seed.to_string();
    let wanted = Wanted {
        words: [&seed, &args.domain],
        day: midnight.as_second().unsigned_abs() / 86_400,
        hours: begin.as_second() % 86_400 / 3600,
        packets: args.packets,
        darknet: Darknet::new(args.darknet),
    };
    let mut writer = Writer::new(BufWriter::with_capacity(AT_ONCE, out), args.format)?;
    let mut cast = Cast::new(&wanted);
    let own = |what| Dice::of(&[&seed, &args.domain, what, &args.day.to_string()]);
    let mut sender = Sender {
        darknet: wanted.darknet,
        dice: own("packets"),
        frame: Frame::new(),
        questions: Questions::new(),
    };
    let mut times = own("times");
    // Singles come first in the numbering of who sends.
    let singles = cast.singles.iter().map(|s| s.rate.counts(s.packets, s.source.key as u32));
    let crowds = (0..).zip(&cast.crowds).map(|(n, c)| c.rate.counts(c.packets, mixed(n) as u32));
    let counts: Vec<_> = singles.chain(crowds).collect();
    let mut sent = vec![0; cast.singles.len()];
    let mut events = Vec::new();
    for minute in 0..rate::MINUTES {
        events.clear();
        for (who, counts) in (0..).zip(&counts) {
            let one = |_| times.below(NANOSECONDS) << BITS | who;
            events.extend((0..counts[minute as usize]).map(one));
        }
        events.sort_unstable();
        for event in &events {
            let within = minute * NANOSECONDS + (event >> BITS);
            let who = (event & ((1 << BITS) - 1)) as usize;
            let milliseconds = (within / 1_000_000) as u32;
            match cast.singles.get(who) {
                Some(single) => {
                    sender.send(single.habit, &single.source, sent[who], milliseconds);
                    sent[who] += 1;
                }
                None => {
                    let crowd = &mut cast.crowds[who - sent.len()];
                    let (habit, source, i) = crowd.next(&mut times, wanted.day, minute);
                    sender.send(habit, &source, i, milliseconds);
                }
            }
            let time = begin.as_second() * 1_000_000_000 + within.cast_signed();
            writer.record(time, sender.frame.bytes())?;
        }
    }
    writer.finish()?;
    Ok(())
}

/// Nanoseconds of a minute.
const NANOSECONDS: u64 = 60_000_000_000;
/// Bits below a time that say who sends.
const BITS: u32 = 28;
