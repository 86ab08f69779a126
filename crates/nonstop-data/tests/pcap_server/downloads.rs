//! Downloads that go on while their day is replaced and their server killed.

use crate::{
    ground::{Ground, ONE, OTHER, bytes, children, sha256},
    http::Wire,
};
use anyhow::{Context, Result, ensure};
use nonstop_testkit::place::wait_for;
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const DAY: &str = "2026-11-27";
const FILE: &str = "/2026-11-27.pcap";

#[test]
fn a_download_under_way_gets_its_version_to_the_end_and_its_room_is_given_back() -> Result<()> {
    let mut ground = Ground::new()?;
    // More than the buffers of a connection hold.
    let (old, new) = (bytes(1, 32 << 20), bytes(2, 20 << 20));
    let first = ground.publish(DAY, &old)?;
    let mut wire = Wire::new(ground.connect(ONE)?);
    wire.send(format!("GET {FILE} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())?;
    let head = wire.head()?;
    let mut body = wire.body(1 << 20)?;

    let second = ground.publish(DAY, &new)?;
    let mut other = Wire::new(ground.connect(OTHER)?);
    let etag = format!("If-Range: \"{first}\"");
    let resumed = other.ask("GET", FILE, &["Range: bytes=1000-", &etag])?;
    assert!(resumed.status == 200 && resumed.body == new, "a resumed one begins anew");
    assert_eq!(resumed.field("etag"), format!("\"{second}\""));

    body.extend(wire.body((32 << 20) - (1 << 20))?);
    assert!(body == old && head.field("etag") == format!("\"{first}\""));
    let again = wire.ask("GET", FILE, &[])?;
    assert!(again.body == new, "the same connection gets the new one next");
    let server = ground.server()?;
    wait_for("the old version to be let go of", Duration::from_secs(20), || {
        let open = fs::read_dir(format!("/proc/{server}/fd"))?;
        let open = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        let gone = open.filter(|to| to.to_string_lossy().contains("(deleted)"));
        Ok((gone.count() == 0).then_some(()))
    })
}

#[test]
fn a_day_replaced_without_pause_is_always_one_version() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.publish(DAY, &bytes(1, 300_000))?;
    let mut wires = [Wire::new(ground.connect(ONE)?), Wire::new(ground.connect(OTHER)?)];
    // As many as one connection may ask for.
    let most = 249;
    let over = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let readers = wires.each_mut().map(|wire| {
            let over = &over;
            scope.spawn(move || -> Result<u32> {
                let mut count = 0;
                while !over.load(Ordering::Relaxed) && count < most {
                    let file = wire.ask("GET", FILE, &[])?;
                    let hash = hex::encode(Sha256::digest(&file.body));
                    ensure!(file.field("etag") == format!("\"{hash}\""), "{file:?}");
                    for listing in ["/index.json", "/SHA256SUMS", "/2026-11-27.pcap.sha256"] {
                        let answer = wire.ask("GET", listing, &[])?;
                        ensure!(answer.status == 200, "{answer:?}");
                        ensure!(answer.text().contains(DAY), "{answer:?}");
                    }
                    count += 1;
                }
                Ok(count)
            })
        });
        for version in 0..300 {
            ground.publish(DAY, &bytes(version, 200_000 + usize::try_from(version)?))?;
        }
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            let read = reader.join().expect("no panic")?;
            ensure!(read > 5, "only {read} were read");
        }
        Ok(())
    })
}

/// How long the server is away.
fn back(ground: &Ground, killed: Instant) -> Result<Duration> {
    ground.listens(Duration::from_secs(10))?;
    Ok(killed.elapsed())
}

#[test]
fn curl_and_wget_resume_after_their_server_was_killed() -> Result<()> {
    let mut ground = Ground::new()?;
    let hash = ground.publish(DAY, &bytes(9, 64 << 20))?;
    let dir = ground.path().display().to_string();
    let url = "http://10.80.0.3/2026-11-27.pcap";
    for (name, begin, resume) in [
        (
            "curl",
            format!("exec curl -sS --limit-rate 8M -o {dir}/curl {url}"),
            format!("curl -sS -C - -o {dir}/curl {url}"),
        ),
        (
            "wget",
            format!("exec wget -q --tries=1 --limit-rate=8m -O {dir}/wget {url}"),
            format!("wget -q -c -O {dir}/wget {url}"),
        ),
    ] {
        let file = Path::new(&dir).join(name);
        let mut download = ground.start(&begin)?;
        wait_for("some of it", Duration::from_secs(20), || {
            Ok((fs::metadata(&file)?.len() > 1 << 20).then_some(()))
        })?;
        let (server, killed) = (ground.server()?, Instant::now());
        ground.kill(server)?;
        wait_for("another server", Duration::from_secs(10), || {
            Ok(ground.server().is_ok_and(|now| now != server).then_some(()))
        })?;
        let away = back(&ground, killed)?;
        assert!(away < Duration::from_secs(2), "{name}: away for {away:?}");
        assert!(!download.wait()?.success(), "{name} was cut off");
        let had = fs::metadata(&file)?.len();
        assert!(had < 64 << 20, "{name} had it all");
        ground.said(&resume)?;
        assert_eq!(sha256(&file)?, hash, "{name}");
    }
    // wget by itself: it tries again, and goes on where it was.
    let mut download = ground.start(&format!(
        "exec wget -q --limit-rate=16m --retry-connrefused --waitretry=1 -O {dir}/alone {url}"
    ))?;
    let file = Path::new(&dir).join("alone");
    wait_for("some of it", Duration::from_secs(20), || {
        Ok((fs::metadata(&file)?.len() > 1 << 20).then_some(()))
    })?;
    ground.kill(ground.server()?)?;
    assert!(download.wait()?.success());
    assert_eq!(sha256(&file)?, hash);
    Ok(())
}

#[test]
fn what_serve_started_ends_with_it_and_comes_back_with_it() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.publish(DAY, b"a day")?;
    let server = ground.server()?;
    ground.kill_serve()?;
    wait_for("the server to end", Duration::from_secs(2), || {
        let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
        let gone = stat.is_empty() || stat.contains(") Z ");
        Ok(gone.then_some(()))
    })?;
    let asked = ground.sh("curl -sS -m 2 http://10.80.0.3/")?;
    assert!(!asked.status.success());
    let started = Instant::now();
    ground.start_serve()?;
    let away = back(&ground, started)?;
    assert!(away < Duration::from_secs(2), "{away:?}");
    ground.said("curl -sSf http://10.80.0.3/2026-11-27.pcap").context("served again")?;
    assert!(children(ground.server()?)?.is_empty());
    Ok(())
}
