//! Children that die, hang, eat, lie and flood; files that were made to break what reads them.

use crate::{
    lab::{TestLab, noise, sha256, shown},
    made::{docx, png, zip},
};
use std::time::Duration;

/// What a measure of `hello\n` is.
fn measured(change: impl Fn(String) -> String) -> String {
    let sum = sha256(b"hello\n");
    let line = format!(
        "{{\"measured\":{{\"bytes\":6,\"sha256\":\"{sum}\",\"kind\":\"text\",\"encoding\":\"us-ascii\",\"dense_pieces\":0}}}}"
    );
    change(line)
}

fn played(measure: &str, rules: &str) -> TestLab {
    let script = format!("#!/bin/sh\ncase $1 in\nmeasure) {measure} ;;\nrules) {rules} ;;\nesac\n");
    TestLab::new().change(|lab| lab.screening.seconds = 4).played_by(&script)
}

const FOUND: &str = r#"echo '{"found":{"kind":null,"remarks":[],"more":false,"broken":[]}}'"#;

#[test]
fn a_child_that_says_what_it_should_is_believed() {
    let lab = played(&format!("echo '{}'", measured(|m| m)), FOUND);
    assert_eq!(lab.shown("a.txt", b"hello\n"), "pass as text: ");
}

#[test]
fn a_child_that_dies_hangs_floods_or_lies_leaves_the_file_held_with_its_hash() {
    let lie = |from: &str, to: &str| format!("echo '{}'", measured(|m| m.replace(from, to)));
    let sum = sha256(b"hello\n");
    for measure in [
        "kill -9 $$",
        "exit 1",
        "exit 0",
        "echo '{}'",
        "head -c 300000 /dev/zero",
        "yes",
        "sleep 4445",
        "sleep 4445 & sleep 4445",
        "echo '{\"failed\":{\"reason\":\"no\"}}'; exit 1",
        &lie("\"bytes\":6", "\"bytes\":7"),
        &lie(&sum, "../../etc/passwd"),
        &lie("\"kind\":\"text\"", "\"kind\":\"harmless\""),
        &lie("\"dense_pieces\":0", "\"dense_pieces\":99"),
        &lie("us-ascii", &"x".repeat(90)),
        &format!("echo '{}'; exit 1", measured(|m| m)),
    ] {
        let lab = played(measure, FOUND);
        let screened = lab.screen("a.txt", b"hello\n");
        assert_eq!(shown(&screened), "hold as unknown: screening-failed hold", "{measure}");
        assert_eq!(screened.sha256, sum, "{measure}");
        assert!(screened.took < Duration::from_secs(15), "{measure}: {:?}", screened.took);
    }
    let left = std::process::Command::new("pgrep").args(["-fx", "sleep 4445"]).output();
    assert!(left.expect("pgrep").stdout.is_empty(), "children outlived their time");
}

#[test]
fn rules_that_die_or_speak_for_others_leave_the_file_held() {
    let good = format!("echo '{}'", measured(|m| m));
    for rules in [
        "kill -9 $$",
        "sleep 4446",
        "echo '{\"found\":{\"kind\":null,\"remarks\":[],\"more\":false,\"broken\":[]}}'; exit 1",
        "echo '{\"found\":{\"kind\":null,\"more\":false,\"broken\":[],\"remarks\":[{\"rule\":\"program.x\",\"verdict\":\"pass\",\"says\":\"\",\"says_ja\":\"\",\"mend\":\"\",\"mend_ja\":\"\"}]}}'",
        "echo '{\"measured\":{}}'",
    ] {
        let lab = played(&good, rules);
        let said = lab.shown("a.txt", b"hello\n");
        assert_eq!(said, "hold as text: screening-failed hold", "{rules}");
    }
    // What a container is from within may be said of a container alone.
    let refined =
        "echo '{\"found\":{\"kind\":\"docx\",\"remarks\":[],\"more\":false,\"broken\":[]}}'";
    assert_eq!(played(&good, refined).shown("a.txt", b"hello\n"), "pass as text: ");
}

#[test]
fn a_program_that_is_not_there_leaves_the_file_held() {
    let lab = TestLab::new().change(|lab| lab.programs = "/nowhere".into());
    let screened = lab.screen("a.txt", b"hello\n");
    assert_eq!(shown(&screened), "hold as unknown: screening-failed hold");
    assert_eq!(screened.sha256, sha256(b"hello\n"));
}

#[test]
fn broken_containers_are_looked_at_as_far_as_they_go() {
    let lab = TestLab::new();
    let whole = docx(&[]);
    for cut in (4..whole.len()).step_by(37) {
        let screened = lab.screen("a.docx", &whole[..cut]);
        assert!(screened.failures.is_empty(), "cut at {cut}: {:?}", screened.failures);
        assert!(shown(&screened).starts_with("hold"), "cut at {cut}: {}", shown(&screened));
    }
    for begin in [
        &b"7z\xbc\xaf\x27\x1c\0\x04"[..],
        b"Rar!\x1a\x07\x01\0",
        b"Rar!\x1a\x07\0",
        b"%PDF-1.7",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"\xff\xd8\xff\xe0",
        b"PK\x03\x04",
        b"RIFF\0\0\0\0WEBP",
        b"BM",
    ] {
        for filler in [noise(5000), vec![0xff; 5000], vec![0; 5000]] {
            let screened = lab.screen("a", &[begin, &filler].concat());
            assert!(screened.failures.is_empty(), "{begin:?}: {:?}", screened.failures);
        }
    }
}

#[test]
fn bombs_and_depth_cost_nothing() {
    let lab = TestLab::new();
    let names: Vec<String> = (0..60_000).map(|n| format!("{n}")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let many = lab.screen("a.zip", &zip(&entries, 0));
    assert!(many.failures.is_empty() && many.took < Duration::from_secs(30), "{many:?}");
    let deep = lab.screen("a.json", &[b'['; 3_000_000]);
    assert_eq!(shown(&deep), "pass as text: ");
}

#[test]
fn a_picture_of_enormous_size_is_not_unpacked() {
    use nonstopd::screening::Screener;
    let lab = TestLab::new();
    let mut huge = png(10, 10);
    huge[16..24].copy_from_slice(&[0, 0, 0x7f, 0xff, 0, 0, 0x7f, 0xff]);
    let path = lab.write("file", &huge);
    let preview = lab.screener().preview(crate::lab::open(&path));
    assert!(preview.png.is_none(), "{:?}", preview.view);
}
