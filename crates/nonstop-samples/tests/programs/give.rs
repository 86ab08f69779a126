//! Samples are written out, by a process that sees nothing but the days.

use crate::ground::{DATA, Ground, SAMPLES, digest, own, sample};
use anyhow::{Context, Result};
use nonstop_api::samples::{Answer, Order, OrderedItem, Written, WrittenItem};
use std::{fs, process::Command};

fn item(bytes: &[u8], name: &str, zip: bool) -> OrderedItem {
    OrderedItem { sha256: digest(bytes).to_string(), name: name.into(), zip }
}

fn order(items: &[OrderedItem]) -> Result<String> {
    Ok(serde_json::to_string(&Order { items: items.to_vec(), volume: "SAMPLES".into() })?)
}

/// Who may read both what is known of samples and their bytes.
fn keeper() -> [String; 6] {
    let (samples, data) = (SAMPLES.to_string(), DATA.to_string());
    ["--uid".into(), samples.clone(), "--gid".into(), samples, "--group".into(), data]
}

fn ask(ground: &Ground, verb: &str, order: &str) -> Result<Answer<Written>> {
    let keeper = keeper();
    let who: Vec<&str> = keeper.iter().map(String::as_str).collect();
    Ok(serde_json::from_str(&ground.ask(verb, &who, order)?)?)
}

#[test]
fn a_disc_has_the_samples_as_they_were_asked_for() -> Result<()> {
    let ground = Ground::new()?;
    let (one, two) = (vec![9; 700_001], b"%PDF-1.4 harmless".to_vec());
    ground.publish("2026-11-26", &[sample(&one)])?;
    ground.publish("2026-11-27", &[sample(&two)])?;
    let items = [item(&one, "one.exe", false), item(&two, "two.pdf", true)];
    let answer = ask(&ground, "disc", &order(&items)?)?;
    let Answer::Done(written) = answer else { panic!("{answer:?}") };
    let told = |bytes: &[u8], name: &str| WrittenItem {
        sha256: digest(bytes).to_string(),
        name: name.into(),
        bytes: bytes.len() as u64,
    };
    assert_eq!(written.items, [told(&one, "one.exe"), told(&two, "two.pdf.zip")]);
    let disc = ground.path().join("out");
    assert_eq!(fs::metadata(&disc)?.len(), written.bytes);
    let line = format!(
        "cd {} && 7z x -ogot out >/dev/null && cat got/one.exe && \
         unzip -P infected -p got/two.pdf.zip",
        ground.path().display()
    );
    let read = Command::new("sh").args(["-c", &line]).output()?;
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert!(read.stdout == [one, two].concat());
    Ok(())
}

#[test]
fn a_sample_is_taken_as_it_is_and_one_that_is_broken_is_not() -> Result<()> {
    let ground = Ground::new()?;
    let bytes = vec![3; 100_000];
    ground.publish("2026-11-27", &[sample(&bytes)])?;
    let one = order(&[item(&bytes, "x", false)])?;
    let Answer::Done(written) = ask(&ground, "take", &one)? else { panic!("not taken") };
    assert_eq!(written.bytes, 100_000);
    assert!(fs::read(ground.path().join("out"))? == bytes);
    let why = |answer: Answer<Written>| match answer {
        Answer::Error { error } => error,
        other => panic!("{other:?}"),
    };
    let other = why(ask(&ground, "take", &order(&[item(b"other", "x", false)])?)?);
    assert!(other.contains("there is no sample"), "{other}");
    let name = why(ask(&ground, "disc", &order(&[item(&bytes, "../x", false)])?)?);
    assert!(name.contains("no name"), "{name}");
    let twice = [item(&bytes, "x", false), item(&bytes, "X", false)];
    let twice = why(ask(&ground, "disc", &order(&twice)?)?);
    assert!(twice.contains("two files"), "{twice}");
    let pack = ground.published().join("2026-11-27/samples.pack");
    let mut broken = fs::read(&pack)?;
    *broken.get_mut(5000).context("long enough")? ^= 1;
    fs::write(&pack, broken)?;
    for verb in ["take", "disc"] {
        let why = why(ask(&ground, verb, &one)?);
        assert!(why.contains("broken on this host's disk"), "{verb}: {why}");
    }
    Ok(())
}

#[test]
fn who_may_not_read_samples_gives_none() -> Result<()> {
    let ground = Ground::new()?;
    ground.publish("2026-11-27", &[sample(b"x")])?;
    let data = DATA.to_string();
    let one = order(&[item(b"x", "x", false)])?;
    let answer = ground.ask("take", &["--uid", &data, "--gid", &data], &one)?;
    assert!(answer.contains("Permission denied"), "{answer}");
    own(&ground.published().join("2026-11-27/samples.pack"), DATA, 0o440)?;
    let answer = ground.ask("take", &["--uid", &data, "--gid", &data], &one)?;
    assert!(answer.contains("\"bytes\":1"), "{answer}");
    Ok(())
}
