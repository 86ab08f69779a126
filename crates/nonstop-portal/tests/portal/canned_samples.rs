//! Canned samples, injections and a record: as a source, a guest and a store could make them that
//! wish the reader ill.

use super::{HOSTILE, HOSTILE_NAME};
use nonstop_api::samples::SampleQuery;
use serde_json::{Value, json};

/// The hash of a canned sample.
pub(crate) fn hash(digit: &str) -> String {
    digit.repeat(64)
}

fn sample(digit: &str, more: Value) -> Value {
    let mut sample = json!({
        "sha256": hash(digit), "bytes": 123_456, "kind": "pe", "family": "Examplebot",
        "tags": ["botnet", "telnet"], "first_seen": "2029-11-02", "last_seen": "2029-12-30",
        "days": ["2029-12-30", "2029-12-29", "2029-12-01", "2029-11-02"],
        "source": "honeypot 4", "reports": 2,
    });
    let fields = sample.as_object_mut().expect("a map");
    fields.extend(more.as_object().expect("a map").clone());
    sample
}

/// Those that fit `query`, as far as that is needed here.
pub(super) fn found(query: &SampleQuery) -> Value {
    let all = [
        sample("a", json!({})),
        sample(
            "b",
            json!({
                "kind": "script<u>", "family": HOSTILE, "source": HOSTILE_NAME, "bytes": 68,
                "tags": ["\u{202e}gat", "<i>"], "days": ["2029-12-30"],
                "first_seen": "2029-12-30",
            }),
        ),
        sample(
            "c",
            json!({
                "bytes": null, "kind": "", "family": "", "tags": [], "source": "", "reports": 1,
                "first_seen": null, "last_seen": null,
            }),
        ),
    ];
    let fits = |s: &Value| {
        let is = |name: &str, wanted: &str| wanted.is_empty() || s[name] == wanted;
        s["sha256"].as_str().is_some_and(|hash| hash.starts_with(&query.hash))
            && is("kind", &query.kind)
            && is("family", &query.family)
    };
    let samples: Vec<_> = all.into_iter().filter(fits).collect();
    let after = (samples.len() == 3 && query.after.is_none()).then_some("2029-12-01 \"c");
    json!({ "samples": samples, "after": after })
}

/// One that is on its way, one with a guest that says much, one that failed, one that ended.
pub(super) fn injections() -> Value {
    let injection = |id: &str, state: &str, more: Value| {
        let mut injection = json!({
            "id": id, "environment": "e4", "machine": "debuggee", "generation": 3,
            "domain": "intermediate", "by_person": "alice",
            "by": "disc", "zip": false, "state": state,
            "items": [{ "sha256": hash("a"), "name": "invoice.exe", "bytes": 123_456 }],
            "at": "2030-01-01T03:29:58Z", "there_at": null, "ended_at": null, "ended_by": null,
            "failure": null, "guest_says": null,
        });
        let fields = injection.as_object_mut().expect("a map");
        fields.extend(more.as_object().expect("a map").clone());
        injection
    };
    json!([
        injection("j4", "preparing", json!({})),
        injection(
            "j3",
            "there",
            json!({
                "by": "agent", "there_at": "2030-01-01T03:10:01.2Z",
                "items": [
                    { "sha256": hash("a"), "name": "invoice\u{202e}fdp.exe", "bytes": 123_456 },
                    { "sha256": hash("b"), "name": HOSTILE_NAME, "bytes": 68 },
                ],
                "guest_says": format!("123456 bytes are there \u{1b}[31m{HOSTILE}"),
            })
        ),
        injection(
            "j2",
            "failed",
            json!({ "by": "agent", "failure": format!("the agent broke off: {HOSTILE}") })
        ),
        injection(
            "j1",
            "ended",
            json!({
                "zip": true, "there_at": "2030-01-01T02:00:01Z",
                "ended_at": "2030-01-01T02:30:00Z", "ended_by": "revert",
            })
        ),
    ])
}

/// The record of the injection `id`.
pub(super) fn record(id: &str) -> String {
    let counts = json!({ "between": 91, "left": 0, "refused": 7, "tables": "ab".repeat(8) });
    let facts = json!({
        "at": "2030-01-01T02:00:01Z", "counts": counts, "rights": [],
        "rules": { "current": true, "sha256": "cd".repeat(32) },
    });
    let record = json!({
        "lab": { "name": "Kasuga lab" }, "template": { "name": "dynamic-micro" }, "generation": 3,
        "samples": [{ "sha256": hash("b"), "name": HOSTILE_NAME }],
        "containment": { "begin": facts, "end": null, "left": 0 }, "there": "2030-01-01T02:00:02Z",
        "guest_says": format!("\u{202e}{HOSTILE}"), "until": null,
    });
    let head = json!({ "hash": "ef".repeat(32), "signature": HOSTILE });
    json!({ "nonstop_record": 1, "injection": id, "record": record, "seq": 812, "head": head })
        .to_string()
}
