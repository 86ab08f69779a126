//! Samples are written out, by a process that sees nothing but the days.

use crate::ground::{DATA, Ground, SAMPLES, digest, own, sample};
use anyhow::{Context, Result};
use nonstop_api::samples::{Answer, Order, OrderedItem, Written, WrittenItem};
use std::{fs, process::Command};

fn item(bytes: &[u8], name: &str, zip: bool) -> OrderedItem {
    let (sha256, bytes) = (digest(bytes).to_string(), bytes.len() as u64);
    OrderedItem { sha256, name: name.into(), bytes, zip }
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
fn a_sample_is_taken_in_a_zip_too() -> Result<()> {
    let ground = Ground::new()?;
    let bytes = [3; 300_000];
    ground.publish("2026-11-27", &[sample(&bytes)])?;
    let answer = ask(&ground, "take", &order(&[item(&bytes, "x.exe", true)])?)?;
    let Answer::Done(written) = answer else { panic!("{answer:?}") };
    let (sha256, name) = (digest(&bytes).to_string(), "x.exe.zip".to_string());
    assert_eq!(written.items, [WrittenItem { sha256, name, bytes: 300_000 }]);
    let zip = ground.path().join("out");
    assert_eq!(fs::metadata(&zip)?.len(), written.bytes);
    let read =
        Command::new("unzip").args(["-P", "infected", "-p"]).arg(&zip).arg("x.exe").output()?;
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert!(read.stdout == bytes);
    for (name, zip) in [("../x", true), ("../x", false), ("x\u{7}", true)] {
        let answer = ask(&ground, "take", &order(&[item(&bytes, name, zip)])?)?;
        let Answer::Error { error } = answer else { panic!("{answer:?}") };
        assert!(error.contains("no name"), "{error}");
    }
    let two = [item(&bytes, "x", true), item(&bytes, "y", true)];
    let answer = ask(&ground, "take", &order(&two)?)?;
    assert!(matches!(answer, Answer::Error { .. }), "one at a time: {answer:?}");
    Ok(())
}

#[test]
fn a_day_that_cannot_be_read_keeps_no_sample_of_another_back() -> Result<()> {
    let ground = Ground::new()?;
    let (good, lost) = ([3; 1000], [4; 1000]);
    ground.publish("2026-11-26", &[sample(&good)])?;
    ground.publish("2026-11-27", &[sample(&good), sample(&lost)])?;
    fs::write(ground.published().join("2026-11-27/index.db"), b"no index")?;
    for verb in ["take", "disc"] {
        let answer = ask(&ground, verb, &order(&[item(&good, "x", false)])?)?;
        assert!(matches!(answer, Answer::Done(_)), "{verb}: {answer:?}");
        let answer = ask(&ground, verb, &order(&[item(&lost, "x", false)])?)?;
        let Answer::Error { error } = answer else { panic!("{verb}: {answer:?}") };
        assert!(error.contains("there is no sample") && error.contains("2026-11-27"), "{error}");
    }
    Ok(())
}

#[test]
fn a_sample_of_another_length_than_was_asked_for_is_not_written() -> Result<()> {
    let ground = Ground::new()?;
    let bytes = [3; 100_000];
    ground.publish("2026-11-27", &[sample(&bytes)])?;
    let other = OrderedItem { bytes: 99_999, ..item(&bytes, "x", false) };
    for verb in ["take", "disc"] {
        let answer = ask(&ground, verb, &order(std::slice::from_ref(&other))?)?;
        let Answer::Error { error } = answer else { panic!("{verb}: {answer:?}") };
        assert!(error.contains("100000 bytes, and 99999 were asked for"), "{error}");
    }
    Ok(())
}

#[test]
fn no_more_is_written_than_who_asks_has_room_for() -> Result<()> {
    let ground = Ground::new()?;
    let bytes = [3; 100_000];
    ground.publish("2026-11-27", &[sample(&bytes)])?;
    let keeper = keeper();
    let one = order(&[item(&bytes, "x", false)])?;
    for (most, whole) in [("100000", true), ("99999", false)] {
        let mut who: Vec<&str> = keeper.iter().map(String::as_str).collect();
        who.extend(["--most", most]);
        // One that wants to write more is ended in the middle.
        let answer = ground.ask("take", &who, &one);
        assert_eq!(answer.is_ok_and(|answer| answer.contains("100000")), whole, "{most}");
        assert!(fs::metadata(ground.path().join("out"))?.len() <= most.parse()?);
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
