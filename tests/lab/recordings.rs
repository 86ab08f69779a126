//! Recordings of displays: what staff get of one, what the host keeps, and what the trace says.

use crate::portal::{NEAR, page, send};
use anyhow::{Context, Result, ensure};
use nonstop_testkit::{picture::Picture, place::wait_for, ssh::Forward};
use nonstop_tests::{GuestShell, World, has_text};
use std::{fs, thread, time::Duration};

#[test]
fn a_recording_is_begun_seen_and_ended_with_reasons_and_lies_encrypted() -> Result<()> {
    let world = World::new("recording")?;
    world.lab.researcher("alice", 10)?;
    let environment = world.environment("alice", "screen")?;
    let list = || world.lab.cli(&["desktop", "recordings"]);
    let begin = ["desktop", "record", environment.id.as_str(), "--reason", "suspicion"];
    ensure!(world.lab.cli(&begin[..3]).is_err(), "it was begun without a reason");
    world.lab.cli(&begin)?;
    ensure!(world.lab.cli(&begin).is_err(), "a display has one recording at a time");
    let mut shell = world.shell(&environment)?;
    shell.run("for i in 1 2 3 4 5 6 7 8; do echo 'WWWWWWWWWWWWWWWWWWWWWWWW'; done > /dev/tty0")?;
    wait_for("something to be recorded", Duration::from_secs(20), || {
        Ok((list()?[0]["bytes"].as_u64().unwrap_or(0) > 1000).then_some(()))
    })?;
    // What waits is written at least each two seconds.
    thread::sleep(Duration::from_secs(3));
    world.lab.cli(&["desktop", "stop", "1"])?;
    wait_for("the recorder to be gone", Duration::from_secs(20), || {
        Ok(recorders(&world)?.is_empty().then_some(()))
    })?;
    let ended = list()?[0].clone();
    ensure!(ended["ended_at"].is_string(), "{ended}");
    let kept = fs::read(world.lab.state().join("recordings/1.age"))?;
    let age = b"age-encryption.org/v1";
    ensure!(kept.windows(age.len()).any(|w| w == age), "the file is not encrypted by age");

    let out = world.lab.dir().join("seen");
    let folder = out.to_str().context("a path")?;
    let words = ["desktop", "play", "1", "--out", folder, "--reason", "to look into it"];
    let played = world.lab.cli(&words)?;
    let pictures = played["pictures"].as_u64().context("no pictures")?;
    ensure!(pictures > 0, "{played}");
    let last = Picture::read_png(&out.join(format!("{pictures:06}.png")))?;
    ensure!(has_text(&last), "the last of {pictures} pictures has no text");
    println!("{pictures} pictures in {} bytes", kept.len());

    // The same in the portal, which shows nothing before it was told why.
    let sato = world.lab.person("sato", "staff", 11)?;
    let target = format!("{}:8080", world.address_of("sato")?);
    let _tunnel = sato.tunnel(&world.host_key()?, &[Forward { port: NEAR, target }])?;
    wait_for("the portal", Duration::from_secs(30), || page(&sato, "/").map(|_| Some(())))?;
    for path in ["/recordings/1", "/recordings/1/picture", "/recordings/1/film"] {
        ensure!(sato.http_get(NEAR, path, &[])?.status == 403, "{path} without a reason");
    }
    let shown = send(&sato, "/recordings", "/recordings/1/play", &["reason=to see it here"])?;
    let seen = page(&sato, &shown)?;
    ensure!(seen.contains(&format!("Picture 1 of {pictures}")), "{seen}");
    for path in ["/recordings/1/picture?at=1", "/recordings/1/film?at=1"] {
        let png = sato.http_get(NEAR, path, &[])?;
        ensure!(png.status == 200 && png.headers.contains("image/png"), "{path}: {}", png.headers);
    }

    let rows = world.lab.cli(&["trace", "list"])?;
    let rows = rows.as_array().context("no rows")?;
    for (action, reason) in [
        ("recording.begin", Some("suspicion")),
        ("recording.play", Some("to see it here")),
        ("recording.end", None),
    ] {
        // The newest is the first.
        let row = rows.iter().find(|row| row["action"] == action);
        let row = row.with_context(|| format!("{action} is not in the trace"))?;
        ensure!(reason.is_none_or(|reason| row["detail"]["reason"] == reason), "{row}");
    }
    falls(&world, &begin, &mut shell)
}

fn recorders(world: &World) -> Result<String> {
    let said = world.lab.enter(&["sh", "-c", "pgrep -f '[n]onstop-rdp recorder ' || true"])?;
    Ok(said.trim().to_owned())
}

/// A recorder that is killed comes back, and the gap is told; one that cannot write ends its
/// recording, which says so.
fn falls(world: &World, begin: &[&str], shell: &mut GuestShell) -> Result<()> {
    let newest = || Ok::<_, anyhow::Error>(world.lab.cli(&["desktop", "recordings"])?[0].clone());
    world.lab.cli(begin)?;
    let begun = |before: &str| {
        wait_for("a recorder that has written", Duration::from_secs(15), || {
            let recorder = recorders(world)?;
            let writes = newest()?["bytes"].as_u64().unwrap_or(0) > 0;
            Ok((!recorder.is_empty() && recorder != before && writes).then_some(recorder))
        })
    };
    let killed = begun("")?;
    world.lab.enter(&["kill", "-KILL", &killed])?;
    begun(&killed)?;
    thread::sleep(Duration::from_secs(3));
    world.lab.cli(&["desktop", "stop", "2"])?;
    let out = world.lab.dir().join("with-a-gap");
    let folder = out.to_str().context("a path")?;
    let said =
        world.lab.cli_refuses(&["desktop", "play", "2", "--out", folder, "--reason", "a gap"])?;
    ensure!(said.contains("not whole"), "{said}");
    let moments = fs::read_to_string(out.join("moments.jsonl"))?;
    ensure!(moments.contains("\"lost\""), "no gap is told: {moments}");

    let recordings = world.lab.state().join("recordings");
    let recordings = recordings.to_str().context("a path")?;
    world.lab.enter(&["mount", "-t", "tmpfs", "-o", "size=4k", "none", recordings])?;
    world.lab.enter(&["sh", "-c", &format!("head -c 4096 /dev/zero > {recordings}/full")])?;
    world.lab.cli(begin)?;
    shell.run("dmesg > /dev/tty0; true")?;
    let ended = wait_for("the recording to be ended", Duration::from_secs(15), || {
        let newest = newest()?;
        Ok(newest["ended_at"].is_string().then_some(newest))
    })?;
    world.lab.enter(&["umount", recordings])?;
    let note = ended["note"].as_str().unwrap_or_default();
    ensure!(ended["id"] == 3 && note.contains("by itself"), "{ended}");
    Ok(())
}
