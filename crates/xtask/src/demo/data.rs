//! The demo's data: three days of darknet traffic for each edition, and harmless samples with reports,
//! made up, and published as staff publish what sensors and sandboxes bring.

use anyhow::{Context, Result};
use jiff::{ToSpan, civil::Date, tz::TimeZone};
use nonstop_testkit::{lab::Lab, place::Place};
use std::{fs, path::Path, thread};

/// Data domain, and where its sensors listen: networks set aside for documentation.
const DOMAINS: [(&str, &str); 2] = [("intermediate", "203.0.113.0/24"), ("mws", "198.51.100.0/24")];

/// The one of them whose machines get samples.
const WITH_SAMPLES: &str = "intermediate";

/// Packets of a day: 9 MB, and a second to publish.
const PACKETS: &str = "100000";

/// Yesterday and the two days before it, the oldest first.
fn days() -> Result<Vec<Date>> {
    let today = TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let before = |days: i64| today.checked_sub(days.days()).context("a day before today");
    [3, 2, 1].map(before).into_iter().collect()
}

/// Makes the days be published. Repeatable: a demo that was kept lacks only the latest.
pub(crate) fn publish(lab: &Lab, dir: &Path) -> Result<()> {
    let days = days()?;
    thread::scope(|scope| {
        let all = DOMAINS.map(|(domain, darknet)| {
            let days = &days;
            scope.spawn(move || one(lab, dir, domain, darknet, days))
        });
        all.into_iter().try_for_each(|one| match one.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn one(lab: &Lab, dir: &Path, domain: &str, darknet: &str, days: &[Date]) -> Result<()> {
    let known = lab.cli(&["data", "list", "--domain", domain])?;
    let known = known[0]["days"].as_array().cloned().unwrap_or_default();
    let folder = dir.join("sensor").join(domain);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let program = |name: &str| lab.programs().join(name).display().to_string();
    let generate = program("nonstop-data");
    let is_there =
        |kind: &str, day: &str| known.iter().any(|row| row["day"] == *day && row["kind"] == kind);
    let mut files = Vec::new();
    for day in days.iter().map(ToString::to_string) {
        if domain == WITH_SAMPLES && !is_there("samples", &day) {
            let file = folder.join(format!("{day}.samples.tar")).display().to_string();
            // Another day brings others.
            let seed = day.replace('-', "");
            let words = ["generate", "--day", &day, "--seed", &seed, "--out", &file];
            Place::here().run(&[&[program("nonstop-samples").as_str()], &words[..]].concat())?;
            files.push(file);
        }
        if is_there("pcap", &day) {
            continue;
        }
        let file = folder.join(format!("{day}.pcap")).display().to_string();
        // The seed is that of the sensor: who scans today has scanned yesterday.
        let words = [&generate, "generate", "--domain", domain, "--day", &day, "--seed", "1"];
        let more = ["--packets", PACKETS, "--darknet", darknet, "--out", &file];
        Place::here().run(&[&words[..], &more].concat())?;
        files.push(file);
    }
    if !files.is_empty() {
        let mut words = vec!["data", "publish", "--domain", domain];
        words.extend(files.iter().map(String::as_str));
        lab.cli(&words).with_context(|| format!("publish the days of {domain}"))?;
    }
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}
