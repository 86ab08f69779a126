//! What servers report of fetches, on its way to `nonstopd`.
//!
//! The servers have nobody but this program to talk to; a line is passed on as it is, for `nonstopd`
//! to judge. While `nonstopd` is away lines are kept, up to [`KEPT`].

use crate::lines::line;
use anyhow::{Context, Result};
use nonstop_api::fetch::LONGEST;
use std::{
    io::{BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

/// Lines that wait.
const KEPT: usize = 16_384;
/// How long `nonstopd` may take to read, and the pause before it is tried again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts to pass lines on to `socket`.
pub(super) fn start(socket: PathBuf) -> Result<SyncSender<Vec<u8>>> {
    let (sender, lines) = sync_channel(KEPT);
    let pass = move || pass(&socket, &lines);
    thread::Builder::new().spawn(pass).context("start the relay of reports")?;
    Ok(sender)
}

fn pass(socket: &PathBuf, lines: &Receiver<Vec<u8>>) {
    let mut open: Option<UnixStream> = None;
    for line in lines {
        loop {
            if open.is_none() {
                open = UnixStream::connect(socket).ok();
                if let Some(stream) = &open
                    && stream.set_write_timeout(Some(PATIENCE)).is_err()
                {
                    open = None;
                }
            }
            // Written in one piece or not at all, but for a stream that is given up.
            match open.as_mut().map(|stream| stream.write_all(&line)) {
                Some(Ok(())) => break,
                _ => open = None,
            }
            thread::sleep(PATIENCE);
        }
    }
}

/// Takes lines from a server's standard output until it ends, never waiting for anybody else.
pub(super) fn take(out: impl Read, who: &str, relay: &SyncSender<Vec<u8>>) {
    let (mut out, mut lost) = (BufReader::new(out), 0_u64);
    while let Some(line) = line(&mut out, LONGEST) {
        if line.is_empty() {
            continue;
        }
        match relay.try_send([&line[..], b"\n"].concat()) {
            Ok(()) if lost > 0 => {
                eprintln!("{who}: {lost} reports of fetches were lost: nobody read them");
                lost = 0;
            }
            Ok(()) => {}
            Err(_) => lost += 1,
        }
    }
}
