//! Records of runs: true ones and forged ones, checked by who has neither lab nor daemon.

use crate::lab::{Key, TestLab, nonstop};
use nonstop_model::InjectionId;
use nonstop_trace::Record;
use serde_json::{Value, json};
use std::{fs, path::Path};

fn check(at: &Path, words: &[&str]) -> (Option<i32>, Value) {
    let output = nonstop(at, &[&["trace", "check-record", "--json"], words].concat());
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn said() -> Value {
    json!({
        "lab": "解析室 東京", "template": "dynamic-micro", "generation": 3,
        "samples": [{ "name": "a\u{202e}fdp.exe\u{1b}[2J", "sha256": "ab".repeat(32) }],
        "end": { "counts": { "left": 0, "refused": 7 }, "rights": [] }, "until": null,
    })
}

#[test]
fn a_record_is_true_as_the_lab_signed_it_and_no_word_of_it_can_be_another() {
    let mut lab = TestLab::new();
    lab.work(4);
    let record = lab.record(InjectionId(3), &said());
    fs::write(lab.path("j3.json"), record.text()).expect("written");
    let (at, authority) = (lab.dir.path(), lab.key.fingerprint());
    let (code, found) = check(at, &["j3.json", "--authority", &authority]);
    assert_eq!((code, &found["good"], &found["record"]), (Some(0), &json!(true), &said()));
    assert_eq!((&found["injection"], &found["over"]), (&json!("j3"), &json!(false)));
    let (code, found) = check(at, &["j3.json", "--authority", &Key::new().fingerprint()]);
    assert_eq!((code, &found["good"]), (Some(1), &json!(false)), "another lab's key");
    let (code, found) = check(at, &["j3.json"]);
    assert_eq!((code, &found["authority_checked"]), (Some(0), &json!(false)), "{found}");

    let text = String::from_utf8_lossy(&nonstop(at, &["trace", "check-record", "j3.json"]).stdout)
        .into_owned();
    for part in [
        "the run of j3, which was not over when this was signed\n",
        "  end.counts.left: 0\n",
        "  samples.1.name: a<U+202E>fdp.exe<U+001B>[2J\n",
        "  until: -\n",
        "whose signature it is was not looked at",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    for (old, new) in [
        ("\"left\": 0", "\"left\": 1"),
        ("\"refused\": 7", "\"refused\": 8"),
        ("abab", "cdab"),
        ("\"j3\"", "\"j4\""),
        ("dynamic-micro", "static-micro"),
        ("\"until\": null", "\"until\": 1"),
        ("\"rights\": []", "\"rights\": [1]"),
    ] {
        assert!(record.text().contains(old), "{old}: {}", record.text());
        let forged = record.text().replacen(old, new, 1);
        assert!(Record::read(forged.as_bytes()).is_err(), "{old}");
        fs::write(lab.path("forged.json"), forged).expect("written");
        let (code, found) = check(at, &["forged.json", "--authority", &authority]);
        assert_eq!((code, &found["good"]), (Some(1), &json!(false)), "{old}");
    }
    assert_eq!(check(at, &["absent.json"]).0, Some(1));
}

#[test]
fn a_run_that_is_over_is_told_as_that() {
    let mut lab = TestLab::new();
    let mut over = said();
    over["until"] = json!("2030-01-31T12:00:00Z");
    let record = lab.record(InjectionId(4), &over);
    fs::write(lab.path("j4.json"), record.text()).expect("written");
    let (code, found) = check(lab.dir.path(), &["j4.json"]);
    assert_eq!((code, &found["over"]), (Some(0), &json!(true)));
    let text = nonstop(lab.dir.path(), &["trace", "check-record", "j4.json"]).stdout;
    assert!(String::from_utf8_lossy(&text).starts_with("the run of j4\n"));
}

#[test]
fn a_receipt_is_no_record_and_a_record_no_receipt() {
    let mut lab = TestLab::new();
    let receipt = lab.release(b"one,two\n");
    let record = lab.record(InjectionId(1), &said());
    fs::write(lab.path("receipt.json"), receipt.text()).expect("written");
    fs::write(lab.path("record.json"), record.text()).expect("written");
    assert_eq!(check(lab.dir.path(), &["receipt.json"]).0, Some(1));
    let other = nonstop(lab.dir.path(), &["trace", "check-receipt", "record.json"]);
    assert_eq!(other.status.code(), Some(1));
}
