use super::*;
use serde_json::json;

fn hash() -> String {
    "ab".repeat(32)
}

fn read_json(value: &serde_json::Value) -> Result<Report, ReportError> {
    read(value.to_string().as_bytes())
}

#[test]
fn a_report_of_cape_tells_what_people_search_for() {
    let report = read_json(&json!({
        "info": { "version": "2.4-CAPE", "started": "2026-11-27 10:00:00", "id": 7 },
        "target": { "category": "file", "file": { "sha256": hash(), "size": 3 } },
        "behavior": {
            "processes": [{ "process_id": 4, "process_name": "dropper.exe",
                "module_path": "C:\\dropper.exe", "calls": [{ "api": "NtOpenFile" }] }],
            "summary": { "files": ["C:\\Users\\a\\evil.dll"], "write_keys": ["HKEY_LOCAL_MACHINE\\Run"],
                "mutexes": ["Global\\one"], "executed_commands": ["cmd /c whoami"],
                "resolved_apis": ["kernel32.dll.Sleep"] },
        },
        "network": { "hosts": [{ "ip": "192.0.2.7", "country_name": "unknown" }],
            "domains": [{ "domain": "c2.example.com", "ip": "192.0.2.8" }],
            "dns": [{ "request": "c2.example.com", "answers": [{ "data": "192.0.2.8" }] }] },
        "signatures": [{ "name": "persistence_autorun", "description": "Installs itself", "severity": 3 }],
        "malfamily": "Harmless",
    }))
    .expect("a report");
    assert_eq!(report.sandbox, Sandbox::Cape);
    assert_eq!(report.sample.to_string(), hash());
    assert_eq!(report.family, "Harmless");
    assert_eq!(report.started, "2026-11-27 10:00:00");
    let Found { processes, files, registry, mutexes, domains, addresses, signatures } =
        report.found;
    assert_eq!(processes, "C:\\dropper.exe\ndropper.exe\ncmd /c whoami\n");
    assert_eq!(files, "C:\\Users\\a\\evil.dll\n");
    assert_eq!(registry, "HKEY_LOCAL_MACHINE\\Run\n");
    assert_eq!(mutexes, "Global\\one\n");
    assert_eq!(domains, "c2.example.com\n");
    assert_eq!(addresses, "192.0.2.7\n192.0.2.8\n");
    assert_eq!(signatures, "Installs itself\npersistence_autorun\n");
}

#[test]
fn a_report_of_cuckoo_tells_the_same() {
    let report = read_json(&json!({
        "info": { "version": "2.0.7", "started": 1_512_000_000.25, "score": 7.1 },
        "target": { "file": { "sha256": hash().to_uppercase() } },
        "behavior": {
            "generic": [{ "process_name": "a.exe", "summary": {
                "file_created": ["C:\\x"], "regkey_written": ["HKCU\\y"], "mutex": ["m"],
                "connects_host": ["198.51.100.9"] } }],
            "processes": [{ "process_name": "a.exe", "command_line": "a.exe -q", "pid": 3 }],
        },
        "network": { "hosts": ["203.0.113.5"], "domains": [{ "domain": "d.example", "ip": "" }] },
        "signatures": [],
    }))
    .expect("a report");
    assert_eq!(report.sandbox, Sandbox::Cuckoo);
    assert_eq!(report.found.files, "C:\\x\n");
    assert_eq!(report.found.registry, "HKCU\\y\n");
    assert_eq!(report.found.mutexes, "m\n");
    assert_eq!(report.found.domains, "d.example\n");
    assert_eq!(report.found.addresses, "203.0.113.5\n198.51.100.9\n");
    assert_eq!(report.found.processes, "a.exe -q\na.exe\n");
    assert_eq!(report.started, "1512000000.25");
}

#[test]
fn what_is_no_report_is_refused_with_what_it_lacks() {
    let good = json!({ "info": {}, "target": { "file": { "sha256": hash() } } });
    assert!(read_json(&good).is_ok());
    for (value, said) in [
        (json!({ "info": {} }), "target.file.sha256 is not there"),
        (json!({ "info": {}, "target": { "file": { "sha256": "abc" } } }), "is no SHA-256"),
        (json!({ "info": {}, "target": { "file": { "sha256": [1] } } }), "is not there"),
        (json!({ "target": { "file": { "sha256": hash() } } }), "info is not there"),
        (json!([{}, { "file": { "sha256": hash() } }]), "target.file.sha256 is not there"),
    ] {
        let error = read_json(&value).expect_err("no report").to_string();
        assert!(error.contains(said), "{value}: {error}");
    }
    assert!(matches!(read(b"{\"info\": \xff}"), Err(ReportError::Text(9))));
    assert!(matches!(read(b"{"), Err(ReportError::Json(_))));
}

#[test]
fn deep_and_huge_ones_end_soon() {
    let deep = format!(
        "{{\"info\":{{}},\"signatures\":{}{}}}",
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    assert!(matches!(read(deep.as_bytes()), Err(ReportError::Json(_))));
    // Deep where nobody looks costs nothing but its bytes.
    let aside = format!(
        "{{\"info\":{{}},\"target\":{{\"file\":{{\"sha256\":\"{}\"}}}},\"other\":{}{}}}",
        hash(),
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    let _either = read(aside.as_bytes());
    let many = vec!["a long and always the same text"; 300_000];
    let report = read_json(&json!({
        "info": {}, "target": { "file": { "sha256": hash() } },
        "behavior": { "summary": { "files": many, "mutexes": ["x".repeat(100_000)] } },
    }))
    .expect("a report");
    assert_eq!(report.found.files, "a long and always the same text\n");
    assert_eq!(report.found.mutexes.len(), limits::TERM_BYTES + 1);
    assert!(matches!(read(&vec![b' '; (64 << 20) + 1]), Err(ReportError::Long(_))));
}

#[test]
fn values_of_other_shapes_are_passed_over() {
    let report = read_json(&json!({
        "info": { "version": null, "started": { "x": 1 } },
        "target": { "file": { "sha256": hash() } },
        "network": { "hosts": 7, "domains": { "a": ["b"] }, "dns": [[["deep.example"]]] },
        "signatures": { "name": true },
    }))
    .expect("a report");
    assert_eq!(report.found.domains, "deep.example\n");
    assert_eq!(report.started, "");
}

#[test]
fn a_part_of_another_shape_has_nothing_in_it() {
    let odd = [
        json!(null),
        json!(true),
        json!(-7),
        json!(0.5),
        json!("text"),
        json!([]),
        json!([[{ "a": 1 }], null, "x", 3]),
        json!({}),
        json!({ "a": { "b": [1] } }),
    ];
    let whole = json!({
        "info": { "version": "2.4-CAPE", "started": "now" },
        "target": { "file": { "sha256": hash() } },
        "behavior": { "processes": ["p"], "processtree": ["t"],
            "summary": { "mutexes": ["m"], "files": ["f"] },
            "generic": [{ "summary": { "mutex": ["g"] } }] },
        "network": { "hosts": ["192.0.2.1"], "domains": ["d"], "dns": [], "http": [], "tcp": [], "udp": [] },
        "signatures": [{ "name": "s" }], "malfamily": "F", "detections": "D", "CAPE": {},
    });
    for place in [
        "/info",
        "/info/version",
        "/info/started",
        "/behavior",
        "/behavior/processes",
        "/behavior/processtree",
        "/behavior/summary",
        "/behavior/summary/mutexes",
        "/behavior/generic",
        "/behavior/generic/0",
        "/behavior/generic/0/summary",
        "/behavior/generic/0/summary/mutex",
        "/network",
        "/network/hosts",
        "/network/dns",
        "/signatures",
        "/signatures/0",
        "/malfamily",
        "/detections",
        "/CAPE",
    ] {
        for value in &odd {
            let mut one = whole.clone();
            *one.pointer_mut(place).expect("a place") = value.clone();
            let report = read_json(&one).unwrap_or_else(|e| panic!("{place} {value}: {e}"));
            assert_eq!(report.sample.to_string(), hash());
            // What stands beside it is found as ever.
            let has = |text: &str, word: &str| text.lines().any(|line| line == word);
            assert!(
                place.starts_with("/network") || has(&report.found.domains, "d"),
                "{place} {value}"
            );
            let mutexes = has(&report.found.mutexes, "m") || has(&report.found.mutexes, "g");
            assert!(place == "/behavior" || mutexes, "{place} {value}");
        }
    }
    for place in ["/target", "/target/file", "/target/file/sha256"] {
        for value in &odd {
            let mut one = whole.clone();
            *one.pointer_mut(place).expect("a place") = value.clone();
            assert!(matches!(read_json(&one), Err(ReportError::Shape(_))), "{place} {value}");
        }
    }
    for value in &odd[..6] {
        assert!(read_json(value).is_err(), "{value}");
    }
}

#[test]
fn what_python_writes_is_read() {
    let hash = hash();
    let text = format!(
        r#"{{"info":{{"started":"\udc80 now","score":NaN}},"target":{{"file":{{"sha256":"{hash}"}}}},
        "behavior":{{"summary":{{"files":["C:\\a\ud83d\udc80b",-Infinity,"x\ud800"],"mutexes":[NaN]}}}}}}"#
    );
    for before in ["", "\u{feff}"] {
        let report = read(format!("{before}{text}").as_bytes()).expect("a report");
        assert_eq!(report.started, "\u{fffd} now");
        assert_eq!(report.found.files, "C:\\a💀b\nx\u{fffd}\n");
        assert_eq!(report.found.mutexes, "");
    }
}

#[test]
fn many_processes_take_no_more_memory_than_one() {
    let many = "{\"summary\":{\"mutex\":[\"m\"]}},".repeat(500_000);
    let text = format!(
        "{{\"info\":{{}},\"target\":{{\"file\":{{\"sha256\":\"{}\"}}}},\"behavior\":{{\"generic\":[{many}7]}}}}",
        hash()
    );
    assert_eq!(read(text.as_bytes()).expect("a report").found.mutexes, "m\n");
}
