//! What servers report of fetches, on its way to `nonstopd`.
//!
//! The servers have nobody but this program to talk to; a line is passed on as it is, for `nonstopd`
//! to judge. While `nonstopd` is away lines are kept, up to [`KEPT`].

use anyhow::{Context, Result};
use nonstop_api::fetch::LONGEST;
use std::{
    io::{BufRead, BufReader, Read, Write},
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

/// The next line without its end, cut at `longest` bytes; None at the end.
pub(crate) fn line(from: &mut impl BufRead, longest: usize) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let most = u64::try_from(longest).unwrap_or(u64::MAX);
    from.take(most).read_until(b'\n', &mut line).ok()?;
    if line.is_empty() {
        return None;
    }
    let mut whole = line.ends_with(b"\n");
    if whole {
        line.pop();
    }
    while !whole {
        let mut rest = Vec::new();
        from.take(most).read_until(b'\n', &mut rest).ok()?;
        whole = rest.is_empty() || rest.ends_with(b"\n");
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_longest_and_the_next_one_is_whole() {
        let mut from = BufReader::new(&b"short\n0123456789abcdefghij\n\nlast"[..]);
        let lines: Vec<_> = std::iter::from_fn(|| line(&mut from, 8)).collect();
        assert_eq!(lines, [&b"short"[..], b"01234567", b"", b"last"]);
    }
}
