//! The program that sends, in a process of its own: it reads captures.

use super::{LINE, ProbeError};
use crate::prover::cut;
use nonstop_reach::probe::{Order, Report};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};
use tracing::warn;

/// How long the frames may take.
const SENDING: Duration = Duration::from_secs(15 * 60);
/// The longest report that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// Has `program` carry out `order`, and tells `each` how far it is, in words. Nothing of it is left,
/// however it ends.
pub(super) fn carry_out(
    program: &Path,
    order: &Order,
    each: &dyn Fn(String),
) -> Result<Report, ProbeError> {
    let failed =
        |what: &'static str| move |e: std::io::Error| ProbeError::Program(format!("{what}: {e}"));
    let text = serde_json::to_vec(order).map_err(|e| ProbeError::Program(e.to_string()))?;
    let mut child = Command::new(program)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, by which what it has started ends with it.
        .process_group(0)
        .spawn()
        .map_err(failed("start it"))?;
    let group = Pid::from_child(&child);
    let (input, output, said) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (over, is_over) = mpsc::channel::<()>();
    thread::spawn(move || {
        if is_over.recv_timeout(SENDING) == Err(RecvTimeoutError::Timeout) {
            warn!("nonstop-probe takes too long and is ended");
            let _ended_already = kill_process_group(group, Signal::KILL);
        }
    });
    let complaint = thread::spawn(move || {
        let mut text = String::new();
        let _whatever_comes = said.map(|said| said.take(16 << 10).read_to_string(&mut text));
        text
    });
    // If it does not take all of it, it says why.
    let _told = input.map(|mut input| input.write_all(&text));
    let mut report = None;
    let lines = output.map(|output| BufReader::new(output.take(LONGEST)).lines());
    for line in lines.into_iter().flatten().map_while(Result::ok) {
        match line.strip_prefix("@ ") {
            Some(how_far) => each(cut(how_far, LINE)),
            None => report = serde_json::from_str(&line).ok(),
        }
    }
    let ended = child.wait();
    drop(over);
    let _nobody_is_left = kill_process_group(group, Signal::KILL);
    let complaint = complaint.join().unwrap_or_default();
    let ended = ended.map_err(failed("wait for it"))?;
    match (ended.success(), report) {
        (true, Some(report)) => Ok(report),
        _ => {
            let said = complaint.lines().next().map_or_else(|| ended.to_string(), Into::into);
            Err(ProbeError::Program(cut(&said, LINE)))
        }
    }
}
