//! An archive becomes a day in the hands of a process that can do nothing else, and is found.

use crate::ground::{DATA, Ground, digest, report, sample, tar_of};
use anyhow::Result;
use nonstop_api::{
    samples::{Answer, SamplePage, SampleQuery},
    told::{Packed, Told},
};
use std::fs;

#[test]
fn an_archive_becomes_a_day_and_is_found() -> Result<()> {
    let ground = Ground::new()?;
    let bytes = vec![7; 3 << 20];
    let members =
        [sample(&bytes), report(digest(&bytes), "Global\\harmless"), sample(b"#!/bin/sh\n")];
    let folder = ground.path().join("made");
    fs::create_dir(&folder)?;
    let tar = tar_of(&members)?;
    let told: Told = serde_json::from_str(&ground.check(&tar, &folder)?)?;
    let (bytes_of_tar, sha256) = (tar.len() as u64, digest(&tar).to_string());
    let packed = Packed { bytes: bytes_of_tar, samples: 2, reports: 1, sha256 };
    assert_eq!(told, Told::Packed(packed));
    ground.publish("2026-11-27", &members)?;
    let query = SampleQuery { text: "harmless".into(), ..SampleQuery::default() };
    let data = DATA.to_string();
    let who = ["--uid", &data, "--gid", &data];
    let page = ground.ask("find", &who, &serde_json::to_string(&query)?)?;
    let page: SamplePage = serde_json::from_str(&page)?;
    let [found] = &page.samples[..] else { panic!("{page:?}") };
    assert_eq!((found.sha256.clone(), found.bytes), (digest(&bytes).to_string(), Some(3 << 20)));
    let nothing = ground.ask("find", &["--uid", "64999", "--gid", "64999"], "{}")?;
    assert!(nothing.contains("\"error\""), "another user reads nothing: {nothing}");
    Ok(())
}

#[test]
fn a_question_that_makes_no_sense_is_told_from_one_that_failed() -> Result<()> {
    let ground = Ground::new()?;
    let bytes = b"#!/bin/sh\n";
    ground.publish("2026-11-27", &[sample(bytes), report(digest(bytes), "Global\\harmless")])?;
    let data = DATA.to_string();
    let who = ["--uid", &data, "--gid", &data];
    let ask = |query: &SampleQuery| -> Result<Answer<SamplePage>> {
        Ok(serde_json::from_str(&ground.ask("find", &who, &serde_json::to_string(query)?)?)?)
    };
    let text = |text: &str| SampleQuery { text: text.into(), ..SampleQuery::default() };
    for (query, said) in [
        (SampleQuery { hash: "xyz".into(), ..SampleQuery::default() }, "hexadecimal"),
        (SampleQuery { after: Some("yesterday".into()), ..SampleQuery::default() }, "`after`"),
        (SampleQuery { family: "f".repeat(300), ..SampleQuery::default() }, "the family"),
        (SampleQuery { tag: "a\0b".into(), ..SampleQuery::default() }, "the tag"),
        (text("harmless\0"), "cannot be printed"),
        (text("\"- *\""), "only signs"),
        (text(&"word ".repeat(17)), "at most 16"),
        (text(&"w".repeat(2000)), "at most 1000"),
    ] {
        let answer = ask(&query)?;
        let Answer::Refused { refused } = answer else { panic!("{said}: {answer:?}") };
        assert!(refused.contains(said), "{refused}");
    }
    // Whatever FTS5 would take for its own language is words, and is searched for.
    for odd in [
        "\"harmless",
        "harm\"less*",
        "NEAR(",
        "mutexes:\"",
        "a* *b",
        "{files} : x",
        "²",
        "\u{1f600}a",
    ] {
        let answer = ask(&text(odd))?;
        assert!(matches!(answer, Answer::Done(_) | Answer::Refused { .. }), "{odd}: {answer:?}");
    }
    // What is broken is no fault of who asks.
    fs::write(ground.published().join("2026-11-27/index.db"), b"no index")?;
    let answer = ask(&text("harmless"))?;
    assert!(matches!(answer, Answer::Error { .. }), "{answer:?}");
    Ok(())
}

#[test]
fn a_day_that_cannot_be_read_keeps_nothing_of_others_from_being_found() -> Result<()> {
    let ground = Ground::new()?;
    let (good, lost) = (b"#!/bin/sh\n", b"MZ lost");
    ground.publish("2026-11-25", &[sample(good), report(digest(good), "Global\\harmless")])?;
    for day in ["2026-11-26", "2026-11-27"] {
        ground.publish(day, &[sample(lost), report(digest(lost), "Global\\harmless")])?;
    }
    let index = |day: &str| ground.published().join(day).join("index.db");
    fs::write(index("2026-11-26"), b"no index")?;
    // It can be opened, and no more.
    let mut torn = fs::read(index("2026-11-27"))?;
    torn[4096..].fill(0xff);
    fs::write(index("2026-11-27"), torn)?;
    let data = DATA.to_string();
    let who = ["--uid", &data, "--gid", &data];
    let ask = |query: &SampleQuery| -> Result<Answer<SamplePage>> {
        Ok(serde_json::from_str(&ground.ask("find", &who, &serde_json::to_string(query)?)?)?)
    };
    let hash = |bytes: &[u8]| digest(bytes).to_string();
    for query in [
        SampleQuery::default(),
        SampleQuery { text: "harmless".into(), ..SampleQuery::default() },
        SampleQuery { hash: hash(good), ..SampleQuery::default() },
    ] {
        let answer = ask(&query)?;
        let Answer::Done(page) = answer else { panic!("{query:?}: {answer:?}") };
        let found: Vec<_> = page.samples.iter().map(|sample| sample.sha256.clone()).collect();
        assert_eq!(found, [hash(good)], "{query:?}");
    }
    let answer = ask(&SampleQuery { hash: hash(lost), ..SampleQuery::default() })?;
    let Answer::Error { error } = answer else { panic!("{answer:?}") };
    assert!(error.contains("2026-11-2"), "{error}");
    Ok(())
}

#[test]
fn a_bad_archive_is_refused_with_the_reason() -> Result<()> {
    let ground = Ground::new()?;
    let good = tar_of(&[sample(b"good")])?;
    let name = digest(b"x");
    let wrong = tar_of(&[(format!("samples/{name}"), b"y".to_vec())])?;
    let deep = format!(
        "{{\"info\":{{}},\"target\":{{\"file\":{{\"sha256\":\"{name}\"}}}},\"signatures\":{}",
        "[".repeat(1_000_000)
    );
    let deep = tar_of(&[(format!("reports/{name}.json"), deep.into_bytes())])?;
    for (number, (tar, said)) in [
        (&good[..1024], "missing"),
        (&wrong, "another SHA-256"),
        (&deep, "no JSON"),
        (b"", "no end"),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = ground.path().join(number.to_string());
        fs::create_dir(&folder)?;
        let last = ground.check(tar, &folder)?;
        let Told::Refused { reason } = serde_json::from_str(&last)? else { panic!("{last}") };
        assert!(reason.contains(said), "{reason}");
    }
    Ok(())
}
