use super::*;
use crate::days::Days;
use jiff::civil::{Date, date};
use nonstop_api::day::{HASHES, INDEX, REPORTS_PACK, SAMPLES_PACK};
use nonstop_api::samples::{SamplePage, SampleQuery};
use serde_json::json;
use std::{fs::File, path::Path, time::Duration};

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// A tar of `members`.
fn tar_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, &bytes[..]).expect("written");
    }
    tar.into_inner().expect("written")
}

fn sample(bytes: &[u8]) -> (String, Vec<u8>) {
    (format!("samples/{}", digest(bytes)), bytes.to_vec())
}

/// A report of `of` in which the mutex `word` is made.
fn report(of: Digest, run: &str, word: &str) -> (String, Vec<u8>) {
    let text = json!({
        "info": { "version": "2.4-CAPE" }, "target": { "file": { "sha256": of.to_string() } },
        "behavior": { "summary": { "mutexes": [word] } }, "malfamily": "Named"
    });
    (format!("reports/{of}{run}.json"), text.to_string().into_bytes())
}

fn metadata(lines: &[serde_json::Value]) -> (String, Vec<u8>) {
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    ("metadata.jsonl".into(), lines.into_bytes())
}

/// Packs `members` as `day` in `folder`.
fn publish(
    folder: &Path,
    day: Date,
    members: &[(String, Vec<u8>)],
) -> Result<Packed, ArchiveError> {
    let folder = folder.join(day.to_string());
    std::fs::create_dir(&folder).expect("a folder");
    let file = |name| File::create(folder.join(name)).expect("a file");
    let packer = Packer::new(file(SAMPLES_PACK), file(REPORTS_PACK))?;
    packer.pack(&tar_of(members)[..], file(INDEX), file(HASHES), |_| {})
}

fn found(days: &Days, query: SampleQuery) -> SamplePage {
    let (days, wrong) = days.all().expect("days");
    assert!(wrong.is_empty(), "{wrong:?}");
    crate::search::search(&days, &query, Duration::from_secs(5)).expect("found")
}

fn hashes(page: &SamplePage) -> Vec<String> {
    page.samples.iter().map(|sample| sample.sha256.clone()).collect()
}

#[test]
fn a_day_is_found_again_with_what_is_known_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (b"#!/bin/sh\necho harmless\n".as_slice(), b"%PDF-1.4 nothing".as_slice());
    let members = [
        report(digest(one), "", "Global\\first"),
        sample(one),
        report(digest(one), ".2", "second"),
        metadata(&[
            json!({ "sha256": digest(two).to_string(), "family": "Other", "tags": ["a", "b"],
            "first_seen": "2026-01-02", "last_seen": "2026-02-03", "source": "honeypot 7" }),
        ]),
        sample(two),
        report(digest(b"not here"), "", "third"),
    ];
    let packed = publish(folder.path(), date(2026, 11, 27), &members).expect("a day");
    assert_eq!((packed.samples, packed.reports), (2, 3));
    let days = Days::new(folder.path(), true);
    let all = found(&days, SampleQuery::default());
    let names = [digest(one), digest(two), digest(b"not here")].map(|digest| digest.to_string());
    assert_eq!(hashes(&all), names);
    let [first, second, third] = &all.samples[..] else { panic!("three") };
    assert_eq!((first.kind.as_str(), first.reports, first.family.as_str()), ("script", 2, "Named"));
    assert_eq!((first.bytes, first.first_seen), (Some(24), Some(date(2026, 11, 27))));
    assert_eq!((second.family.as_str(), second.source.as_str()), ("Other", "honeypot 7"));
    assert_eq!(second.tags, ["a", "b"]);
    assert_eq!(second.first_seen, Some(date(2026, 1, 2)));
    assert_eq!((third.bytes, third.kind.as_str(), third.reports), (None, "", 1));
    // The bytes come back from where the index has them, and are not there as they are.
    let (day, _) = days.all().expect("days");
    let place = day[0].sample(digest(one)).expect("read").expect("there").place.expect("bytes");
    let mut bytes = vec![0; 100];
    let n = place.read(day[0].samples_pack().expect("a pack"), 0, &mut bytes).expect("read");
    assert_eq!(&bytes[..n], one);
    let pack =
        std::fs::read(folder.path().join("2026-11-27").join(SAMPLES_PACK)).expect("the pack");
    assert!(!pack.windows(9).any(|window| window == b"#!/bin/sh"));
    let kept = day[0].reports(digest(one)).expect("read");
    assert_eq!(kept.iter().map(|report| report.run).collect::<Vec<_>>(), [1, 2]);
    let mut text = vec![0; 1000];
    let n = kept[1].place.read(day[0].reports_pack(), 0, &mut text).expect("read");
    assert_eq!(text[..n], members[2].1);
}

#[test]
fn every_question_finds_what_it_asks_for_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = |n: u32| format!("sample {n}").into_bytes();
    let mut members = Vec::new();
    let mut lines = Vec::new();
    for n in 0..40 {
        let name = digest(&bytes(n));
        members.push(sample(&bytes(n)));
        members.push(report(name, "", &format!("mutex{n} shared.example.com")));
        let family = if n % 2 == 0 { "Even" } else { "Odd" };
        lines.push(json!({ "sha256": name.to_string(), "family": family,
            "tags": [format!("of{}", n % 4)] }));
    }
    members.push(metadata(&lines));
    publish(folder.path(), date(2026, 11, 26), &members).expect("a day");
    // The next day has one of them again, and another report of it.
    let again = [sample(&bytes(3)), report(digest(&bytes(3)), "", "later")];
    publish(folder.path(), date(2026, 11, 27), &again).expect("a day");
    let days = Days::new(folder.path(), false);
    let count = |query: SampleQuery| found(&days, query).samples.len();
    let text = |text: &str| SampleQuery { text: text.into(), ..SampleQuery::default() };
    assert_eq!(count(SampleQuery { family: "even".into(), ..SampleQuery::default() }), 20);
    assert_eq!(count(SampleQuery { tag: "of3".into(), ..SampleQuery::default() }), 10);
    assert_eq!(count(SampleQuery { kind: "TEXT".into(), ..SampleQuery::default() }), 40);
    assert_eq!(count(SampleQuery { kind: "pe".into(), ..SampleQuery::default() }), 0);
    assert_eq!(count(text("shared.example.com")), 40);
    assert_eq!(count(text("mutexes:mutex7")), 1);
    assert_eq!(count(text("domains:mutex7")), 0);
    assert_eq!(count(text("mutex1*")), 11);
    assert_eq!(count(text("mutex7 mutex8")), 0);
    assert_eq!(count(text("later")), 1);
    assert_eq!(
        count(SampleQuery { family: "Odd".into(), tag: "of1".into(), ..text("shared") }),
        10
    );
    let whole = digest(&bytes(3)).to_string();
    let one =
        found(&days, SampleQuery { hash: whole[..12].to_uppercase(), ..SampleQuery::default() });
    assert_eq!(hashes(&one), [whole.as_str()]);
    assert_eq!(one.samples[0].days, [date(2026, 11, 27), date(2026, 11, 26)]);
    assert_eq!((one.samples[0].reports, one.samples[0].family.as_str()), (2, "Named"));
    let first = SampleQuery { from: Some(date(2026, 11, 27)), ..SampleQuery::default() };
    assert_eq!(count(first), 1);
    let before = SampleQuery { until: Some(date(2026, 11, 26)), ..SampleQuery::default() };
    assert_eq!(count(before), 40);
}

#[test]
fn pages_give_every_sample_once_whatever_their_length() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = |n: u32| format!("sample {n}").into_bytes();
    for (number, range) in [0..9_u32, 5..14, 3..20].into_iter().enumerate() {
        let members: Vec<_> = range
            .flat_map(|n| {
                let of = digest(&bytes(n));
                [sample(&bytes(n)), report(of, "", "shared"), report(of, ".2", "shared")]
            })
            .collect();
        publish(folder.path(), date(2026, 11, 25 + number as i8), &members).expect("a day");
    }
    let days = Days::new(folder.path(), false);
    for text in ["", "shared"] {
        for limit in 1..22 {
            let mut query = SampleQuery { text: text.into(), limit, ..SampleQuery::default() };
            let mut all = Vec::new();
            loop {
                let page = found(&days, query.clone());
                assert!(page.samples.len() <= limit as usize);
                all.extend(hashes(&page));
                query.after = page.after;
                if query.after.is_none() {
                    break;
                }
            }
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!((count, all.len()), (20, 20), "limit {limit}, text {text:?}");
        }
    }
    let query = SampleQuery { after: Some("2026-11-27.-1".into()), ..SampleQuery::default() };
    let (days, _) = days.all().expect("days");
    assert!(crate::search::search(&days, &query, Duration::from_secs(5)).is_err());
}

#[test]
fn a_day_with_one_bad_member_is_refused_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = sample(b"good");
    let name = digest(b"other");
    let wrong = [
        ((format!("samples/{name}"), b"another".to_vec()), "another SHA-256"),
        ((format!("reports/{name}.json"), report(digest(b"x"), "", "y").1), "of another sample"),
        ((format!("reports/{name}.json"), b"{\"info\":".to_vec()), "no JSON"),
        ((format!("reports/{name}.json"), b"\xff\xfe".to_vec()), "no UTF-8"),
        ((format!("reports/{name}.json"), b"{}".to_vec()), "target.file.sha256"),
        (("metadata.jsonl".into(), b"{}".to_vec()), "line 1"),
        (("metadata.jsonl".into(), b"\n\n[1]".to_vec()), "line 3"),
        (("metadata.jsonl".into(), vec![b' '; 70_000]), "longer than"),
    ];
    for (n, (member, said)) in wrong.into_iter().enumerate() {
        let path = member.0.clone();
        let day = date(2026, 10, n as i8 + 1);
        match publish(folder.path(), day, &[good.clone(), member]) {
            Err(ArchiveError::Refused(why)) => {
                assert!(why.starts_with(&path) && why.contains(said), "{why}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    let empty = publish(folder.path(), date(2026, 9, 1), &[]);
    assert!(matches!(empty, Err(ArchiveError::Refused(_))), "{empty:?}");
}

#[test]
fn an_odd_report_refuses_no_day_and_is_kept_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = digest(b"good");
    let odd = format!(
        "\u{feff}{{\"info\":null,\"behavior\":[],\"network\":\"none\",\"score\":NaN,\
         \"target\":{{\"file\":{{\"sha256\":\"{of}\"}}}},\"signatures\":[\"half \\udc80 pair\"]}}"
    );
    let null =
        json!({ "sha256": of.to_string(), "tags": null, "first_seen": "2026-01-02 03:04:05" });
    let members = [
        sample(b"good"),
        (format!("reports/{of}.json"), odd.clone().into_bytes()),
        metadata(&[null]),
    ];
    publish(folder.path(), date(2026, 11, 27), &members).expect("a day");
    let days = Days::new(folder.path(), false);
    let page = found(&days, SampleQuery { text: "half".into(), ..SampleQuery::default() });
    assert_eq!(hashes(&page), [of.to_string()]);
    assert_eq!(page.samples[0].first_seen, Some(date(2026, 1, 2)));
    let kept = days.all().expect("days").0[0].reports(of).expect("read").remove(0).place;
    assert_eq!(kept.digest, digest(odd.as_bytes()));
    let mut text = vec![0; 1000];
    let (day, _) = days.all().expect("days");
    let n = kept.read(day[0].reports_pack(), 0, &mut text).expect("read");
    assert_eq!(text[..n], *odd.as_bytes());
}

#[test]
fn a_day_of_which_more_is_known_than_fits_into_memory_is_refused() {
    use rusqlite::ffi::{Error, SQLITE_FULL, SQLITE_IOERR, SQLITE_NOMEM};
    let of =
        |code| of_index(IndexError::Sql(rusqlite::Error::SqliteFailure(Error::new(code), None)));
    for code in [SQLITE_NOMEM, SQLITE_FULL] {
        let e = of(code);
        assert!(matches!(&e, ArchiveError::Refused(why) if why.contains("two days")), "{e:?}");
    }
    assert!(matches!(of(SQLITE_IOERR), ArchiveError::Write(_)), "that is tried again");
}

#[test]
fn who_looks_up_a_hash_waits_for_no_search() {
    let folder = tempfile::tempdir().expect("a folder");
    let members = [sample(b"good"), report(digest(b"good"), "", "word")];
    publish(folder.path(), date(2026, 11, 27), &members).expect("a day");
    let (days, _) = Days::new(folder.path(), false).all().expect("days");
    // As a search has it for as long as it takes.
    let searched = days[0].index();
    let (tell, told) = std::sync::mpsc::channel();
    let day = std::sync::Arc::clone(&days[0]);
    std::thread::spawn(move || {
        let good = digest(b"good");
        let sample = day.sample(good).expect("read").is_some();
        let reports = day.reports(good).expect("read").len();
        let hashes = day.between(good, good).expect("read").len();
        tell.send((sample, reports, hashes)).expect("waited for");
    });
    let found = told.recv_timeout(Duration::from_secs(60));
    drop(searched);
    assert_eq!(found, Ok((true, 1, 1)));
}
