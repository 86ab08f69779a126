//! What a head and a receipt look like, and that nothing else is taken for one.

use jiff::Timestamp;
use nonstop_model::{ExportId, InjectionId};
use nonstop_trace::{Decided, Hash, Head, Receipt, Record, Released, Row, Sign, row::chained};
use proptest::prelude::*;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use std::error::Error;

const LAB: &str = "2b1f5e0c-8f60-4f0e-9a3b-0f0c5f1f7a11";

struct Key(KeyPair);

impl Sign for Key {
    fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        self.0.sign(message).map_err(Into::into)
    }
}

fn key() -> Key {
    Key(KeyPair::generate().expect("a key"))
}

fn at() -> Timestamp {
    "2030-01-01T00:00:00.000001Z".parse().expect("a time")
}

fn head(key: &Key) -> Head {
    Head::sign(LAB, 17, Hash([0xab; 32]), at(), key).expect("signed")
}

fn receipt(key: &Key) -> Receipt {
    let released = Released {
        account: None,
        bytes: 8,
        decided: Decided::Policy,
        decided_by: None,
        export: ExportId(12),
        lab: "lab".into(),
        name: None,
        released_at: at(),
        rules: Hash([1; 32]),
        sha256: Hash([2; 32]),
        submitted_at: at(),
        template: "macro".into(),
        content_type: "text/csv".into(),
        verdict: "pass".into(),
    };
    let before = Hash([3; 32]);
    let fields = ["nonstopd", "export.receipt", "x12", &released.detail()];
    let hash = chained(&before, 17, at().as_microsecond(), fields);
    let head = Head::sign(LAB, 17, hash, at(), key).expect("signed");
    Receipt::new(before, at(), released, head).expect("whole")
}

fn record(key: &Key) -> Record {
    let said = json!({ "lab": { "name": "lab" }, "samples": [{ "name": "a", "sha256": "bb" }] });
    let before = Hash([3; 32]);
    let fields = ["nonstopd", "sample.record", "j3", &said.to_string()];
    let hash = chained(&before, 17, at().as_microsecond(), fields);
    let head = Head::sign(LAB, 17, hash, at(), key).expect("signed");
    Record::new(before, at(), InjectionId(3), said, head).expect("whole")
}

/// The same chain is computed for ever: a head of today is checked in ten years.
#[test]
fn the_hash_of_a_row_and_the_detail_of_a_receipt_are_what_they_always_were() {
    let row = Row {
        seq: 2,
        at: 1_893_456_000_000_001,
        actor: "alice".into(),
        action: "export.submit".into(),
        subject: "x12".into(),
        detail: "{\"名\":1}".into(),
        hash: Hash::ZERO,
    };
    // By Python's hashlib and struct.
    let known = "2debc04620650ac880e740a7f77792c62bf50ceeba4dd1358459eca2562a81d2";
    assert_eq!(row.recomputed(&Hash([9; 32])).to_string(), known);
    let zeros = "01".repeat(32);
    assert_eq!(
        receipt(&key()).released().detail(),
        format!(
            "{{\"bytes\":8,\"decided\":\"policy\",\"export\":\"x12\",\"lab\":\"lab\",\
             \"released_at\":\"2030-01-01T00:00:00.000001Z\",\"rules\":\"{zeros}\",\"sha256\":\"{}\",\
             \"submitted_at\":\"2030-01-01T00:00:00.000001Z\",\"template\":\"macro\",\
             \"type\":\"text/csv\",\"verdict\":\"pass\"}}",
            "02".repeat(32)
        )
    );
}

#[test]
fn a_head_is_one_line_and_reads_as_it_was_written() {
    let key = key();
    let head = head(&key);
    let line = head.line();
    assert!(line.ends_with("\"}\n") && line.lines().count() == 1 && line.is_ascii());
    assert!(line.len() < 998, "a line of a mail has at most 998 bytes");
    assert_eq!(Head::read(&line).expect("its own"), head);
    assert_eq!(head.file_name(), "head-000000000017-abababababababab.json");
    // Spaces are nobody's business.
    let value: Value = serde_json::from_str(&line).expect("JSON");
    let pretty = serde_json::to_string_pretty(&value).expect("JSON");
    assert_eq!(Head::read(&pretty).expect("the same"), head);
}

#[test]
fn what_is_written_in_another_way_or_says_something_else_is_no_head() {
    let good = head(&key()).line();
    let with = |from: &str, to: &str| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        text
    };
    let listed = {
        let value: Value = serde_json::from_str(&good).expect("JSON");
        let fields = ["nonstop_head", "lab", "seq", "hash", "at", "authority", "signature"];
        Value::from(fields.map(|field| value[field].clone()).to_vec()).to_string()
    };
    let signature = good.split("\"signature\":\"").nth(1).expect("there").replace("\"}\n", "");
    for (text, why) in [
        (String::new(), "no head"),
        ("null".into(), "no head"),
        ("{}".into(), "missing field"),
        (listed, "not written as we write it"),
        (good.repeat(2), "trailing"),
        (good.clone() + "x", "trailing"),
        (good[..good.len() - 4].into(), "no head"),
        (" ".repeat(2000) + &good, "more than the"),
        (with("\"nonstop_head\":1", "\"nonstop_head\":2"), "version 2"),
        (with("\"nonstop_head\":1", "\"nonstop_head\":1.0"), "no head"),
        (with("\"nonstop_head\":1", "\"nonstop_head\":1,\"nonstop_head\":1"), "duplicate field"),
        (with("\"seq\":17", "\"seq\":17,\"more\":1"), "unknown field"),
        (with("\"seq\":17", "\"seq\":18"), "changed after it was signed"),
        (with("\"seq\":17", "\"seq\":0"), "`seq`"),
        (with("\"seq\":17", "\"seq\":9223372036854775808"), "`seq`"),
        (with("\"seq\":17", "\"seq\":\"17\""), "invalid type"),
        (with("\"seq\":17", "\"seq\":1.7e1"), "no head"),
        (with("abab", "ABAB"), "64 digits"),
        (with("abab", "abac"), "changed after it was signed"),
        (with("abab", "ab"), "64 digits"),
        (with(LAB, &LAB.to_uppercase()), "`lab`"),
        (with(LAB, &LAB.replace('-', "")), "`lab`"),
        (with(LAB, "lab"), "`lab`"),
        (with(LAB, &LAB.replace("7a11", "7a12")), "changed after it was signed"),
        (with("00.000001Z", "00.000002Z"), "changed after it was signed"),
        (with("00.000001Z", "00.0000010Z"), "in UTC"),
        (with("00.000001Z", "00.000001+00:00"), "in UTC"),
        (with("00.000001Z", "00.000000001Z"), "in UTC"),
        (with("\"authority\":\"MF", "\"authority\":\"MG"), "P-256"),
        (with("\"authority\":\"", "\"authority\":\"=="), "base64"),
        (with(&signature, "AAAA"), "signature"),
        (with(&signature, ""), "signature"),
    ] {
        let e = Head::read(&text).map(drop).expect_err(&text);
        let said = format!("{e}: {}", e.source().map_or(String::new(), ToString::to_string));
        assert!(said.contains(why), "{why}: {said}\n{text}");
    }
    // A signature of the same key over something else, with and without its words.
    let key = key();
    let other = key.sign(b"nonstop profile 1\n{}").expect("signed");
    let authority = nonstop_trace::AuthorityKey::from_der(key.public_key()).expect("a key");
    assert!(Head::from_parts(LAB, 17, Hash([1; 32]), at(), &authority, other).is_err());
}

#[test]
fn nothing_is_said_twice_in_a_record_or_a_receipt_wherever_it_stands() {
    let key = key();
    let (record, receipt) = (record(&key), receipt(&key));
    for good in [record.text(), receipt.text()] {
        let value: Value = serde_json::from_str(&good).expect("JSON");
        let (narrow, escaped) = (value.to_string(), good.replacen("\"at\"", "\"\\u0061t\"", 1));
        for same in [good, narrow, escaped] {
            let read = Record::read(same.as_bytes()).is_ok_and(|read| read == record);
            assert!(
                read || Receipt::read(same.as_bytes()).is_ok_and(|read| read == receipt),
                "{same}"
            );
        }
    }
    // A program takes the last of two; whoever reads the file may take the first.
    for (before, false_words) in [
        ("\"samples\"", "\"samples\": []"),
        ("\"samples\"", "\"s\\u0061mples\": []"),
        ("\"sha256\": \"bb", "\"sha256\": \"cc\""),
        ("\"name\": \"lab", "\"name\": \"lab\""),
        ("\"record\"", "\"record\": {}"),
        ("\"seq\"", "\"seq\": 18"),
        ("\"signature\"", "\"signature\": \"\""),
    ] {
        let text = record.text().replacen(before, &format!("{false_words}, {before}"), 1);
        assert_ne!(text, record.text(), "{before}");
        Record::read(text.as_bytes()).expect_err(&text);
    }
    let twice = record.text().replacen("\"samples\"", "\"samples\": [], \"samples\"", 1);
    let why = Record::read(twice.as_bytes()).expect_err("twice").to_string();
    assert!(why.contains("the key \"samples\" stands twice at line"), "{why}");
    for (before, false_words) in
        [("\"verdict\"", "\"verdict\": \"held\""), ("\"export\": {", "\"export\": {}")]
    {
        let text = receipt.text().replacen(before, &format!("{false_words}, {before}"), 1);
        assert_ne!(text, receipt.text(), "{before}");
        Receipt::read(text.as_bytes()).expect_err(&text);
    }
    let deep = record.text().replacen("\"samples\"", &format!("\"a\": {}", "[".repeat(100_000)), 1);
    Record::read(deep.as_bytes()).expect_err("bounded");
}

proptest! {
    #[test]
    fn no_text_is_a_head_or_a_receipt_by_chance_and_none_ends_the_program(bytes: Vec<u8>) {
        prop_assert!(Head::read(&String::from_utf8_lossy(&bytes)).is_err());
        prop_assert!(Receipt::read(&bytes).is_err());
        prop_assert!(Record::read(&bytes).is_err());
    }

    #[test]
    fn a_file_that_is_bent_somewhere_is_refused_or_says_the_same(at: usize, to: u8) {
        thread_local! {
            static GOOD: (Head, Receipt) = { let key = key(); (head(&key), receipt(&key)) };
        }
        GOOD.with(|(head, receipt)| {
            let bend = |text: String| {
                let mut bytes = text.into_bytes();
                let place = at % bytes.len();
                bytes[place] = to;
                bytes
            };
            let line = bend(head.line());
            if let Ok(read) = Head::read(&String::from_utf8_lossy(&line)) {
                prop_assert_eq!(&read, head);
            }
            if let Ok(read) = Receipt::read(&bend(receipt.text())) {
                prop_assert_eq!(&read, receipt);
            }
            Ok(())
        })?;
    }
}
