//! Logins with the stock client, and what sessions take.

use super::ground::{Ground, Login};
use anyhow::{Context, Result, bail, ensure};
use nonstop_testkit::{interrupt, place::Place, process};
use std::{
    fs,
    io::{Read, Write},
    process::{Child, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// A client that is logged in, its first byte come back; killed when dropped.
struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Session {
    fn open(login: &Login) -> Result<Session> {
        let mut command = Place::in_network(login.place).command(&login.words[0]);
        command.args(&login.words[1..]).args(["-W", &login.target]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut session = Session(command.spawn().context("start ssh")?);
        let ask = session.0.stdin.as_mut().context("its input")?.write_all(b"ek");
        let mut key = [0];
        let answered = session.0.stdout.as_mut().context("its output")?.read_exact(&mut key);
        if ask.and(answered).is_err() {
            let mut said = String::new();
            let _silent = session.0.stderr.take().context("its words")?.read_to_string(&mut said);
            bail!("a login at {} failed: {}", login.target, said.trim());
        }
        ensure!(key == *b"k", "another byte came back");
        Ok(session)
    }
}

/// Logins that `at_once` clients make a second, one after another each, for `spell`.
pub(super) fn a_second(login: &Login, at_once: usize, spell: Duration) -> Result<f64> {
    interrupt::check()?;
    let (begun, done) = (Instant::now(), AtomicU32::new(0));
    thread::scope(|scope| {
        let client = || -> Result<()> {
            while begun.elapsed() < spell {
                drop(Session::open(login)?);
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let clients: Vec<_> = (0..at_once).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })?;
    Ok(f64::from(done.into_inner()) / begun.elapsed().as_secs_f64())
}

/// MB that each of `many` sessions takes in the lab's host, shared pages shared out.
pub(super) fn memory_of(ground: &Ground, login: &Login, many: usize) -> Result<f64> {
    let before = sshd_kib(ground.init()?)?;
    let mut sessions = Vec::new();
    while sessions.len() < many {
        interrupt::check()?;
        let four: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| Session::open(login))).collect();
            clients.into_iter().map(|client| client.join().expect("no panic")).collect()
        });
        for session in four {
            sessions.push(session?);
        }
    }
    let kib = sshd_kib(ground.init()?)?.saturating_sub(before);
    Ok((kib as f64 / sessions.len() as f64 / 1.024).round() / 1000.0)
}

/// Memory of all processes of sshd in the network of the box with PID 1 `init`.
fn sshd_kib(init: u32) -> Result<u64> {
    let ours = fs::read_link(format!("/proc/{init}/ns/net")).context("find the lab's network")?;
    let mut kib = 0;
    for entry in fs::read_dir("/proc").context("list processes")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let here = fs::read_link(entry.path().join("ns/net")).is_ok_and(|its| its == ours);
        if here && name.starts_with("sshd") {
            kib += process::proportional_kib(pid).unwrap_or_default();
        }
    }
    Ok(kib)
}
