//! Receipts: true ones, forged ones, and one that is checked without any program of ours.

use crate::lab::{Key, TestLab, nonstop, released};
use nonstop_trace::{Decided, Head, Receipt};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

fn check(at: &Path, words: &[&str]) -> (Option<i32>, Value) {
    let output = nonstop(at, &[&["trace", "check-receipt", "--json"], words].concat());
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// Every place in `value`, with what stands there changed.
fn changed(value: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                for (place, other) in changed(inner) {
                    let mut whole = value.clone();
                    whole[key] = other;
                    all.push((format!("{key}.{place}"), whole));
                }
                let mut without = value.clone();
                without.as_object_mut().expect("an object").remove(key);
                all.push((format!("without {key}"), without));
            }
            let mut more = value.clone();
            more["more"] = json!(1);
            all.push(("more".into(), more));
        }
        Value::String(text) => {
            let last = text.chars().last().expect("not empty");
            let other = match last {
                'a' => 'b',
                '1' => '2',
                _ if last.is_ascii_digit() => '1',
                _ => 'a',
            };
            let mut bent = text.clone();
            bent.pop();
            all.push((text.clone(), json!(format!("{bent}{other}"))));
            all.push((text.clone(), json!(format!("{text} "))));
            all.push((text.clone(), json!("")));
        }
        Value::Number(n) => {
            all.push((n.to_string(), json!(n.as_u64().expect("small") + 1)));
            all.push((n.to_string(), json!(n.to_string())));
        }
        _ => {}
    }
    all
}

#[test]
fn a_receipt_is_true_of_its_file_and_no_field_of_it_can_be_another() {
    let mut lab = TestLab::new();
    lab.work(4);
    let receipt = lab.release(b"one,two\n");
    let path = lab.keep(&receipt);
    let (at, authority) = (lab.dir.path(), lab.key.fingerprint());
    let file = path.file_name().and_then(|name| name.to_str()).expect("a name");
    fs::write(lab.path("result.csv"), b"one,two\n").expect("written");
    fs::write(lab.path("other.csv"), b"one,two").expect("written");

    let (code, found) = check(at, &[file, "--data", "result.csv", "--authority", &authority]);
    assert_eq!((code, &found["good"]), (Some(0), &json!(true)), "{found}");
    let (code, found) = check(at, &[file, "--data", "other.csv", "--authority", &authority]);
    assert_eq!(code, Some(1), "{found}");
    let (code, found) = check(at, &[file, "--authority", &Key::new().fingerprint()]);
    assert_eq!(code, Some(1), "{found}");
    let (code, found) = check(at, &[file]);
    assert_eq!((code, &found["authority_checked"]), (Some(0), &json!(false)), "{found}");
    let said = String::from_utf8_lossy(&nonstop(at, &["trace", "check-receipt", file]).stdout)
        .into_owned();
    assert!(said.contains("whose signature it is was not looked at"), "{said}");
    assert_eq!(check(at, &["absent.json"]).0, Some(1));

    // It says nothing of who did what under which name.
    for private in ["alice", "staff1", "result"] {
        assert!(!receipt.text().contains(private), "{private}");
    }
    // As a word of its own: within a hash it stands by chance.
    let text = receipt.text();
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    assert!(words.all(|word| word != "e3"), "{text}");

    let value: Value = serde_json::from_str(&receipt.text()).expect("JSON");
    let forgeries = changed(&value);
    assert!(forgeries.len() > 60, "{} places", forgeries.len());
    for (place, forged) in forgeries {
        let text = serde_json::to_string_pretty(&forged).expect("JSON");
        assert!(Receipt::read(text.as_bytes()).is_err(), "{place} was changed: {text}");
    }
    // One of them by the program, whole.
    let mut forged = value.clone();
    forged["export"]["verdict"] = json!("hold");
    fs::write(lab.path("forged.json"), forged.to_string()).expect("written");
    let (code, found) = check(at, &["forged.json", "--authority", &authority]);
    let said = found["faults"][0].as_str().unwrap_or_default();
    assert!(code == Some(1) && said.contains("it was changed"), "{found}");
}

#[test]
fn parts_of_true_receipts_and_heads_make_no_receipt() {
    let mut lab = TestLab::new();
    let (one, two) = (lab.release(b"one"), lab.release(b"two"));
    let parts = |r: &Receipt| serde_json::from_str::<Value>(&r.text()).expect("JSON");
    let (one, two) = (parts(&one), parts(&two));
    for part in ["seq", "before", "export", "head", "at"] {
        let mut mixed = one.clone();
        mixed[part] = two[part].clone();
        assert!(Receipt::read(mixed.to_string().as_bytes()).is_err(), "{part}");
    }
    let mut mixed = one.clone();
    (mixed["head"], mixed["seq"]) = (two["head"].clone(), two["seq"].clone());
    assert!(Receipt::read(mixed.to_string().as_bytes()).is_err());

    // A row that somebody else's action is in has no receipt, whoever signs it.
    let now = lab.now();
    let said = released(9, b"x", now);
    let at = "2030-01-01T00:00:00Z".parse().expect("a time");
    let uuid = one["head"]["lab"].as_str().expect("a lab");
    let head = Head::sign(uuid, 4, crate::lab::sha256(b"another row"), at, &lab.key);
    let made = Receipt::new(crate::lab::sha256(b"before"), at, said, head.expect("signed"));
    assert!(made.is_err());
}

/// The same as lists instead of objects, which readers of JSON take for the same now and then.
fn listed(good: &str) -> String {
    let value: Value = serde_json::from_str(good).expect("JSON");
    let fields = ["nonstop_receipt", "seq", "at", "before", "export", "head"];
    Value::from(fields.map(|field| value[field].clone()).to_vec()).to_string()
}

#[test]
fn text_that_is_no_receipt_is_refused_with_the_reason() {
    let mut lab = TestLab::new();
    let good = lab.release(b"one,two\n").text();
    let (short, twice) =
        (&good[..good.len() - 3], good.replacen("\"seq\"", "\"seq\": 1, \"seq\"", 1));
    let long = good.clone() + &" ".repeat(17_000);
    for (text, why) in [
        ("", "no receipt"),
        ("{}", "missing field"),
        (&listed(&good), "not written as we write it"),
        ("[]", "no receipt"),
        ("null", "no receipt"),
        (short, "no receipt"),
        (&twice, "duplicate field"),
        (&format!("{good}{good}"), "trailing"),
        (&good.replace("\"nonstop_receipt\": 1", "\"nonstop_receipt\": 2"), "version 2"),
        (&good.replace("\"nonstop_head\": 1", "\"nonstop_head\": 2"), "version 2"),
        (&good.replace("2030-01-01T00:01:00Z", "2030-01-01T01:01:00+01:00"), "in UTC"),
        (&good.replace("2030-01-01T00:01:00Z", "2030-01-01T00:01:00.000Z"), "in UTC"),
        (&good.replace("\"x1\"", "\"x01\""), "no receipt"),
        (&good.replace("07070707", "0707070G"), "64 digits of hex"),
        (&good.replace("\"policy\"", "\"nobody\""), "unknown variant"),
        (&good.replace("text/csv", "text/csv\\u0000"), "`type`"),
        (&good.replace("text/csv", &"x".repeat(3000)), "`type`"),
        (&good.replace("\"bytes\": 8", "\"bytes\": 8.0"), "no receipt"),
        (&good.replace("\"bytes\": 8", "\"bytes\": -8"), "no receipt"),
        (&good.replace("\"bytes\": 8", "\"bytes\": 18446744073709551616"), "no receipt"),
        (&long, "more than the"),
    ] {
        let e = Receipt::read(text.as_bytes()).map(drop).expect_err(text);
        assert!(e.to_string().contains(why), "{why}: {e}");
    }
    assert!(Receipt::read(b"\xff\xfe").is_err());
}

#[test]
fn what_lab_yaml_lets_receipts_name_is_signed_with_the_rest() {
    let mut lab = TestLab::new();
    let now = lab.now();
    let mut said = released(1, b"x", now);
    said.account = Some("alice".into());
    (said.decided, said.decided_by) = (Decided::Staff, Some("staff1".into()));
    said.name = Some("結果 その1.csv".into());
    let receipt = lab.release_as(&said);
    let again = Receipt::read(receipt.text().as_bytes()).expect("its own");
    assert_eq!(again.released(), &said);
    for part in ["alice", "staff1", "その1"] {
        let forged = receipt.text().replace(part, "x");
        assert!(Receipt::read(forged.as_bytes()).is_err(), "{part}");
    }
}

/// What README.md tells auditors to do, with Python and OpenSSL alone.
#[test]
fn an_auditor_checks_a_receipt_without_any_program_of_ours() {
    let mut lab = TestLab::new();
    lab.work(2);
    let receipt = lab.release("結果\n".as_bytes());
    fs::write(lab.path("receipt.json"), receipt.text()).expect("written");
    let script = r#"
import base64, hashlib, json, struct, sys
r = json.load(open("receipt.json"))
def micros(t):
    from datetime import datetime, timezone
    d = datetime.fromisoformat(t.replace("Z", "+00:00")) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (d.days * 86400 + d.seconds) * 1000000 + d.microseconds
detail = json.dumps(r["export"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
h = hashlib.sha256(bytes.fromhex(r["before"]))
for part in (struct.pack("<q", r["seq"]), struct.pack("<q", micros(r["at"])), b"nonstopd",
             b"export.receipt", r["export"]["export"].encode(), detail.encode()):
    h.update(struct.pack("<Q", len(part)) + part)
head = r["head"]
assert h.hexdigest() == head["hash"], "the row is not the one that was signed"
open("signed", "w").write("nonstop head 1\n%s\n%d\n%s\n%s\n" % (head["lab"], head["seq"], head["hash"], head["at"]))
open("signature", "wb").write(base64.b64decode(head["signature"]))
key = base64.b64decode(head["authority"])
open("key", "wb").write(key)
print("SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("="))
"#;
    let output = Command::new("python3").args(["-c", script]).current_dir(lab.dir.path()).output();
    let output = output.expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), lab.key.fingerprint());
    let openssl = [
        "dgst",
        "-sha256",
        "-keyform",
        "DER",
        "-verify",
        "key",
        "-signature",
        "signature",
        "signed",
    ];
    let output = Command::new("openssl").args(openssl).current_dir(lab.dir.path()).output();
    let output = output.expect("openssl runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "Verified OK");
}
