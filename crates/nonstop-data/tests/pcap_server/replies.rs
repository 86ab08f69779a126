//! What a request gets.

use crate::{
    ground::{Ground, ONE, bytes, packets},
    http::Wire,
};
use anyhow::{Context, Result};
use nonstop_api::fetch::{Fetch, socket};
use nonstop_testkit::place::wait_for;
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::symlink, net::UnixListener},
    thread,
    time::Duration,
};

const DAY: &str = "2026-11-27";
const FILE: &str = "/2026-11-27.pcap";

#[test]
fn days_are_listed_for_people_and_programs_and_tshark_counts_their_packets() -> Result<()> {
    let mut ground = Ground::new()?;
    let empty = ground.said("curl -sS -H 'Accept-Language: ja-JP,en;q=0.5' http://10.80.0.3/")?;
    assert!(empty.contains("公開された日はまだありません"), "{empty}");
    let sha256 = ground.publish(DAY, &packets(1234))?;
    ground.publish("2026-11-26", &packets(5))?;
    fs::create_dir(ground.published().join("lost+found"))?;

    let page = ground.said("curl -sS http://10.80.0.3/")?;
    for text in [&sha256, "href=\"/2026-11-27.pcap\"", "wget -c http://pcap/", "lang=\"en\""] {
        assert!(page.contains(text), "{text} is not in:\n{page}");
    }
    assert!(page.find(DAY) < page.find("2026-11-26"), "the newest comes first");
    let index = ground.said("curl -sS http://10.80.0.3/index.json")?;
    let index: serde_json::Value = serde_json::from_str(&index)?;
    assert_eq!(index["days"][0]["sha256"], sha256);
    assert_eq!(index["days"][1]["url"], "http://pcap/2026-11-26.pcap");
    assert_eq!(index["days"].as_array().map(Vec::len), Some(2));
    let same = ground.said("curl -sS -H 'Accept: application/json' http://10.80.0.3/")?;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&same)?, index);

    let count = "curl -sS http://10.80.0.3/2026-11-27.pcap | tshark -r - -T fields -e ip.src | \
                 sort | uniq -c";
    assert_eq!(ground.said(count)?.trim(), "1234 198.51.100.7");
    let dir = ground.path().display().to_string();
    let checked = ground.said(&format!(
        "cd {dir} && wget -q http://10.80.0.3/2026-11-27.pcap http://10.80.0.3/2026-11-26.pcap && \
         curl -sS http://10.80.0.3/2026-11-27.pcap.sha256 | sha256sum -c && \
         curl -sS http://10.80.0.3/SHA256SUMS | sha256sum -c"
    ))?;
    assert_eq!(checked.matches(": OK").count(), 3, "{checked}");
    Ok(())
}

#[test]
fn ranges_and_conditions_are_answered_as_the_rfc_has_them() -> Result<()> {
    let mut ground = Ground::new()?;
    let file = bytes(1, 100_000);
    let sha256 = ground.publish(DAY, &file)?;
    let etag = format!("\"{sha256}\"");
    let mut wire = Wire::new(ground.connect(ONE)?);

    let head = wire.ask("HEAD", FILE, &["Range: bytes=0-9"])?;
    assert_eq!((head.status, head.field("content-length")), (200, "100000"));
    assert_eq!(head.field("etag"), etag);
    assert_eq!(head.field("accept-ranges"), "bytes");
    assert_eq!(head.field("content-type"), "application/vnd.tcpdump.pcap");
    let modified = head.field("last-modified").to_string();
    assert_eq!(modified, "Sat, 28 Nov 2026 03:00:01 GMT");

    for (range, is, from, to) in [
        ("bytes=0-0", "bytes 0-0/100000", 0, 1),
        ("bytes=99990-", "bytes 99990-99999/100000", 99_990, 100_000),
        ("bytes=-10", "bytes 99990-99999/100000", 99_990, 100_000),
        ("bytes=500-1999999", "bytes 500-99999/100000", 500, 100_000),
    ] {
        let answer = wire.ask("GET", FILE, &[&format!("Range: {range}")])?;
        assert_eq!((answer.status, answer.field("content-range")), (206, is), "{range}");
        assert!(answer.body == file[from..to], "{range}");
    }
    let beyond = wire.ask("GET", FILE, &["Range: bytes=100000-"])?;
    assert_eq!((beyond.status, beyond.field("content-range")), (416, "bytes */100000"));
    for range in ["bytes=5-2", "lines=1-2", "bytes=0-99999,0-99999"] {
        let answer = wire.ask("GET", FILE, &[&format!("Range: {range}")])?;
        assert!(answer.status == 200 && answer.body == file, "{range}");
    }

    let several = wire.ask("GET", FILE, &["Range: bytes=0-3,-4"])?;
    let (kind, boundary) =
        several.field("content-type").split_once("; boundary=").context("two")?;
    assert_eq!((several.status, kind), (206, "multipart/byteranges"));
    let mut expected = Vec::new();
    for (is, part) in [("0-3", &file[..4]), ("99996-99999", &file[99_996..])] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/vnd.tcpdump.pcap\r\n\
             Content-Range: bytes {is}/100000\r\n\r\n"
        );
        expected.extend(head.bytes().chain(part.iter().copied()));
    }
    expected.extend(format!("\r\n--{boundary}--\r\n").bytes());
    assert!(several.body == expected, "{}", several.text());

    let later = "Sun, 29 Nov 2026 00:00:00 GMT";
    let before = "Fri, 27 Nov 2026 00:00:00 GMT";
    for (field, status) in [
        (format!("If-None-Match: {etag}"), 304),
        (format!("If-None-Match: \"x\", W/{etag}"), 304),
        ("If-None-Match: *".into(), 304),
        ("If-None-Match: \"x\"".into(), 200),
        (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {later}"), 200),
        (format!("If-Modified-Since: {modified}"), 304),
        (format!("If-Modified-Since: {before}"), 200),
        ("If-Modified-Since: yesterday".into(), 200),
        (format!("If-Match: {etag}"), 200),
        ("If-Match: \"x\"".into(), 412),
        (format!("If-Match: W/{etag}"), 412),
        (format!("If-Unmodified-Since: {before}"), 412),
        (format!("If-Unmodified-Since: {later}"), 200),
        (format!("Range: bytes=0-1\r\nIf-Range: {etag}"), 206),
        (format!("Range: bytes=0-1\r\nIf-Range: {modified}"), 206),
        ("Range: bytes=0-1\r\nIf-Range: \"x\"".into(), 200),
        (format!("Range: bytes=0-1\r\nIf-Range: W/{etag}"), 200),
        (format!("Range: bytes=0-1\r\nIf-Range: {before}"), 200),
    ] {
        let answer = wire.ask("GET", FILE, &[&field])?;
        assert_eq!(answer.status, status, "{field}");
        assert_eq!(answer.field("etag"), etag, "{field}");
    }
    Ok(())
}

#[test]
fn there_is_nothing_else_to_be_had() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.publish(DAY, b"a day")?;
    let folder = ground.published();
    fs::write(folder.join("secret"), "secret")?;
    symlink("/etc", folder.join("2026-11-01"))?;
    symlink(folder.join(DAY), folder.join("2026-11-02"))?;
    ground.publish("2026-11-03", b"a file that is a link")?;
    let linked = folder.join("2026-11-03/2026-11-03.pcap");
    fs::remove_file(&linked)?;
    symlink("/etc/passwd", &linked)?;
    ground.publish("2026-11-04", b"a file that was changed")?;
    fs::write(folder.join("2026-11-04/2026-11-04.pcap"), "longer than what was published")?;

    let mut wire = Wire::new(ground.connect(ONE)?);
    for (target, status) in [
        ("/2026-11-27", 404),
        ("/2026-11-27/", 404),
        ("/2026-11-27/day.json", 404),
        ("/2026-11-27/2026-11-27.pcap", 404),
        ("/2026-11-27.pcapng", 404),
        ("/2026-11-27.pcap.sha256.sha256", 404),
        ("/2026-11-28.pcap", 404),
        ("/2026-02-30.pcap", 404),
        ("/20261127.pcap", 404),
        ("/secret", 404),
        ("/.new-1", 404),
        ("/../../../../../../etc/passwd", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("//etc/passwd", 404),
        ("/2026-11-01.pcap", 500),
        ("/2026-11-02.pcap", 500),
        ("/2026-11-03.pcap", 500),
        ("/2026-11-04.pcap", 500),
        ("/2026-11-27.pcap%00", 400),
        ("/2026-11-27.pcap%0d%0aX:%20y", 400),
        ("http://elsewhere/2026-11-27.pcap?x=y", 200),
        ("/2026%2d11-27.pcap", 200),
    ] {
        let answer = wire.ask("GET", target, &[])?;
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
        assert!(!answer.text().contains("root:"), "{target}");
    }
    let index: serde_json::Value =
        serde_json::from_slice(&wire.ask("GET", "/index.json", &[])?.body)?;
    assert_eq!(index["days"].as_array().map(Vec::len), Some(1), "{index}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PROPFIND", "get"] {
        let answer = wire.ask(method, FILE, &[])?;
        assert_eq!((answer.status, answer.field("allow")), (405, "GET, HEAD"), "{method}");
    }

    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000));
    for (text, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03", 400),
        (&long, 431),
        ("GET /2026-11-27.pcap HTTP/1.0\r\n\r\n", 200),
        ("\r\nGET /2026-11-27.pcap HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
    ] {
        let mut wire = Wire::new(ground.connect(ONE)?);
        wire.send(text.as_bytes())?;
        let answer = wire.answer(false)?;
        assert_eq!((answer.status, answer.field("connection")), (status, "close"), "{text:?}");
        assert!(wire.is_over(), "{text:?}");
    }

    thread::sleep(Duration::from_secs(1));
    Wire::new(ground.connect(ONE)?).ask("GET", "/", &[])?;
    wait_for("the log to say how much it leaves out", Duration::from_secs(5), || {
        Ok(ground.log().contains("that are not shown)").then_some(()))
    })?;
    let log = ground.log();
    assert!(log.lines().all(|line| line.len() < 400), "{log}");
    assert!(log.bytes().all(|b| b == b'\n' || (0x20..0x7f).contains(&b)), "{log}");
    for part in ["10.77.0.18 GET /2026-11-27 404", "2026-11-04: its file has another length"] {
        assert!(log.contains(part), "{log}");
    }
    Ok(())
}

#[test]
fn the_server_has_no_rights_no_network_and_no_files_but_published_days() -> Result<()> {
    let ground = Ground::new()?;
    let server = ground.server()?;
    let status = fs::read_to_string(format!("/proc/{server}/status"))?;
    for line in [
        "Uid:\t64103\t64103\t64103\t64103",
        "Gid:\t64103\t64103\t64103\t64103",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    let root = fs::read_link(format!("/proc/{server}/root"))?;
    assert_eq!(root, ground.published());
    // With a heap for each thread it would end as one shrinks, by the file that it asks for then.
    let environment = fs::read(format!("/proc/{server}/environ"))?;
    let (name, one) = nonstop_confine::ONE_HEAP;
    let one = format!("{name}={one}");
    assert!(environment.split(|byte| *byte == 0).any(|line| line == one.as_bytes()));
    let network = fs::read_to_string(format!("/proc/{server}/net/dev"))?;
    assert!(!network.contains("servers") && network.contains("lo:"), "{network}");
    for entry in fs::read_dir(format!("/proc/{server}/fd"))? {
        let to = fs::read_link(entry?.path())?.display().to_string();
        let known = ["pipe:", "socket:", "/dev/null", &root.display().to_string()];
        assert!(known.iter().any(|known| to.starts_with(known)), "{to} is open");
    }
    Ok(())
}

#[test]
fn who_takes_what_is_reported_before_the_first_byte_and_nobody_waits_for_it() -> Result<()> {
    let mut ground = Ground::new()?;
    let sha256 = ground.publish(DAY, &bytes(7, 1 << 20))?;
    // Nobody listens: nothing is held up.
    ground.said("curl -sSf -o /dev/null http://10.80.0.3/2026-11-27.pcap")?;
    let listener = UnixListener::bind(socket(&ground.path().join("run")))?;
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut line)?;
    let fetch: Fetch = serde_json::from_str(&line)?;
    assert_eq!((fetch.domain.as_str(), fetch.server.as_str()), ("intermediate", "pcap"));
    assert_eq!((fetch.what.as_str(), fetch.requests), ("2026-11-27.pcap", 1));
    assert_eq!(fetch.sha256.as_deref(), Some(sha256.as_str()));
    assert_eq!(fetch.address.octets()[..2], [10, 80]);
    // Another machine's is told at once, though it has not read a byte yet.
    let mut wire = Wire::new(ground.connect(ONE)?);
    wire.send(format!("GET {FILE} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())?;
    line.clear();
    reader.read_line(&mut line)?;
    let fetch: Fetch = serde_json::from_str(&line)?;
    assert_eq!((fetch.address, fetch.bytes, fetch.requests), (ONE, 0, 1));
    Ok(())
}
