//! What is asked for, and what comes.

use crate::{Ground, UID, http::Client};
use nonstop_airlock::target::Side;
use nonstop_api::airlock::{ExportTold, FindingTold};
use nonstop_model::{ExportId, ExportState, Root};
use std::process::Command;

/// All suites of litmus, which must not say that anything failed.
fn litmus(side: Side) {
    let ground = Ground::new(side);
    let name = match side {
        Side::Inside => "127.0.0.1".to_string(),
        Side::Outside => ground.address.ip().to_string(),
    };
    let url = format!("http://{name}:{}{}/", ground.address.port(), ground.writable());
    let folder = tempfile::tempdir().expect("a folder");
    let output =
        Command::new("litmus").arg(url).current_dir(folder.path()).output().expect("litmus");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for suite in ["basic", "copymove", "props", "locks", "http"] {
        let line = format!("<- summary for `{suite}': of ");
        let found = text.lines().find(|text| text.starts_with(&line)).unwrap_or_default();
        assert!(found.contains(" 0 failed."), "{side:?} {suite}: {found}\n{text}");
    }
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("WARNING"), "{text}");
}

#[test]
fn litmus_passes_inside() {
    litmus(Side::Inside);
}

#[test]
fn litmus_passes_outside() {
    litmus(Side::Outside);
}

#[test]
fn a_file_is_written_read_in_parts_and_on_conditions() {
    let ground = Ground::new(Side::Inside);
    let mut client = Client::to(ground.address);
    let path = "/export/%E7%B5%90%E6%9E%9C.csv";
    let put = client.ask("PUT", path, &[("If-None-Match", "*")], b"0123456789");
    assert_eq!(put.status, 201);
    let tag = put.field("etag").to_string();
    assert_eq!(client.ask("PUT", path, &[("If-None-Match", "*")], b"x").status, 412);
    assert_eq!(client.ask("PUT", path, &[("If-Match", "\"other\"")], b"x").status, 412);
    assert_eq!(ground.daemon.content(Root::Export, "結果.csv"), b"0123456789");
    let got = client.ask("GET", path, &[], b"");
    assert_eq!((got.status, got.body.as_slice()), (200, &b"0123456789"[..]));
    assert_eq!(got.field("etag"), tag);
    assert_eq!(got.field("content-disposition"), "attachment");
    assert_eq!(got.field("x-content-type-options"), "nosniff");
    assert_eq!(got.field("access-control-allow-origin"), "");
    let part = client.ask("GET", path, &[("Range", "bytes=2-4")], b"");
    assert_eq!((part.status, part.body.as_slice()), (206, &b"234"[..]));
    let old = client.ask("GET", path, &[("Range", "bytes=2-4"), ("If-Range", "\"old\"")], b"");
    assert_eq!((old.status, old.body.len()), (200, 10));
    assert_eq!(client.ask("GET", path, &[("If-None-Match", &tag)], b"").status, 304);
    assert_eq!(client.ask("GET", path, &[("Range", "bytes=10-")], b"").status, 416);
    let several = client.ask("GET", path, &[("Range", "bytes=0-0,-1")], b"");
    assert_eq!(several.status, 206);
    assert!(several.field("content-type").starts_with("multipart/byteranges"));
    assert!(several.text().contains("Content-Range: bytes 9-9/10\r\n\r\n9\r\n"));
    assert_eq!(client.ask("HEAD", path, &[], b"").field("content-length"), "10");
    assert_eq!(client.ask("PUT", path, &[("If-Match", &tag)], b"new").status, 204);
    assert_eq!(client.ask("PUT", path, &[("Content-Range", "bytes 0-1/9")], b"xy").status, 400);
    assert_eq!(ground.daemon.content(Root::Export, "結果.csv"), b"new");
}

#[test]
fn what_may_not_be_done_says_so_and_how_to_mend_it() {
    let ground = Ground::new(Side::Outside);
    ground.daemon.put(Root::Export, "released", b"x");
    let mut client = Client::to(ground.address);
    let ja = ("Accept-Language", "ja");
    for (method, path, fields, status, says) in [
        ("PUT", "/dav/e7/export/released", &[][..], 403, "import/"),
        ("PUT", "/dav/e7/export/released", &[ja][..], 403, "読み取り専用"),
        ("DELETE", "/dav/e7/export/released", &[][..], 403, "import/"),
        ("MOVE", "/dav/e7/export/released", &[("Destination", "/dav/e7/import/x")][..], 403, ""),
        ("MKCOL", "/dav/e7/", &[][..], 403, ""),
        ("PUT", "/dav/e8/import/x", &[][..], 404, ""),
        ("GET", "/dav/e7/capture/", &[][..], 404, ""),
        ("GET", "/dav/e7/import/../export/released", &[][..], 403, "another name"),
        ("PUT", "/dav/e7/import/a%2fb", &[][..], 403, "another name"),
        ("PUT", "/dav/e7/import/a%0ab", &[ja][..], 403, "別の名前"),
        ("PUT", "/dav/e7/import/no/x", &[][..], 409, ""),
        (
            "COPY",
            "/dav/e7/export/released",
            &[("Destination", "http://evil.example/x")][..],
            502,
            "",
        ),
        ("POST", "/dav/e7/import/x", &[][..], 405, "POST"),
        ("TRACE", "/dav/e7/import/x", &[][..], 405, ""),
        ("GET", "/dav/e7/import/", &[("Host", "evil.example")][..], 421, "localhost"),
        ("PUT", "/dav/e7/import/x", &[("Origin", "http://evil.example")][..], 403, "another site"),
        ("PROPFIND", "/dav/e7/import/", &[("Depth", "infinity")][..], 403, "propfind-finite-depth"),
    ] {
        let got = client.ask(method, path, fields, b"");
        assert_eq!(got.status, status, "{method} {path}: {}", got.text());
        assert!(got.text().contains(says), "{method} {path}: {}", got.text());
    }
    let copied = ("Destination", "/dav/e7/import/copy");
    assert_eq!(client.ask("COPY", "/dav/e7/export/released", &[copied], b"").status, 201);
    assert_eq!(ground.daemon.content(Root::Import, "copy"), b"x");
    assert_eq!(ground.daemon.names(Root::Import), ["copy"]);
}

#[test]
fn xml_that_would_become_much_is_refused_and_costs_little() {
    let ground = Ground::new(Side::Inside);
    let mut client = Client::to(ground.address);
    let laughs = format!(
        "<!DOCTYPE a [{}]><D:propfind xmlns:D='DAV:'><D:prop><x>&b9;</x></D:prop></D:propfind>",
        (1..10).map(|n| format!("<!ENTITY b{n} '&b{};&b{};'>", n - 1, n - 1)).collect::<String>()
    );
    let deep = "<a>".repeat(50_000);
    for body in [laughs.as_str(), deep.as_str(), "no xml", "<D:propfind xmlns:D='DAV:'/>"] {
        let got = client.ask("PROPFIND", "/export/", &[("Depth", "0")], body.as_bytes());
        assert!([400, 413].contains(&got.status), "{}", got.text());
    }
    let long = vec![b' '; 300 << 10];
    let mut other = Client::to(ground.address);
    assert_eq!(other.ask("PROPFIND", "/export/", &[("Depth", "0")], &long).status, 413);
}

#[test]
fn the_root_answers_windows_and_lists_what_there_is() {
    for (side, top, names) in [
        (Side::Outside, "/", &["/dav/"][..]),
        (Side::Outside, "/dav", &["/dav/e7/"]),
        (Side::Outside, "/dav/e7", &["/dav/e7/import/", "/dav/e7/export/"]),
        (Side::Inside, "/", &["/import/", "/export/", "/capture/", "/verdicts/"]),
    ] {
        let ground = Ground::new(side);
        let mut client = Client::to(ground.address);
        let options = client.ask("OPTIONS", "/", &[], b"");
        assert_eq!((options.status, options.field("dav")), (200, "1, 2"));
        assert_eq!(options.field("ms-author-via"), "DAV");
        let found = client.ask("PROPFIND", top, &[("Depth", "1")], b"");
        assert_eq!(found.status, 207);
        let text = found.text();
        for name in names {
            assert!(text.contains(&format!("<D:href>{name}</D:href>")), "{top}: {text}");
        }
        assert_eq!(text.matches("<D:href>").count(), names.len() + 1, "{text}");
        let page = client.ask("GET", top, &[("Accept-Language", "ja")], b"");
        assert!(page.text().contains("名前") && page.field("content-type").contains("html"));
    }
}

#[test]
fn quotas_are_told_where_they_are_asked_for() {
    let ground = Ground::new(Side::Outside);
    let mut client = Client::to(ground.address);
    let ask = b"<propfind xmlns='DAV:'><prop><quota-available-bytes/><quota-used-bytes/></prop></propfind>";
    let got = client.ask("PROPFIND", "/dav/e7/import/", &[("Depth", "0")], ask).text();
    assert!(got.contains("<D:quota-used-bytes>5</D:quota-used-bytes>"), "{got}");
    let all = client.ask("PROPFIND", "/dav/e7/import/", &[("Depth", "0")], b"").text();
    assert!(!all.contains("quota"), "{all}");
}

#[test]
fn what_became_of_an_export_is_read_inside_as_page_file_and_json() {
    let ground = Ground::new(Side::Inside);
    let now = jiff::Timestamp::now();
    ground.daemon.set_exports(vec![ExportTold {
        id: ExportId(4),
        path: "a/<b>.zip".parse().expect("a path"),
        version: 2,
        state: ExportState::Blocked,
        bytes: 9,
        submitted_at: now,
        changed_at: now,
        findings: vec![FindingTold {
            rule: "encrypted".into(),
            verdict: "block".into(),
            says: "it is an encrypted zip".into(),
            mend: "pack it without a password".into(),
            says_ja: "暗号化された zip です".into(),
            mend_ja: "パスワードなしで作り直してください".into(),
        }],
        reason: None,
    }]);
    let mut client = Client::to(ground.address);
    let page = client.ask("GET", "/status", &[("Accept-Language", "ja")], b"");
    assert!(page.text().contains("パスワードなしで作り直してください"));
    assert!(page.text().contains("a/&lt;b&gt;.zip"));
    assert!(page.field("content-security-policy").contains("default-src 'none'"));
    let json = client.ask("GET", "/status.json", &[], b"");
    let value: serde_json::Value = serde_json::from_slice(&json.body).expect("JSON");
    assert_eq!(value["exports"][0]["findings"][0]["rule"], "encrypted");
    assert_eq!(value["exports"][0]["state"], "blocked");
    let listed = client.ask("PROPFIND", "/verdicts/", &[("Depth", "1")], b"").text();
    assert!(listed.contains("/verdicts/%3Cb%3E.zip.x4.txt"), "{listed}");
    let file = client.ask("GET", "/verdicts/%3Cb%3E.zip.x4.txt", &[], b"").text();
    assert!(file.contains("How to mend: pack it without a password"), "{file}");
    assert_eq!(client.ask("DELETE", "/verdicts/%3Cb%3E.zip.x4.txt", &[], b"").status, 403);
    assert_eq!(client.ask("GET", "/verdicts/x", &[], b"").status, 404);
}

#[test]
fn the_program_sees_no_file_but_its_own_and_reaches_nothing() {
    let ground = Ground::new(Side::Inside);
    let mut client = Client::to(ground.address);
    assert_eq!(client.ask("PUT", "/export/a", &[], b"x").status, 201);
    let of = |what: &str| format!("/proc/{}/{what}", ground.program.id());
    let status = std::fs::read_to_string(of("status")).expect("status");
    let line = |name: &str| {
        let found = status.lines().find(|line| line.starts_with(name));
        found
            .and_then(|line| line.split_once(':'))
            .map_or("", |(_, value)| value.trim())
            .to_string()
    };
    assert_eq!(line("Uid"), format!("{UID}\t{UID}\t{UID}\t{UID}"));
    assert_eq!(line("Groups"), "");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let value = line(set);
        assert!(set == "CapBnd" || value.trim_matches('0').is_empty(), "{set} {value}");
    }
    assert_eq!((line("NoNewPrivs"), line("Seccomp")), ("1".into(), "2".into()));
    let root = std::fs::read_dir(of("root")).expect("its root");
    let mut names: Vec<_> = root.map(|e| e.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["own", "run"]);
    let network = std::fs::read_to_string(of("net/dev")).expect("its network");
    let others = network.lines().skip(2).filter(|line| !line.trim().starts_with("lo:"));
    assert_eq!(others.count(), 0, "{network}");
    for kind in ["net", "mnt", "ipc"] {
        let link = |path: String| std::fs::read_link(path).expect("a namespace");
        assert_ne!(link(of(&format!("ns/{kind}"))), link(format!("/proc/self/ns/{kind}")));
    }
}
