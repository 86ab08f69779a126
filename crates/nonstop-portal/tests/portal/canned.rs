//! A daemon that gives canned answers, over the real wire and the real descriptor passing.
//!
//! Who asks is read from the connection that the portal hands over, as the real one does:
//! address `.1` is alice, a researcher; `.2` is sato, of the staff.

#[path = "canned_samples.rs"]
pub(crate) mod samples;

use nonstop_api::{ApiError, ErrorCode, Reply, Request};
use nonstop_display::{link::Input, recording::Record};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{Seek, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{fd::AsFd, unix::net::UnixListener},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// The time at which every page is looked at.
pub(crate) const NOW: &str = "2030-01-01T03:30:00Z";

/// A purpose that somebody hopes to see run.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script>\" onfocus=\"x\n'; DROP TABLE & <b>";

/// A file's name that is one.
pub(crate) const HOSTILE_NAME: &str = "\"><script>alert(1)<<b>.svg";

/// As good as a certificate, for what is shown of one.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nbm9uc3RvcA==\n-----END CERTIFICATE-----\n";

/// The daemon, for as long as it lives.
pub(crate) struct Canned {
    /// What was asked that changes something, by whom.
    pub(crate) done: Arc<Mutex<Vec<(String, Request)>>>,
    /// Whether changes are refused, with what.
    pub(crate) refuse: Arc<Mutex<Option<ApiError>>>,
    silent: Arc<AtomicBool>,
    /// Whether the last proof of reach was made half an hour ago, and held.
    pub(crate) old_proof: Arc<AtomicBool>,
    /// Whether no preview can be made.
    pub(crate) no_preview: Arc<AtomicBool>,
}

impl Canned {
    /// Listens at `socket`; accounts have addresses `net.1` and `net.2`.
    pub(crate) fn start(socket: &Path, net: [u8; 3]) -> Canned {
        let listener = UnixListener::bind(socket).expect("a socket");
        let canned = Canned {
            done: Arc::default(),
            refuse: Arc::default(),
            silent: Arc::default(),
            old_proof: Arc::default(),
            no_preview: Arc::default(),
        };
        let (done, refuse, silent) =
            (canned.done.clone(), canned.refuse.clone(), canned.silent.clone());
        let (old_proof, no_preview) = (canned.old_proof.clone(), canned.no_preview.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let socket = socket.expect("a caller");
                if silent.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok((request, fd)) = nonstop_api::receive_with_fd::<Request>(&socket) else {
                    continue;
                };
                let mut reply = match fd {
                    None => nobody(&request, net),
                    Some(fd) => {
                        let stream = TcpStream::from(fd);
                        let name = person(&stream);
                        if let Some(reply) = read(&request, name) {
                            reply
                        } else if let Some(e) = refuse.lock().expect("no panic").clone() {
                            Err(e)
                        } else {
                            done.lock().expect("no panic").push((name.into(), request.clone()));
                            Ok(changed(&request))
                        }
                    }
                };
                if let Ok(Reply::Proof(Some(proof))) = &mut reply
                    && old_proof.load(Ordering::SeqCst)
                {
                    proof.at = "2030-01-01T03:00:00Z".parse().expect("a time");
                    proof.colour = nonstop_api::ProofColour::Green;
                }
                if matches!(reply, Ok(Reply::Preview(_))) && no_preview.load(Ordering::SeqCst) {
                    reply = Err(ApiError::new(ErrorCode::Internal, "the program ended early"));
                }
                let _gone = match &reply {
                    Ok(Reply::Recording(_)) => {
                        nonstop_api::send_with_fd(&socket, &reply, recorded().as_fd())
                    }
                    Ok(Reply::Preview(nonstop_api::PreviewView::Picture { .. })) => {
                        nonstop_api::send_with_fd(&socket, &reply, picture().as_fd())
                    }
                    _ => nonstop_api::send(&socket, &reply),
                };
            }
        });
        canned
    }

    /// From now on every connection is closed without an answer.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// What was done so far.
    pub(crate) fn done(&self) -> Vec<(String, Request)> {
        self.done.lock().expect("no panic").clone()
    }
}

fn person(connection: &TcpStream) -> &'static str {
    let SocketAddr::V4(ours) = connection.local_addr().expect("a TCP connection") else {
        panic!("an account's address is IPv4")
    };
    if ours.ip().octets()[3] == 1 { "alice" } else { "sato" }
}

fn nobody(request: &Request, [a, b, c]: [u8; 3]) -> Result<Reply, ApiError> {
    match request {
        // The last one no portal may listen on.
        Request::PortalAddresses => Ok(Reply::Addresses(vec![
            Ipv4Addr::new(a, b, c, 1),
            Ipv4Addr::new(a, b, c, 2),
            Ipv4Addr::UNSPECIFIED,
        ])),
        _ => Err(ApiError::new(ErrorCode::Forbidden, "show a person's connection")),
    }
}

fn reply(name: &str, value: Value) -> Reply {
    serde_json::from_value(json!({ "reply": name, "value": value })).expect("a reply")
}

fn account(name: &str) -> Value {
    let (full_name, role, last) = match name {
        "alice" => ("Alice Example", "researcher", 1),
        "bob" => ("Bob <Example>", "researcher", 3),
        _ => ("佐藤 花子", "staff", 2),
    };
    json!({
        "name": name, "full_name": full_name, "affiliation": "Example University", "role": role,
        "edition": (role == "researcher").then_some("intermediate"),
        "state": if name == "bob" { "suspended" } else { "active" }, "sources": ["192.0.2.0/24"],
        "keys": ["SHA256:u9cVnQ3Pb0dYkZC2dK6mTzV1vC3m2zqD2m3j8b3m1aE"], "uid": 70000 + last,
        "address": format!("127.64.0.{last}"), "added_at": "2029-12-01T00:00:00Z",
    })
}

fn cards(name: &str) -> Value {
    let card = |id: &str, state: &str, more: Value| {
        let mut card = json!({
            "id": id, "account": name, "kind": "piv", "state": state, "expired": false,
            "act": "issue", "guid": "30313233343536373839616263646566",
            "algorithm": "ec-p256", "fingerprint": format!("SHA256:{id}"), "proven": true,
            "issued_at": "2029-12-01T00:00:00Z", "expires_at": "2032-11-30T00:00:00Z",
            "revoked_at": null, "revoked_by": null, "reason": null,
        });
        let (card_fields, more) = (card.as_object_mut().expect("a map"), more);
        card_fields.extend(more.as_object().expect("a map").clone());
        card
    };
    json!([
        card(
            "c9",
            "issuing",
            json!({
                "algorithm": null, "fingerprint": null, "proven": false,
            })
        ),
        card("c4", "active", json!({})),
        card(
            "c3",
            "active",
            json!({ "kind": "key_file", "act": null, "guid": null,
            "algorithm": "ed25519", "proven": false, "expires_at": null })
        ),
        card("c2", "active", json!({ "expired": true, "expires_at": "2029-12-31T00:00:00Z" })),
        card(
            "c1",
            "revoked",
            json!({ "algorithm": "rsa-2048", "reason": HOSTILE,
            "revoked_at": "2029-12-02T00:00:00Z", "revoked_by": "sato" })
        ),
    ])
}

fn snapshots() -> Value {
    let machine = |machine: &str, role: &str, memory: bool| json!({ "machine": machine, "role": role, "memory": memory, "bytes": 120 << 20 });
    json!([
        { "id": "s1", "environment": "e4", "name": "感染前 1", "asked_at": "2030-01-01T02:00:00Z",
          "state": "whole", "bytes": 240 << 20,
          "machines": [machine("m4", "debugger", true), machine("m5", "debuggee", false)] },
        { "id": "s2", "environment": "e4", "name": "later", "asked_at": "2030-01-01T03:00:00Z",
          "state": "failed", "why": "keep the memory of m5: no space: <b>", "bytes": 0,
          "machines": [] },
    ])
}

fn environment(id: &str, account: &str) -> Value {
    let (state, machine, problem) = match id {
        "e2" => ("preparing", "starting", json!(null)),
        "e3" => (
            "preparing",
            "off",
            json!({
                "message": "start machine m3: No space left on device <&>",
                "help": "free space under /var/lib/nonstop, or lower `reserve_mib`",
            }),
        ),
        _ => ("ready", "ready", json!(null)),
    };
    let number: u32 = id[1..].parse().expect("a number");
    let password = (account == "alice").then_some("k7mq2xw9ptrn4v8zjh3c");
    if id == "e4" {
        return pair();
    }
    json!({
        "id": id, "account": "alice", "template": "macro",
        "title": "macro: darknet traffic on a Linux desktop",
        "title_ja": "マクロ解析環境: Linux デスクトップでダークネットトラフィックを解析",
        "period": { "from": "2030-01-01T00:00:00Z", "until": "2030-01-02T08:00:00Z" },
        "state": state, "destroy_at": null, "rdp": if id == "e1" { "guest" } else { "console" },
        "rdp_reason": if id == "e1" && account == "sato" { "the old images <have> no display" } else { "" },
        "problem": problem,
        "machines": [{
            "id": format!("m{number}"), "role": "analyst", "power": "on", "state": machine,
            "address": format!("10.77.0.{}", number * 16 + 2), "generation": 1,
            "rdp": if id == "e1" { "guest" } else { "console" }, "networks": ["access"],
            "reach": ["pcap", "airlock"],
            "desktop": { "address": format!("10.77.0.{}", number * 16 + 2), "port": 3389,
                         "user": "researcher", "password": password },
        }],
    })
}

/// A debugger, which runs, and its debuggee, which is off.
fn pair() -> Value {
    let machine = |id: &str, role: &str, power: &str, state: &str, last: u8| {
        json!({
            "id": id, "role": role, "power": power, "state": state, "generation": 3,
            "desktop": { "address": format!("127.128.0.{last}"), "port": 3389, "user": null,
                         "password": null, "fingerprint": "ab".repeat(32) },
        })
    };
    let mut debugger = machine("m7", "debugger", "on", "ready", 7);
    debugger["address"] = json!("10.77.0.66");
    debugger["networks"] = json!(["access", "link"]);
    debugger["reach"] = json!(["reports", "airlock"]);
    debugger["import"] = json!("/home/researcher/Import");
    let mut debuggee = machine("m8", "debuggee", "off", "off", 8);
    debuggee["networks"] = json!(["link"]);
    debuggee["import"] = json!("/home/researcher/Import");
    debuggee["agent"] = json!(true);
    json!({
        "id": "e4", "account": "alice", "template": "dynamic-micro",
        "title": "dynamic-micro: a debugger, and a debuggee that runs the sample",
        "title_ja": "動的ミクロ解析環境",
        "period": { "from": "2030-01-01T00:00:00Z", "until": "2030-01-02T08:00:00Z" },
        "state": "ready", "destroy_at": null, "rdp": "console", "problem": null,
        "snapshots": 4, "machines": [debugger, debuggee],
    })
}

/// What a player gives: two pictures of 640 x 400, and a key between them.
fn recorded() -> File {
    let mut bytes = Vec::new();
    for record in [
        Record::Picture { width: 640, height: 400 },
        Record::Shown { at_ms: 1_893_463_200_000 },
        Record::Typed { at_ms: 1_893_463_200_500, input: Input::Key { qnum: 38, down: true } },
        Record::Tile { column: 0, row: 0, pixels: [40, 90, 160].repeat(64 * 64) },
        Record::Shown { at_ms: 1_893_463_201_000 },
    ] {
        record.append(&mut bytes);
    }
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&bytes).expect("written");
    file.rewind().expect("rewound");
    file
}

fn recording(ended_at: Option<&str>) -> Value {
    json!({
        "id": if ended_at.is_some() { 1 } else { 2 }, "environment": "e2", "owner": "alice",
        "machine": "m2", "role": "analyst", "wanted_by": "sato", "reason": HOSTILE,
        "bytes": 123_456, "max_bytes": 268_435_456, "begun_at": "2030-01-01T02:00:00Z",
        "ended_at": ended_at, "note": if ended_at.is_some() { "ended by sato" } else { "" },
    })
}

fn desktop_session(id: u64, over_budget: bool, closed_at: Option<&str>) -> Value {
    json!({
        "id": id, "environment": "e2", "owner": "alice", "machine": "m2", "role": "analyst",
        "account": if over_budget { "alice" } else { "bob" }, "types": over_budget,
        "opened_at": "2030-01-01T02:00:00Z", "closed_at": closed_at, "frames": 5120,
        "bytes_out": 2_147_500_000_u64, "keys_in": 311, "over_budget": over_budget, "note": "",
    })
}

fn view_grant(account: &str) -> Value {
    json!({
        "id": 4, "environment": "e2", "owner": "alice", "machine": "m2", "role": "analyst",
        "account": account, "granted_by": "alice", "reason": HOSTILE,
        "from": "2030-01-01T02:00:00Z", "until": "2030-01-01T05:00:00Z", "ready": true,
        "desktop": { "address": "127.128.0.2", "port": 3390, "fingerprint": "ab".repeat(32),
                     "user": null, "password": null },
    })
}

/// A proof that found something, with what a hostile name could look like.
fn proof() -> Value {
    let cell = |from: &str, to: &str, allowed: &str, reachable: &str, colour: &str| {
        json!({
            "from": from, "to": to, "stand_in": to == "intermediate/pcap", "what": "tcp",
            "allowed": allowed, "reachable": reachable, "colour": colour,
            "rule": "inet nonstop to_server: iifname . ip saddr @reach accept",
        })
    };
    json!({
        "colour": "red", "at": "2030-01-01T03:29:20Z", "took_ms": 412, "cells": 1260, "machines": 4,
        "differences": [format!("unknown port {HOSTILE} on nsl00001")],
        "not_proven": ["not evaluated: qdisc ingress on nsb00001"],
        "passing": [{
            "what": "set inet nonstop reach holds { nsb00002 . 10.77.0.18 }, which nobody wants",
            "seen_at": "2030-01-01T03:29:20.100Z", "gone_by": "2030-01-01T03:29:20.900Z",
        }],
        "drifts": [{
            "at": "2030-01-01T03:00:00Z",
            "what": "address 10.5.5.1/24 was put on nsl00001; taken off",
        }],
        "open": [
            cell("e1/analyst", "e2/analyst", "-", "tcp 22", "red"),
            cell("e1/analyst", "intermediate/pcap", "tcp 80", "tcp 80", "green"),
        ],
        "closed": [{
            "what": "arp", "rule": "bridge nonstop from_machine: drop", "cells": 12, "senders": 4,
            "examples": ["e1/analyst → e2/analyst", "e2/analyst → host"],
        }],
        "between": [
            { "from": "intermediate", "to": "mws", "machines": 3, "servers": 2, "cells": 66, "open": 0 },
            { "from": "mws", "to": "intermediate", "machines": 1, "servers": 5, "cells": 55, "open": 1 },
        ],
        "stand_ins": ["airlock", "intermediate/pcap"], "left_out": 7,
    })
}

fn probe() -> Value {
    json!({
        "since": "2030-01-01T03:29:00Z", "how_far": "3 of 8 canaries run",
        "last": {
            "at": "2030-01-01T02:00:00Z", "by": "admin root", "problem": null, "holds": false,
            "canaries": 7, "tried": 2431, "allowed": 94, "denied": 2337, "controlled": 2336,
            "differences": [format!("e1/analyst on nsb00001, tcp 10.77.0.18:22: came to {HOSTILE}")],
            "not_shown": ["e2/debuggee on nsl00002, igmp: the canary did not send it"],
            "left_out": 3,
        },
    })
}

fn requests() -> Value {
    let request = |id: &str, purpose: &str, state: Value| {
        let mut value = json!({
            "id": id, "account": "alice", "template": "macro", "purpose": purpose,
            "period": { "from": "2030-01-01T00:00:00Z", "until": "2030-01-02T08:00:00Z" },
            "made_at": "2029-12-31T08:15:00Z",
        });
        for (k, v) in state.as_object().expect("an object") {
            value[k] = v.clone();
        }
        value
    };
    json!([
        request("r3", HOSTILE, json!({ "state": "open" })),
        request(
            "r2",
            "Port scans on 23/tcp since the new botnet appeared",
            json!({ "state": "approved", "by": "sato", "environment": "e1" })
        ),
        request(
            "r1",
            "Just looking around",
            json!({ "state": "refused", "by": "sato", "reason": "Say which data you need." })
        ),
    ])
}

/// Answers what only reads; None for what changes something.
/// What is in the file of a day.
fn content(bytes: u64, packets: u64) -> Value {
    json!({
        "format": "pcap", "bytes": bytes, "packets": packets,
        "first": "2029-12-30T15:00:00.1Z", "last": "2029-12-31T14:59:59.9Z",
        "sha256": "ab".repeat(32),
    })
}

fn publication(id: &str, file: &str, state: &str) -> Value {
    json!({
        "id": id, "domain": "intermediate", "kind": "pcap", "day": "2030-01-01", "file": file,
        "by": "watcher", "state": state, "taken_at": "2030-01-01T03:20:00Z",
        "changed_at": "2030-01-01T03:21:00Z", "content": null, "reason": null, "doing": null,
        "problem": null, "load_wanted": false,
    })
}

/// A data domain with all that can be told of one.
fn intermediate() -> Value {
    let day = |day: &str, loaded, fault| {
        json!({
            "kind": "pcap", "day": day, "file": format!("{day}.pcap"), "content": content(123_456_789, 1_500_000),
            "published_at": "2030-01-01T00:12:00Z", "publication": "p3", "rows": 1_500_000,
            "loaded": loaded, "load_wanted": false, "fault": fault,
        })
    };
    let mut checked = publication("p5", "2030-01-01.pcap", "taken");
    checked["doing"] = json!({
        "what": "check", "bytes": 34, "of": 100, "since": "2030-01-01T03:20:01Z",
    });
    let mut waits = publication("p6", "2029-12-29.pcap", "checked");
    waits["problem"] = json!({
        "message": "PostgreSQL does not answer", "help": "see `nonstop check`",
    });
    let mut rejected = publication("p4", HOSTILE, "rejected");
    rejected["reason"] = json!(format!("record 7 is cut off {HOSTILE}"));
    json!({
        "name": "intermediate", "publishes": true, "offers": ["pcap", "samples", "reports", "rdb"],
        "utc_offset_minutes": 540, "keep_days": 30,
        "inbox_folder": "/var/lib/nonstop/data/intermediate/inbox/pcap",
        "rejected_folder": "/var/lib/nonstop/data/intermediate/rejected",
        "days": [
            day("2029-12-30", true, Value::Null),
            day("2029-12-31", false, json!("its file was changed by hand: publish the day again")),
            {
                "kind": "samples", "day": "2029-12-31", "file": "2029-12-31.samples.tar",
                "content": {
                    "bytes": 40_960, "sha256": "cd".repeat(32), "samples": 12, "reports": 9,
                },
                "published_at": "2030-01-01T00:12:00Z", "publication": "p2", "rows": null,
                "loaded": null, "load_wanted": false, "fault": null,
            },
        ],
        "under_way": [checked, waits], "rejected": [rejected],
        "inbox": [
            { "domain": "intermediate", "name": "2030-01-02.pcap", "bytes": 40, "note": "" },
            { "domain": "intermediate", "name": HOSTILE, "bytes": null, "note": "a link: bring the file itself" },
        ],
        "problems": [{
            "message": "the `rdb` does not have 2029-12-31",
            "help": "run `nonstop data load --domain intermediate`",
        }],
        "published_bytes": 246_913_578, "rdb_bytes": 5_000_000_000_u64, "free_bytes": 1_u64 << 40,
    })
}

/// One whose servers are the lab's own.
fn elsewhere() -> Value {
    let mut domain = intermediate();
    domain["name"] = json!("partner");
    domain["publishes"] = json!(false);
    domain
}

/// A picture as the program sends it that made it anew.
fn picture() -> File {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 320, 200);
    encoder.set_color(png::ColorType::Rgb);
    encoder.add_text_chunk("Comment".into(), HOSTILE.into()).expect("a chunk");
    let pixels = (0..320 * 200).flat_map(|i: u32| [(i % 320 * 255 / 320) as u8, 90, 160]);
    let pixels: Vec<u8> = pixels.collect();
    encoder.write_header().expect("made").write_image_data(&pixels).expect("made");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&bytes).expect("written");
    file.rewind().expect("rewound");
    file
}

fn finding(rule: &str, verdict: &str, says: &str, says_ja: &str) -> Value {
    json!({
        "rule": rule, "verdict": verdict, "says": says, "says_ja": says_ja,
        "mend": "export the files in it one by one",
        "mend_ja": "展開して、ファイルを個別に持ち出してください",
    })
}

/// An export as `who` is told of it.
fn export(id: u32, who: &str) -> Value {
    let staff = who == "sato";
    let (state, rules, path): (&str, Value, &str) = match id {
        1 => ("released", json!([]), "結果/scans by port.csv"),
        2 => ("held", json!(["review", "archive"]), "plots\u{202e}gpj.zip"),
        3 => ("blocked", json!(["protected", "yara.packer"]), HOSTILE_NAME),
        4 => ("screening", json!([]), "table.csv"),
        5 => ("held", json!(["review"]), "own.txt"),
        6 => ("held", json!(["review"]), "plot.png"),
        7 => ("refused", json!(["type"]), "ports.csv"),
        _ => ("held", json!(["screening-failed"]), "a.bin"),
    };
    let findings = match id {
        2 => json!([
            finding("review", "hold", "staff look at every file here", "すべて確認します"),
            finding("archive", "hold", "it is a zip archive of 3 files", "ZIP アーカイブです"),
        ]),
        3 => json!([finding("protected", "block", HOSTILE, "検体そのものです")]),
        _ => json!([]),
    };
    let decisions = match id {
        1 => json!([{
            "state": "released", "by": "policy", "at": "2030-01-01T01:00:03Z", "reason": "",
        }]),
        7 => json!([{
            "state": "refused", "by": "tanaka", "at": "2030-01-01T02:30:00Z",
            "reason": "The column of sources holds addresses.\nTake it out.",
        }]),
        _ => json!([]),
    };
    let earlier = json!([
        { "id": "x1", "state": "released", "path": "結果/scans by port.csv", "bytes": 51_200,
          "submitted_at": "2030-01-01T01:00:00Z" },
        { "id": "x3", "state": "blocked", "path": HOSTILE_NAME, "bytes": 7,
          "submitted_at": "2030-01-01T01:30:00Z" },
    ]);
    let screened = id != 4;
    let about = json!({
        "path": path, "version": if id == 2 { 3 } else { 1 }, "bytes": 51_200,
        "sha256": screened.then(|| "ab".repeat(32)),
        "content_type": screened.then_some("zip"),
        "screened_ms": screened.then_some(41), "rules_digest": screened.then(|| "cd".repeat(32)),
        "findings": findings, "decisions": decisions,
        "earlier": if staff { earlier } else { json!([]) },
    });
    json!({
        "id": format!("x{id}"), "environment": "e1", "template": "macro", "account": "alice",
        "machine": "analyst", "state": state, "submitted_at": "2030-01-01T01:00:00Z",
        "changed_at": "2030-01-01T01:00:03Z", "rules": rules,
        "note": (id == 2).then_some(HOSTILE),
        "about": if staff || id == 1 { about } else { Value::Null },
        "decidable": staff && state == "held" && id != 5,
        "undecidable": (staff && id == 5).then_some("it is an export of your own"),
    })
}

/// What the export `id` looks like.
fn preview(id: u32) -> Value {
    match id {
        2 => json!({
            "preview": "text", "encoding": "Shift_JIS", "cut": true,
            "text": format!("port,count\r\n23,\u{200b}1500\n{HOSTILE}\n\u{1b}[31m解析結果"),
        }),
        3 => json!({ "preview": "none", "why": "files of this kind are not shown" }),
        6 => json!({ "preview": "picture", "width": 3200, "height": 2000 }),
        7 => json!({
            "preview": "table", "cut": true,
            "rows": [["port", "source", "count"], ["23", "<b>192.0.2.7</b>", "1500"],
                     ["80", "192.0.2.9\u{202e}", "7"]],
        }),
        _ => json!({ "preview": "bytes", "hex": "7f454c4602010100".repeat(9) }),
    }
}

fn imports() -> Value {
    let import = |id: &str, path: &str, state: &str, found: Value| {
        json!({
            "id": id, "environment": "e1", "account": "alice", "path": path, "bytes": 8192,
            "at": "2030-01-01T00:30:00Z", "sha256": (state != "looking").then(|| "12".repeat(32)),
            "content_type": (state != "looking").then_some("script"), "state": state,
            "findings": found,
        })
    };
    json!([
        import("i3", "tools/plot.py", "looking", json!([])),
        import("i2", HOSTILE_NAME, "refused", json!([finding("yara.eicar", "block", "a", "b")])),
        import("i1", "plot.py", "visible", json!([])),
    ])
}

/// What alice's machines reach.
fn offers() -> Value {
    json!([
        {
            "domain": "intermediate", "environments": ["e1", "e3"],
            "servers": [
                { "name": "live", "offers": "live", "bytes": true, "port": 7000 },
                { "name": "pcap", "offers": "pcap", "bytes": true, "port": 80 },
                { "name": "rdb", "offers": "rdb", "bytes": true, "port": 5432 },
                { "name": "samples", "offers": "samples", "bytes": true, "port": 80 },
                { "name": "catalogue", "offers": "samples", "bytes": false, "port": 8080 },
                { "name": "reports", "offers": "reports", "bytes": true, "port": 80 },
            ],
            "known": true, "utc_offset_minutes": 540,
            "days": [{
                "day": "2029-12-31", "file": "2029-12-31.pcap", "bytes": 123_456_789,
                "packets": 1_500_000, "sha256": "ab".repeat(32),
            }],
            "sample_days": [{ "day": "2029-12-31", "samples": 12, "reports": 9 }],
        },
        {
            "domain": "partner", "environments": ["e4"],
            "servers": [{ "name": "files", "offers": "pcap", "bytes": true, "port": 8080 }],
            "known": false, "utc_offset_minutes": 0, "days": [], "sample_days": [],
        },
    ])
}

fn read(request: &Request, who: &str) -> Option<Result<Reply, ApiError>> {
    Some(Ok(match request {
        Request::WhoAmI => reply(
            "me",
            json!({
                "account": account(who), "actor": who, "exports_waiting": (who == "sato").then_some(4),
                "lab": {
                    "name": "Kasuga lab", "software_keys": true,
                    "editions": if who == "sato" { json!(["intermediate", "mws"]) } else { json!([]) },
                    "connect": {
                        "host": "gate.lab.example", "port": 2222,
                        "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4mgl+VnJWxyUMGJvGdmoIPRBbKzQm5k2cRP+k9HTkU",
                        "fingerprint": "SHA256:4u3Yp2k8m7h1n0Q5sV9wXzB6cD3eF2gH1iJ0kL9mN8o",
                        "portal_port": 8080,
                    },
                    "authority": AUTHORITY, "authority_fingerprint": "SHA256:lab",
                },
            }),
        ),
        Request::TemplateList => reply(
            "templates",
            json!([
                { "name": "macro", "title": "macro: darknet traffic on a Linux desktop",
                  "title_ja": "マクロ解析環境: Linux デスクトップでダークネットトラフィックを解析",
                  "rdp": "guest", "machines": ["analyst"], "memory_mib": 768,
                  "edition": "intermediate" },
                { "name": "micro", "title": "micro: a tiny guest for trials",
                  "title_ja": "micro: 動作確認用の小さなゲスト",
                  "rdp": "none", "machines": ["analyst"], "memory_mib": 96 },
            ]),
        ),
        Request::RequestList => reply("requests", requests()),
        Request::EnvironmentList { .. } => {
            reply("environments", json!(["e3", "e2", "e1"].map(|id| environment(id, who))))
        }
        Request::SnapshotList { .. } => reply("snapshots", snapshots()),
        Request::EnvironmentShow { id } if id.0 <= 4 => {
            reply("environment", environment(&id.to_string(), who))
        }
        Request::EnvironmentShow { id } => {
            return Some(Err(ApiError::new(
                ErrorCode::NotFound,
                format!("there is no environment {id}"),
            )));
        }
        Request::AccountList => reply("accounts", json!(["alice", "bob", "sato"].map(account))),
        Request::AccountShow { name } => reply("account", account(name.as_str())),
        Request::CardList { account } => {
            reply("cards", cards(account.as_ref().map_or("bob", |name| name.as_str())))
        }
        Request::ProfileShow { account } => reply("profile", json!(format!("{account:?}"))),
        Request::SessionList { .. } => reply(
            "sessions",
            json!([
                { "id": 8, "account": "alice", "source": "192.0.2.17",
                  "key": "SHA256:u9cVnQ3Pb0dYkZC2dK6mTzV1vC3m2zqD2m3j8b3m1aE",
                  "opened_at": "2030-01-01T03:00:00Z", "closed_at": null,
                  "client": "OpenSSH_10.0", "flows": [
                    { "target": "127.64.0.1:8080", "bytes_in": 5321, "bytes_out": 1234567, "connections": 4 },
                    { "target": "10.77.0.2:3389", "bytes_in": 88123, "bytes_out": 55123456, "connections": 1 } ] },
                { "id": 7, "account": "alice", "source": "192.0.2.17",
                  "key": "SHA256:u9cVnQ3Pb0dYkZC2dK6mTzV1vC3m2zqD2m3j8b3m1aE",
                  "opened_at": "2029-12-31T08:00:00Z", "closed_at": "2029-12-31T09:45:10Z",
                  "ended": "the client did not answer any more", "uncounted": true },
            ]),
        ),
        Request::RefusedLogins { .. } => reply(
            "refused_logins",
            json!({
                "since": "2029-12-31T03:00:00Z", "all": 6,
                "by_user": [{ "what": "root", "tries": 5, "last_at": "2030-01-01T02:00:00Z" }],
                "by_source": [{ "what": "192.0.2.99", "tries": 5, "last_at": "2030-01-01T02:00:00Z" }],
                "rows": [
                    { "first_at": "2030-01-01T02:00:00Z", "last_at": "2030-01-01T02:00:40Z",
                      "user": "root", "source": "192.0.2.99", "why": "unknown_account",
                      "reason": "no such account", "key": "", "client": "libssh2_1.10", "tries": 5 },
                    { "first_at": "2029-12-31T22:00:00Z", "last_at": "2029-12-31T22:00:00Z",
                      "user": "alice", "source": "192.0.2.17", "why": "expired",
                      "reason": "the key is right, its time is over", "key": "SHA256:abc",
                      "client": "OpenSSH_10.0", "tries": 1 } ],
            }),
        ),
        Request::DesktopSessions { over_budget: true, .. } => {
            reply("desktop_sessions", json!([desktop_session(5, true, None)]))
        }
        Request::DesktopSessions { .. } => reply(
            "desktop_sessions",
            json!([
                desktop_session(6, false, None),
                desktop_session(5, true, None),
                desktop_session(4, false, Some("2030-01-01T02:10:00Z")),
            ]),
        ),
        Request::ViewList => {
            reply("views", json!([view_grant(if who == "sato" { who } else { "bob" })]))
        }
        Request::RecordingList => {
            reply("recordings", json!([recording(None), recording(Some("2030-01-01T03:00:00Z"))]))
        }
        Request::RecordingStream { .. } => {
            reply("recording", recording(Some("2030-01-01T03:00:00Z")))
        }
        Request::DataList { .. } => reply("data_domains", json!([intermediate(), elsewhere()])),
        Request::DataOffers => reply("offers", offers()),
        Request::ExportList { waiting, all, .. } => {
            let ids: &[u32] = match (*waiting, *all) {
                (true, _) => &[2, 5, 6, 8],
                (_, true) => &[8, 7, 6, 5, 4, 3, 2, 1],
                (_, false) => &[8, 6, 5, 4, 3, 2, 1],
            };
            let exports: Vec<_> = ids.iter().map(|id| export(*id, who)).collect();
            reply("exports", json!(exports))
        }
        Request::ExportShow { id } if (1..9).contains(&id.0) => reply("export", export(id.0, who)),
        Request::ExportShow { id } => {
            return Some(Err(ApiError::new(
                ErrorCode::NotFound,
                format!("there is no export {id}"),
            )));
        }
        Request::ExportPreview { id } => reply("preview", preview(id.0)),
        Request::ExportReceipt { id } => {
            reply("receipt", json!(format!("{{\"export\":\"{id}\"}}")))
        }
        Request::ImportList { .. } => reply("imports", imports()),
        Request::SampleList { query, .. } if query.text.contains('(') => {
            let said = "`(` cannot be looked for <b>";
            return Some(Err(ApiError::new(ErrorCode::Invalid, said).help("write words alone")));
        }
        Request::SampleList { query, .. } => reply("samples", samples::found(query)),
        Request::InjectionList { .. } => reply("injections", samples::injections()),
        Request::InjectionRecord { id } if (1..5).contains(&id.0) => {
            reply("record", json!(samples::record(&id.to_string())))
        }
        Request::InjectionRecord { id } => {
            let none = format!("there is no injection {id}");
            return Some(Err(ApiError::new(ErrorCode::NotFound, none)));
        }
        Request::ReachProof => reply("proof", proof()),
        Request::ReachProbed => reply("probe", probe()),
        Request::TraceList { .. } => reply(
            "trace",
            json!([
                { "seq": 3, "at": "2030-01-01T00:00:02Z", "actor": "sato",
                  "action": "request.approve", "subject": "r2",
                  "detail": { "environment": "e1" }, "hash": "ab".repeat(32) },
                { "seq": 2, "at": "2029-12-31T08:15:00Z", "actor": "alice",
                  "action": "request.apply", "subject": "r2",
                  "detail": { "template": "macro", "purpose": HOSTILE }, "hash": "cd".repeat(32) },
                { "seq": 1, "at": "2029-12-01T00:00:00Z", "actor": "admin:root",
                  "action": "account.add", "subject": "alice", "detail": null,
                  "hash": "ef".repeat(32) },
            ]),
        ),
        Request::TraceVerify => reply(
            "trace_verified",
            json!({ "rows": 3, "head": "ab".repeat(32), "broken_at": null }),
        ),
        Request::Stats => reply(
            "stats",
            json!({
                "accounts": 3, "environments": 3, "machines": 2, "sessions": 1, "memory_mib": 2304,
                "capacity_memory_mib": 12288, "quarantined": 0, "trace_rows": 3,
                "proof": { "colour": "red", "at": "2030-01-01T03:29:20Z" },
            }),
        ),
        _ => return None,
    }))
}

fn changed(request: &Request) -> Reply {
    match request {
        Request::RequestApply { .. } => reply("request", requests()[0].clone()),
        Request::RequestApprove { .. } => reply("environment", environment("e2", "sato")),
        Request::AccountAdd { .. } => reply("account", account("bob")),
        Request::SampleInject { .. } => reply("injection", samples::injections()[0].clone()),
        _ => Reply::Done,
    }
}
