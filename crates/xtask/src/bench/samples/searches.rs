//! Searches over HTTP, by clients that each have a connection and compare each answer.

use super::{
    questions::{KINDS, Question, question},
    store::{SERVER, Store},
};
use crate::bench::{look::in_network, millis, percentile};
use anyhow::{Context, Result, anyhow, bail, ensure};
use nonstop_testkit::interrupt;
use serde_json::Value;
use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// How many clients ask at once, and how often each asks.
const LOADS: [(u64, u64); 3] = [(1, 2400), (2, 2400), (8, 600)];
/// Questions that are not counted, before all others.
const WARMING: u64 = 320;
/// Requests of one connection: the server ends it after a thousand.
const OF_ONE: usize = 900;

/// Hashes and the numbers of their samples.
type Numbers<'a> = HashMap<&'a str, u64>;

/// How long each search took, by how many clients asked.
pub(super) fn measure(store: &Store<'_>, hashes: &[String]) -> Result<Vec<(u64, Vec<Duration>)>> {
    let numbers: Numbers<'_> = hashes.iter().map(String::as_str).zip(0..).collect();
    let place = store.routed.machine();
    let ask = |clients: u64, first: u64, each: u64| {
        let of_client = |client: u64| -> Vec<(usize, Question)> {
            let all = (0..each).map(|n| {
                let kind = (n % KINDS.len() as u64) as usize;
                (kind, question(kind, first + client * each + n, hashes))
            });
            all.collect()
        };
        // Made before anything is measured.
        let questions: Vec<_> = (0..clients).map(of_client).collect();
        thread::scope(|scope| {
            let numbers = &numbers;
            let clients =
                questions.iter().map(|asked| scope.spawn(move || ask_all(place, asked, numbers)));
            let mut all = Vec::new();
            for client in clients.collect::<Vec<_>>() {
                all.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
            }
            Ok::<_, anyhow::Error>(all)
        })
    };
    ask(1, 1_000_000, WARMING)?;
    let mut searches = Vec::new();
    for (number, (clients, each)) in (1..).zip(LOADS) {
        interrupt::check()?;
        let times = ask(clients, number * 100_000, each)?;
        eprintln!("    {clients} at once:");
        for (kind, name) in KINDS.iter().enumerate() {
            let of = || times.iter().filter(|(of, _)| *of == kind).map(|(_, took)| *took);
            let [p50, p99] = [50, 99].map(|percent| percentile(of(), percent).map(millis));
            eprintln!("    {:8.1} ms p50 {:8.1} ms p99  {name}", p50?, p99?);
        }
        searches.push((clients, times.into_iter().map(|(_, took)| took).collect()));
    }
    Ok(searches)
}

/// Asks all of `questions`, one after the other; gives their kinds with the time each took.
fn ask_all(
    place: u32,
    questions: &[(usize, Question)],
    numbers: &Numbers<'_>,
) -> Result<Vec<(usize, Duration)>> {
    let mut times = Vec::new();
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    for some in questions.chunks(OF_ONE) {
        let connect = || Ok(TcpStream::connect_timeout(&SERVER.into(), Duration::from_secs(5))?);
        let mut stream = in_network(place, connect).context("connect")?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        for (kind, question) in some {
            interrupt::check()?;
            let asked = || format!("{}: {}", KINDS[*kind], question.fields);
            let begun = Instant::now();
            let body =
                ask(&mut stream, &question.fields, &mut answer, &mut buffer).with_context(asked)?;
            times.push((*kind, begun.elapsed()));
            compare(question, body, numbers).with_context(asked)?;
        }
    }
    Ok(times)
}

/// Asks, and reads the answer to its end; gives its body.
fn ask<'a>(
    stream: &mut TcpStream,
    fields: &str,
    answer: &'a mut Vec<u8>,
    buffer: &mut [u8],
) -> Result<&'a [u8]> {
    let request = format!("GET /search.json?{fields} HTTP/1.1\r\nHost: samples\r\n\r\n");
    stream.write_all(request.as_bytes()).context("ask")?;
    answer.clear();
    let mut whole = None;
    while whole.is_none_or(|(_, end)| answer.len() < end) {
        match stream.read(buffer).context("read an answer")? {
            0 => bail!("the server ended the connection"),
            n => answer.extend_from_slice(&buffer[..n]),
        }
        if whole.is_none()
            && let Some(at) = answer.windows(4).position(|w| w == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&answer[..at]).to_ascii_lowercase();
            ensure!(head.starts_with("http/1.1 200"), "the server said {head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.context("a length")?.trim().parse()?;
            whole = Some((at + 4, at + 4 + length));
        }
    }
    let (begin, end) = whole.context("a head")?;
    answer.get(begin..end).context("a body")
}

/// Whether `body` answers `question`: as many as there are, each once and one of those asked for, with
/// a next page where this one is full.
fn compare(question: &Question, body: &[u8], numbers: &Numbers<'_>) -> Result<()> {
    let page: Value = serde_json::from_slice(body)?;
    let samples = page["samples"].as_array().context("no samples")?;
    let told = samples.len();
    ensure!(told == question.told, "{told} are told, and {} are right", question.told);
    let begin = question.fields.strip_prefix("hash=").unwrap_or_default();
    let mut seen = std::collections::HashSet::new();
    for sample in samples {
        let hash = sample["sha256"].as_str().context("no hash")?;
        let number = *numbers.get(hash).context("it is nobody's")?;
        ensure!(seen.insert(number), "{number} is told twice");
        ensure!(question.is.holds(number) && hash.starts_with(begin), "{number} is not asked for");
    }
    ensure!(page["after"].is_null() || told > 0, "nothing has a next page");
    Ok(())
}
