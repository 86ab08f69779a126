//! A program of the system that brings something somewhere: fed, waited for, and ended if it hangs.

use crate::Refused;
use std::{
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// What is kept of what it says.
const SAID: u64 = 2000;

/// Variables that are left to it: how to get out of the lab's network.
const LEFT: [&str; 6] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Runs `program` with `input`; what it says if it fails is the reason. One that is not done after
/// `patience` is killed, with whatever it has started.
pub(crate) fn run(
    program: &str,
    args: &[&str],
    input: &[u8],
    patience: Duration,
) -> Result<(), Refused> {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.envs(LEFT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|e| Refused::io(format!("run {program}"), &e))?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let input = input.to_vec();
    // Each ends with the child, whatever that does with its ends.
    let feeding = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let (tell, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(stderr) = stderr {
            let _broken = stderr.take(SAID).read_to_end(&mut said);
        }
        let _nobody = tell.send(String::from_utf8_lossy(&said).trim().replace('\n', "; "));
    });
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if begun.elapsed() > patience => {
                break Err(Refused(format!(
                    "{program} was not done after {} s",
                    patience.as_secs()
                )));
            }
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Err(e) => break Err(Refused::io(format!("wait for {program}"), &e)),
        }
    };
    // What it has left behind holds the ends of pipes open, and is no business of ours any more.
    if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed())
        && status.is_err()
    {
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _reaped = child.wait();
    }
    let status = status?;
    if status.success() {
        let fed = feeding.join().ok().flatten();
        return match fed {
            Some(Err(e)) => {
                Err(Refused::io(format!("{program} did not read what it was given"), &e))
            }
            _ => Ok(()),
        };
    }
    // Something that it has started may hold the other end open.
    let said = heard.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    Err(Refused(if said.is_empty() { format!("{program}: {status}") } else { said }))
}
