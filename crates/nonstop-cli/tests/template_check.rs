//! `nonstop template check` without lab or daemon: every file, each with all its faults.

use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Output},
};

const GOOD: &str = "version: 1\ntitle: good\nmachines:\n\
    - {role: analyst, image: micro, memory_mib: 96}\n";

/// A debuggee on the host's network, and a server without a data domain.
const BAD: &str = "version: 1\ntitle: bad\nmachines:\n\
    \x20 - role: debugger\n    image: micro\n    memory_mib: 96\n    networks: [access, link]\n\
    \x20   reach: [pcap]\n\
    \x20 - role: debuggee\n    image: micro\n    memory_mib: 96\n    networks: [access, link]\n";

fn check(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nonstop"))
        .current_dir(folder)
        .args(["--lab", "no-lab.yaml", "template", "check"])
        .args(words)
        .output()
        .expect("runs")
}

#[test]
fn every_file_is_checked_and_every_fault_has_its_place() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("template-check");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("good.yaml"), GOOD).expect("written");
    std::fs::write(folder.join("bad.yaml"), BAD).expect("written");

    let output = check(&folder, &["good.yaml", "bad.yaml", "absent.yaml", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let rows: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let good: Vec<_> = (0..3).map(|i| rows[i]["good"].as_bool()).collect();
    assert_eq!(good, [Some(true), Some(false), Some(false)]);
    let faults = rows[1]["errors"].as_array().expect("a list");
    let places: Vec<_> = faults.iter().map(|e| (&e["line"], &e["column"])).collect();
    assert_eq!(places, [(&8.into(), &13.into()), (&12.into(), &16.into())]);
    assert!(faults[1]["message"].as_str().expect("text").contains("`networks: [link]`"));
    let absent = rows[2]["errors"][0]["message"].as_str().expect("text");
    assert!(absent.contains("absent.yaml") && absent.contains("No such file"), "{absent}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("bad.yaml:12:16") && said.contains("2 templates are not good"), "{said}");

    let output = check(&folder, &["good.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "good.yaml: good (good)\n");
}
