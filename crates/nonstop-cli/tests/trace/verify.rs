//! Traces against heads and receipts that were kept elsewhere.

use crate::lab::{Key, TestLab, as_root, nonstop, sha256, sign_again};
use nonstop_trace::Head;
use rcgen::KeyPair;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Forty rows, signed at 11, 21 and 31, with two receipts (rows 33 and 35) near the end.
fn lab() -> (TestLab, String, String) {
    let mut lab = TestLab::new();
    for _ in 0..3 {
        lab.work(10);
        lab.sign();
    }
    let (first, second) = (lab.release(b"one,two\n"), lab.release(b"three,four\n"));
    lab.work(5);
    let kept = |r| lab.keep(&r).display().to_string();
    let (first, second) = (kept(first), kept(second));
    (lab, first, second)
}

fn whole(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("there")
        .map(|entry| entry.expect("readable").path())
        .map(|path| (path.display().to_string(), fs::read(path).expect("readable")))
        .collect();
    files.sort();
    files
}

#[test]
fn a_trace_that_nobody_touched_is_what_was_signed_and_its_copy_is_not_changed_by_looking() {
    let (lab, first, second) = lab();
    let copy = lab.copy("copy");
    let more = ["--heads", "kept", "--receipt", &first, "--receipt", &second];
    let (code, found) = lab.verify(&copy, &more);
    assert_eq!(code, Some(0), "{found}");
    assert_eq!((&found["rows"], &found["good"]), (&json!(40), &json!(true)));
    assert_eq!((&found["heads"], &found["receipts"]), (&json!(3), &json!(2)));
    assert_eq!(found["agreed"]["seq"], 35);

    // Heads out of mails, many in one file, are the same evidence.
    let heads = whole(&lab.path("kept"));
    let mail =
        heads.iter().fold("From lab\r\nSubject: head\r\n\r\n".to_string(), |mail, (_, head)| {
            mail + String::from_utf8_lossy(head).trim_end() + "\r\n\r\n"
        });
    fs::write(lab.path("mails"), mail).expect("written");
    let (code, found) = lab.verify(&copy, &["--heads", "mails"]);
    assert_eq!((code, &found["heads"]), (Some(0), &json!(3)), "{found}");
    assert_eq!(found["agreed"]["seq"], 31);
    let logless = lab.path("logless.db");
    let vacuum = format!("VACUUM INTO '{}'", logless.display());
    rusqlite::Connection::open(&copy).expect("opens").execute_batch(&vacuum).expect("copied");
    fs::create_dir(lab.path("sealed")).expect("made");
    fs::rename(&logless, lab.path("sealed/nonstop.db")).expect("moved");
    let sealed = whole(&lab.path("sealed"));
    let (code, _) = lab.verify(&lab.path("sealed/nonstop.db"), &more);
    assert_eq!((code, whole(&lab.path("sealed"))), (Some(0), sealed), "not even a lock");
}

#[test]
fn root_rewrites_history_and_signs_again_and_yesterdays_head_or_receipt_tells() {
    let (lab, first, second) = lab();
    let copy = lab.copy("rewritten");
    as_root(&copy, "UPDATE trace SET actor = 'mallory', detail = '{}' WHERE seq = 17");
    sign_again(&copy, &lab.key);

    // In itself it is perfect: that is why heads have to be elsewhere.
    let (code, found) = lab.verify(&copy, &[]);
    assert_eq!((code, &found["good"]), (Some(0), &json!(true)), "{found}");
    let output = nonstop(
        lab.dir.path(),
        &[
            "trace",
            "verify",
            "--database",
            "rewritten/nonstop.db",
            "--authority",
            &lab.key.fingerprint(),
        ],
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("could have rewritten all of it"), "{said}");

    let (code, found) = lab.verify(&copy, &["--heads", "kept"]);
    assert_eq!(code, Some(1));
    let differs = &found["differs"];
    assert_eq!((&differs["after"], &differs["at"]), (&json!(11), &json!(21)), "{found}");

    let (code, found) = lab.verify(&copy, &["--receipt", &first]);
    assert_eq!((code, &found["differs"]["after"]), (Some(1), &json!(0)), "{found}");

    // A receipt that was rewritten itself is found by its own row alone.
    let copy = lab.copy("receipt-rewritten");
    let sql =
        "UPDATE trace SET detail = replace(detail, '\"bytes\":11', '\"bytes\":12') WHERE seq = 35";
    as_root(&copy, sql);
    sign_again(&copy, &lab.key);
    let (code, found) = lab.verify(&copy, &["--receipt", &first, "--receipt", &second]);
    let differs = &found["differs"];
    assert_eq!(code, Some(1), "{found}");
    assert_eq!((&differs["after"], &differs["at"]), (&json!(34), &json!(35)), "{found}");
    let output = nonstop(
        lab.dir.path(),
        &[
            "trace",
            "verify",
            "--database",
            "receipt-rewritten/nonstop.db",
            "--receipt",
            &second,
            "--authority",
            &lab.key.fingerprint(),
        ],
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("REWRITTEN: row 35 is not the row that was signed"), "{said}");
}

#[test]
fn rows_that_were_cut_off_are_missed_also_where_others_took_their_numbers() {
    let (lab, _, second) = lab();
    let cut = "DELETE FROM heads WHERE seq > 20; DELETE FROM trace WHERE seq > 20;";
    let copy = lab.copy("cut");
    as_root(&copy, cut);
    let (code, found) = lab.verify(&copy, &["--heads", "kept"]);
    let truncated = &found["truncated"];
    assert_eq!(code, Some(1), "{found}");
    assert_eq!((&truncated["rows"], &truncated["signed"]), (&json!(20), &json!(31)), "{found}");
    let (code, _) = lab.verify(&copy, &["--receipt", &second]);
    assert_eq!(code, Some(1));
    let (code, found) = lab.verify(&copy, &[]);
    assert_eq!((code, &found["rows"]), (Some(0), &json!(20)), "in itself it is whole");

    // Grown again to more rows than there were.
    let grow =
        "INSERT INTO trace SELECT 20 + value, 1893456000000000, 'x', 'y', 'z', '{}', zeroblob(32)
                FROM generate_series(1, 40);";
    let grow = grow.replace(
        "generate_series(1, 40)",
        "(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 40)
          SELECT value FROM n)",
    );
    as_root(&copy, &grow);
    sign_again(&copy, &lab.key);
    let (code, found) = lab.verify(&copy, &["--heads", "kept"]);
    let differs = &found["differs"];
    assert_eq!((code, &found["truncated"]), (Some(1), &Value::Null));
    assert_eq!((&differs["after"], &differs["at"]), (&json!(11), &json!(21)), "{found}");
}

#[test]
fn a_row_that_was_changed_by_sql_alone_is_named_and_so_is_an_own_head_that_does_not_fit() {
    let (lab, ..) = lab();
    let copy = lab.copy("changed");
    as_root(&copy, "UPDATE trace SET subject = 'e99' WHERE seq = 13");
    let (code, found) = lab.verify(&copy, &["--heads", "kept"]);
    assert_eq!((code, &found["broken_at"]), (Some(1), &json!(13)), "{found}");

    let copy = lab.copy("own");
    as_root(&copy, "UPDATE trace SET subject = 'e99' WHERE seq = 25");
    let heads = "CREATE TEMP TABLE h AS SELECT * FROM heads; DELETE FROM heads;";
    as_root(&copy, heads);
    sign_again(&copy, &lab.key);
    let (code, found) = lab.verify(&copy, &["--heads", "kept"]);
    assert_eq!((code, &found["differs"]["at"]), (Some(1), &json!(31)), "{found}");

    // The chain is made anew by somebody without the lab's key.
    let copy = lab.copy("unsigned");
    as_root(&copy, "UPDATE trace SET subject = 'e99' WHERE seq = 25");
    sign_again(&copy, &Key::new());
    let (code, found) = lab.verify(&copy, &[]);
    assert_eq!(code, Some(1), "{found}");
    assert!(found["refused"].as_array().is_some_and(|all| !all.is_empty()), "{found}");
}

#[test]
fn what_is_no_head_of_this_lab_is_not_counted_and_told() {
    let (lab, ..) = lab();
    let copy = lab.copy("copy");
    let good = whole(&lab.path("kept")).swap_remove(0).1;
    let good = String::from_utf8(good).expect("text");
    let other = {
        let mut other = TestLab::new();
        other.work(3);
        other.key = Key(KeyPair::from_pem(&lab.key.0.serialize_pem()).expect("its own"));
        other.sign().line()
    };
    let forged = good.replace("\"seq\":11", "\"seq\":12");
    let stranger = Head::sign(
        serde_json::from_str::<Value>(&good).expect("JSON")["lab"].as_str().expect("a lab"),
        5,
        sha256(b"x"),
        "2030-01-01T00:00:00Z".parse().expect("a time"),
        &Key::new(),
    );
    let stranger = stranger.expect("signed").line();
    for (name, text, why) in [
        ("another lab's", other.as_str(), "it is of the lab"),
        ("forged", &forged, "changed after it was signed"),
        ("a stranger's", &stranger, "not an authority that is trusted"),
        ("torn", &good[..good.len() / 2], "it is no head"),
        ("empty", "", "holds no head"),
    ] {
        fs::write(lab.path("odd"), text).expect("written");
        let (code, found) = lab.verify(&copy, &["--heads", "kept", "--heads", "odd"]);
        assert_eq!((code, &found["heads"]), (Some(1), &json!(3)), "{name}: {found}");
        let said = found["refused"][0][1].as_str().unwrap_or_default();
        assert!(said.contains(why), "{name}: {said}");
    }
    // One line that is none hides none of those behind it.
    let kept = whole(&lab.path("kept")).into_iter().map(|(_, head)| head);
    let kept = kept.map(|head| String::from_utf8(head).expect("text"));
    let torn = format!("{}\n", &good[..good.len() / 2]);
    let mixed = torn.repeat(30) + &kept.collect::<String>();
    fs::write(lab.path("mixed"), mixed).expect("written");
    let (code, found) = lab.verify(&copy, &["--heads", "mixed"]);
    assert_eq!((code, &found["heads"]), (Some(1), &json!(3)), "{found}");
    let refused = found["refused"].as_array().expect("a list");
    assert_eq!(refused.len(), 21, "{found}");
    assert!(refused[0][0].as_str().is_some_and(|from| from.ends_with("mixed, line 1")), "{found}");
    assert_eq!(refused[20][1], json!("so are 10 lines more"));
    let (code, found) = lab.verify(&copy, &["--heads", "nowhere"]);
    assert_eq!((code, &found["agreed"]), (Some(1), &Value::Null), "{found}");
}

#[test]
fn two_histories_that_the_lab_signed_contradict_each_other_whatever_the_trace_says() {
    let (mut lab, ..) = lab();
    let copy = lab.copy("copy");
    let one = lab.sign();
    let other = Head::sign(one.lab(), one.seq(), sha256(b"another"), one.at(), &lab.key);
    fs::write(lab.path("other"), other.expect("signed").line()).expect("written");
    let (code, found) = lab.verify(&copy, &["--heads", "kept", "--heads", "other"]);
    assert_eq!((code, &found["contradicting"]), (Some(1), &json!([40])), "{found}");
}

#[test]
fn bytes_of_exports_are_there_as_they_were_or_their_deletion_is_on_record() {
    let (mut lab, ..) = lab();
    let state = lab.path("").display().to_string();
    let look = |lab: &TestLab| {
        let copy = lab.copy("copy");
        lab.verify(&copy, &["--files", "--state", &state])
    };
    let (code, found) = look(&lab);
    assert_eq!((code, &found["contents"]), (Some(0), &json!(2)), "{found}");
    let one = lab.path("trace").join(sha256(b"one,two\n").to_string());
    let fault = |found: &Value| found["faults"][0]["fault"].clone();

    fs::write(&one, b"one,TWO\n").expect("written");
    let (code, found) = look(&lab);
    assert_eq!((code, fault(&found)), (Some(1), json!("other")), "{found}");

    fs::remove_file(&one).expect("removed");
    let (code, found) = look(&lab);
    assert_eq!((code, fault(&found)), (Some(1), json!("missing")), "{found}");
    assert_eq!(found["faults"][0]["export"], "x1");

    // In the quarantine it is as good.
    let quarantined = lab.path("quarantine/exports").join(sha256(b"one,two\n").to_string());
    fs::write(&quarantined, b"one,two\n").expect("written");
    assert_eq!(look(&lab).0, Some(0));
    fs::remove_file(&quarantined).expect("removed");

    let detail =
        json!({ "sha256": sha256(b"one,two\n"), "rule": "trace.keep_days of lab.yaml is 1" });
    lab.row("trace.delete", "x1", detail);
    assert_eq!(look(&lab).0, Some(0));

    // The same bytes again, after that.
    lab.release(b"one,two\n");
    fs::remove_file(&one).expect("removed");
    let (code, found) = look(&lab);
    assert_eq!((code, fault(&found)), (Some(1), json!("missing")), "{found}");
    fs::write(&one, b"one,two\n").expect("written");

    for name in ["odd", &sha256(b"never exported").to_string()] {
        let odd = lab.path("trace").join(name);
        fs::write(&odd, b"never exported").expect("written");
        let (code, found) = look(&lab);
        assert_eq!((code, fault(&found)), (Some(1), json!("unknown")), "{found}");
        fs::remove_file(odd).expect("removed");
    }
    std::os::unix::fs::symlink("/etc/passwd", lab.path("trace").join("ab".repeat(32)))
        .expect("linked");
    assert_eq!(look(&lab).0, Some(1));
}

#[test]
fn words_that_leave_open_what_is_meant_are_misuse() {
    let (lab, ..) = lab();
    lab.copy("copy");
    let fingerprint = lab.key.fingerprint();
    for words in [
        &["--database", "copy/nonstop.db"][..],
        &["--database", "copy/nonstop.db", "--authority", "SHA256:abc"],
        &["--database", "copy/nonstop.db", "--authority", &fingerprint, "--files"],
        &["--database", "copy/nonstop.db", "--authority", &fingerprint, "--state", "."],
    ] {
        let output = nonstop(lab.dir.path(), &[&["trace", "verify"], words].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
    // What is no database of a lab is an error that says so, and not a good trace.
    let sql = "CREATE TABLE lab (uuid TEXT); CREATE VIEW trace AS SELECT 1 AS seq;";
    rusqlite::Connection::open(lab.path("view.db"))
        .expect("opens")
        .execute_batch(sql)
        .expect("done");
    fs::write(lab.path("text.db"), "no database").expect("written");
    for file in ["view.db", "text.db", "absent.db"] {
        let words = ["trace", "verify", "--database", file, "--authority", &fingerprint];
        let output = nonstop(lab.dir.path(), &words);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert!(!lab.path("absent.db").exists());
    }
}
