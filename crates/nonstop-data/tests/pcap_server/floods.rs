//! One segment that takes all it can, and another that must not notice.

use crate::{
    ground::{Ground, ONE, OTHER, bytes, connect_from},
    http::Wire,
};
use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

const DAY: &str = "2026-11-27";

/// The other segment gets a page and a file, ten times, each soon.
fn is_served(ground: &Ground, while_what: &str) -> Result<()> {
    for _ in 0..10 {
        let begun = Instant::now();
        for path in ["", "2026-11-27.pcap"] {
            let line =
                format!("curl -sSf -m 5 --interface {OTHER} -o /dev/null http://10.80.0.3/{path}");
            let output = ground.sh(&line)?;
            ensure!(
                output.status.success(),
                "{while_what}: {}; the server's log: {}",
                String::from_utf8_lossy(&output.stderr),
                ground.log()
            );
        }
        ensure!(begun.elapsed() < Duration::from_secs(4), "{while_what}: {:?}", begun.elapsed());
    }
    Ok(())
}

#[test]
fn ten_thousand_connections_of_one_machine_keep_no_other_segment_out() -> Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    let mut ground = Ground::new()?;
    ground.publish(DAY, &bytes(3, 4 << 20))?;
    let held = ground.there(|| -> Result<Vec<TcpStream>> {
        Ok((0..10_000).filter_map(|_| connect_from(ONE).ok()).collect())
    })?;
    assert!(held.len() > 5000, "only {} were made", held.len());
    is_served(&ground, "10,000 connections are held")?;
    // Whoever comes from the same segment is told why not.
    let refused = ground.sh(&format!("curl -sS -m 5 --interface {ONE} http://10.80.0.3/"))?;
    let told = [refused.stdout, refused.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("too many connections") || told.contains("reset"), "{told}");
    drop(held);
    // Seats come back at once.
    let mut wire = Wire::new(ground.connect(ONE)?);
    for _ in 0..50 {
        if wire.ask("GET", "/", &[]).is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
        wire = Wire::new(ground.connect(ONE)?);
    }
    panic!("no seat came back");
}

#[test]
fn slow_heads_slow_readers_and_pipelines_delay_nobody_else() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.publish(DAY, &bytes(3, 64 << 20))?;
    let mut held = Vec::new();
    for number in 0..32 {
        let mut stream = ground.connect(ONE)?;
        match number % 3 {
            // A head that never ends.
            0 => stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")?,
            // A body that nobody reads.
            1 => stream.write_all(b"GET /2026-11-27.pcap HTTP/1.1\r\nHost: a\r\n\r\n")?,
            // Requests without end, and nobody who reads the answers.
            _ => {
                stream.set_nonblocking(true)?;
                let many = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20_000);
                let _as_far_as_it_goes = stream.write(many.as_bytes());
            }
        }
        held.push(stream);
    }
    is_served(&ground, "others are slow")?;
    // A head that takes too long is told so, and its seat is free again.
    let begun = Instant::now();
    held[0].set_nonblocking(false)?;
    let mut wire = Wire::new(held.swap_remove(0));
    assert_eq!(wire.answer(false)?.status, 408);
    assert!(begun.elapsed() < Duration::from_secs(15) && wire.is_over());
    Ok(())
}

#[test]
fn answers_to_a_pipeline_come_in_order_and_a_connection_ends_after_a_thousand() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.publish(DAY, b"a day")?;
    let mut wire = Wire::new(ground.connect(ONE)?);
    let requests: String = (0..1001)
        .map(|number| match number % 2 {
            0 => "HEAD /SHA256SUMS HTTP/1.1\r\nHost: a\r\n\r\n",
            _ => "GET /2026-11-27.pcap HTTP/1.1\r\nHost: a\r\n\r\n",
        })
        .collect();
    wire.send(requests.as_bytes())?;
    for number in 0..1000 {
        let answer = wire.answer(number % 2 == 0)?;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), if number % 2 == 0 { "" } else { "a day" });
        assert_eq!(answer.field("connection"), if number == 999 { "close" } else { "" });
    }
    assert!(wire.is_over());
    Ok(())
}
